// A rater's trials. What is next is the server's word; this page shows it, times it and sends the answer.
"use strict";

const GAP = 300; // ms of rest between an answer and the next trial, at least
const GUARD = 200; // ms after pictures appear in which nothing counts: the end of a double click, never a choice
const LONGEST = 1e9;
const at = (id) => document.getElementById(id);
const study = at("study");
const total = Number(study.dataset.total), breakEvery = Number(study.dataset.break);
const root = new URL(`${study.dataset.token}/`, location.href);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = () => new Promise((done) => requestAnimationFrame(done));

let position = Number(study.dataset.next), started = 0, open = false, rested = position;

function show(id) {
  for (const name of ["start", "trial", "break"]) at(name).hidden = name !== id;
  document.body.classList.toggle("trial", id === "trial");
}

function trouble(text) {
  at("trouble").hidden = !text;
  at("trouble").textContent = text;
}

// Try until it works: an answer is worth waiting for
async function patiently(attempt) {
  for (let pause = 1000; ; pause = Math.min(2 * pause, 15000)) {
    try {
      const found = await attempt();
      trouble("");
      return found;
    } catch {
      trouble("The connection is interrupted. Nothing is lost: this page goes on as soon as it is back.");
      await wait(pause);
    }
  }
}

function call(path, options = {}) {
  return patiently(async () => {
    const reply = await fetch(new URL(path, root), { cache: "no-store", signal: AbortSignal.timeout(20000), ...options });
    if (reply.status >= 500 || reply.status === 408) throw new Error();
    return reply;
  });
}

function picture(id) {
  return patiently(async () => {
    const image = new Image();
    image.alt = "";
    image.draggable = false;
    image.src = new URL(`picture/${id}`, root);
    await image.decode();
    return image;
  });
}

// Trials by position: their three pictures, decoded; asked for once
const loaded = new Map();
function load(number) {
  if (number < total && !loaded.has(number)) loaded.set(number, fetchTrial(number));
  return loaded.get(number);
}

async function fetchTrial(number) {
  const reply = await call(`trial/${number}.json`);
  if (!reply.ok) return { next: reply.status === 409 ? (await reply.json()).next : null };
  const ids = await reply.json();
  const [photo, left, right] = await Promise.all([ids.photo, ids.left, ids.right].map(picture));
  photo.alt = "The photograph";
  return { photo, left, right };
}

async function go(next) {
  position = next;
  if (position >= total) return location.reload(); // the thank-you page
  if (breakEvery && position && position % breakEvery === 0 && position !== rested) {
    rested = position;
    at("break-count").textContent = `${position} of ${total} choices are made.`;
    show("break");
    at("resume").focus();
    return load(position);
  }
  const [trial] = await Promise.all([load(position), load(position + 1)]);
  if (!trial.photo) return trial.next === null || trial.next === position ? location.reload() : restart(trial.next);
  show("trial");
  at("bar").value = position;
  at("count").textContent = `${position + 1} of ${total}`;
  at("trial-photo").replaceChildren(trial.photo);
  for (const side of ["left", "right"]) button(side).querySelector(".picture").replaceChildren(trial[side]);
  at("trial-stage").classList.remove("blank");
  await frame(); // about to be painted
  await frame(); // painted
  started = performance.now();
  open = true;
}

function restart(next) {
  loaded.clear();
  return go(next);
}

const button = (side) => at("trial-stage").querySelector(`.candidate.${side}`);

async function answer(choice, event) {
  const milliseconds = Math.min(event.timeStamp - started, LONGEST);
  if (!open || milliseconds < GUARD) return;
  open = false;
  if (event.detail || event.type === "keydown") at("question").focus({ preventScroll: true }); // no side stays marked
  button(choice).classList.add("chosen");
  const rest = wait(GAP);
  const body = JSON.stringify({ position, choice, milliseconds: Math.round(10 * milliseconds) / 10 });
  const reply = await call("answer", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  if (!reply.ok && reply.status !== 409) return location.reload();
  const { next } = await reply.json();
  const came = next === position + 1;
  loaded.delete(position);
  if (came) load(next + 1);
  await wait(120); // the choice is seen
  at("trial-stage").classList.add("blank");
  button(choice).classList.remove("chosen");
  await rest;
  return came ? go(next) : restart(next);
}

for (const side of ["left", "right"]) button(side).addEventListener("click", (event) => answer(side, event));

document.addEventListener("keydown", (event) => {
  const side = { ArrowLeft: "left", ArrowRight: "right" }[event.key];
  if (!side || event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (!at("trial").hidden) {
    event.preventDefault();
    answer(side, event);
  } else if (!at("start").hidden && at("example-stage")) {
    example(side);
  }
});

function begin() {
  show("trial");
  at("trial-stage").classList.add("blank");
  at("question").focus({ preventScroll: true });
  go(position);
}
at("begin").addEventListener("click", begin);
at("resume").addEventListener("click", begin);

// The example on the first page: drawn, not stored
function example(side) {
  for (const one of at("example-stage").querySelectorAll(".candidate")) {
    one.classList.toggle("chosen", one.dataset.choice === side);
  }
  at("example-said").textContent =
    side === "right" ? "Yes: a striped tower by the sea, though blurred." : "Look again: that shows fruit in a bowl.";
}
if (at("example-stage")) {
  for (const one of at("example-stage").querySelectorAll(".candidate")) {
    one.addEventListener("click", () => example(one.dataset.choice));
  }
}

// A page that the browser kept while the rater went elsewhere asks the server anew
window.addEventListener("pageshow", (event) => event.persisted && location.reload());
load(position);
load(position + 1);
at("begin").disabled = false;
