// TSLoss by hand: a few points, each term of the loss, and where gradient descent takes them.

import { distances } from "./topology.js";
import { DEFAULTS, tsloss } from "./tsloss.js";
import { announcer, choice, colour, framed, html, plane, redrawn, slider, tell } from "./stage.js";

const NAMES = { total: "L_ts", h0: "L_H0", repel: "L_repel", attract: "L_attract" };
const TERMS = {
  delta: "δ, soft smallest distance",
  zeta: "ζ, soft largest distance",
  h0: "L_H0, variance of the s",
  repel: "L_repel, of pairs below δ",
  attract: "L_attract, of pairs above ζ",
  h1: "L_H1",
  total: "L_ts",
};
const STEP = 0.02; // longest move of a step of descent, halved while the loss would grow
const LEAST = 1e-4;

/** data: {points: [[x, y], …]}; coordinates in 0..1. */
export function hand(stage, { points: start }) {
  const points = start.map((point) => [...point]);
  const settings = { ...DEFAULTS };
  let shown = "total";
  let found = tsloss(points, settings);
  const cells = {};
  const rows = Object.entries(TERMS).map(([name, words]) => {
    cells[name] = html("td");
    return html("tr", {}, html("th", { scope: "row" }, words), cells[name]);
  });
  const again = () => {
    found = tsloss(points, settings);
    draw();
  };
  const square = plane({
    label: "Points in the plane",
    points,
    moved: again,
    paint: (pen, at, scale) => paint(pen, at, scale, points, found, found.forces[shown]),
  });
  const told = announcer();
  const draw = framed(stage, () => {
    square.show();
    told.say(`${NAMES[shown]} = ${short(found[shown])}`);
    for (const [name, cell] of Object.entries(cells)) cell.textContent = short(found[name]);
  });
  const tune = (name, label, min, max, step) =>
    slider({
      label,
      min,
      max,
      step,
      value: settings[name],
      said: tell,
      changed: (x) => {
        settings[name] = x;
        again();
      },
    }).element;
  const descend = html("button", { type: "button" }, "A step of descent");
  descend.addEventListener("click", () => {
    const force = found.forces[shown];
    const most = Math.max(...force.map((g) => Math.hypot(...g)));
    const before = points.map((point) => [...point]);
    for (let step = STEP; most > 0 && step > LEAST; step /= 2) {
      force.forEach((g, k) => square.put(k, before[k].map((x, a) => x - (step * g[a]) / most)));
      if (tsloss(points, settings)[shown] < found[shown]) break;
      before.forEach((point, k) => square.put(k, point));
    }
    again();
  });
  const reset = html("button", { type: "button" }, "Start again");
  reset.addEventListener("click", () => {
    start.forEach((point, k) => square.put(k, point));
    again();
  });
  const words = Object.values(NAMES);
  const pick = choice("Arrows of", words, words[0], (word) => {
    shown = Object.keys(NAMES)[words.indexOf(word)];
    draw();
  });
  stage.append(
    pick,
    html(
      "div",
      { class: "live-row" },
      html(
        "div",
        {},
        square.element,
        html("div", { class: "live-choice" }, descend, reset),
        told.element,
        square.hint,
      ),
      html(
        "div",
        {},
        html("table", { class: "live-terms" }, html("tbody", {}, ...rows)),
        tune("tau", "τ", 0.02, 0.5, 0.01),
        tune("alpha", "α", 1, 50, 1),
      ),
    ),
  );
  redrawn(square.element, draw);
}

const short = (x) => (Math.abs(x) < 1e-12 ? "0" : Number(x.toPrecision(3)).toString());

/** Pairs shorter than delta and longer than zeta, and the arrows of descent. */
function paint(pen, at, scale, points, { delta, zeta }, force) {
  const D = distances(points);
  for (let i = 0; i < points.length; i++)
    for (let j = i + 1; j < points.length; j++) {
      if (delta <= D[i][j] && D[i][j] <= zeta) continue;
      line(pen, at(points[i]), at(points[j]), colour(D[i][j] < delta ? "h1" : "h0"), 2 * scale);
    }
  const most = Math.max(...force.map((g) => Math.hypot(...g)));
  if (!(most > 1e-12)) return;
  force.forEach((g, k) => {
    const tip = points[k].map((x, a) => x - (0.15 * g[a]) / most);
    arrow(pen, at(points[k]), at(tip), colour("arrow"), scale);
  });
}

function line(pen, from, to, style, width) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.strokeStyle = style;
  pen.lineWidth = width;
  pen.stroke();
}

function arrow(pen, from, to, style, scale) {
  const way = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(...way);
  if (length < 3 * scale) return;
  line(pen, from, to, style, 2 * scale);
  const [x, y] = way.map((v) => (7 * scale * v) / length);
  pen.beginPath();
  pen.moveTo(...to);
  pen.lineTo(to[0] - x - y / 2, to[1] - y + x / 2);
  pen.lineTo(to[0] - x + y / 2, to[1] - y - x / 2);
  pen.closePath();
  pen.fillStyle = style;
  pen.fill();
}
