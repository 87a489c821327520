"use strict";
(() => {
  // the cortex that can be turned is unpacked only when it is asked for
  const place = document.querySelector("#surface"), packed = document.querySelector("#surface-page");
  if (!place || !packed || typeof DecompressionStream === "undefined") return;
  const button = place.querySelector("button"), frame = place.querySelector("iframe"), said = place.querySelector("[role=status]");
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  place.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const bytes = Uint8Array.from(atob(packed.textContent.trim()), (c) => c.charCodeAt(0));
      const page = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      frame.srcdoc = page.replace('<html lang="en"', `<html lang="en" data-theme="${dark()}"`);
      frame.hidden = false;
      button.hidden = true;
      frame.focus();
    } catch (error) {
      said.textContent = "This browser could not unpack it; the command phosphene figures writes it as a page of its own, surface.html.";
    }
  });
})();
