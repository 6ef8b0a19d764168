// Brings the interactive figures of a page to life; without this a page shows still pictures.

const KINDS = { hand: "./hand.js", prompt: "./prompt.js", rips: "./rips.js" };

for (const element of document.querySelectorAll(".live[data-live]")) {
  const kind = element.dataset.live;
  const module = await import(KINDS[kind]); // only what the page needs
  const data = JSON.parse(element.querySelector("script[type='application/json']").textContent);
  const stage = document.createElement("div");
  stage.className = "live-stage";
  stage.setAttribute("role", "group");
  stage.setAttribute("aria-label", element.querySelector("img").alt);
  element.prepend(stage);
  element.classList.add("live-on"); // the still picture remains for paper
  module[kind](stage, data);
}
