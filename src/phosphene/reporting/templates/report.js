"use strict";
(() => {
  const root = document.documentElement, find = (selector) => document.querySelector(selector);

  // light and dark: the system's choice until the button is pressed
  const button = find("#theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = dark() ? "Light page" : "Dark page"; };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  // what is folded is printed too
  const folded = [...document.querySelectorAll("details")];
  let before = [];
  addEventListener("beforeprint", () => { before = folded.map((d) => d.open); folded.forEach((d) => { d.open = true; }); });
  addEventListener("afterprint", () => folded.forEach((d, k) => { d.open = before[k]; }));

  // the gallery: filter and sort
  const form = find("#controls"), gallery = find("#tiles");
  if (!form || !gallery) return;
  const tiles = [...gallery.children], field = (key) => form.elements[key];
  const value = (key, otherwise) => (field(key) ? field(key).value : otherwise);
  const order = {
    best: (score) => (a, b) => score(b) - score(a),
    worst: (score) => (a, b) => score(a) - score(b),
    image: () => (a, b) => a.dataset.image - b.dataset.image,
  };
  function arrange() {
    const mode = value("mode", ""), words = value("text", "").toLowerCase().split(/\s+/).filter(Boolean);
    const score = (tile) => (tile.dataset["score_" + mode] ? Number(tile.dataset["score_" + mode]) : NaN);
    const category = value("category", ""), subject = value("subject", "");
    const low = parseFloat(value("low", "")), high = parseFloat(value("high", ""));
    let count = 0;
    for (const tile of tiles) {
      const s = score(tile);
      tile.hidden = !(words.every((word) => tile.dataset.text.includes(word))
        && (!category || tile.dataset.categories.includes("|" + category + "|"))
        && (!subject || tile.dataset.subject === subject)
        && !(s < low) && !(s > high));
      count += !tile.hidden;
    }
    const sorted = tiles.slice();
    const by = value("sort", "image");
    sorted.sort((a, b) => order[by](score)(a, b) || tiles.indexOf(a) - tiles.indexOf(b));
    gallery.replaceChildren(...sorted);
    find("#count").textContent = `${count} of ${tiles.length} shown`;
    if (field("size")) gallery.style.setProperty("--tile", field("size").value + "rem");
  }
  form.addEventListener("input", arrange);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(arrange));
  form.hidden = false;
  arrange();
})();
