// A cloud of points to move, its Rips complex at epsilon, its barcode and persistence diagram.

import { cycle, distances, persistence } from "./topology.js";
import {
  alive, announcer, barcode, choice, colour, counted, diagram, framed, html, paintComplex, plane,
  redrawn, slider, tell,
} from "./stage.js";

const LONGEST = 1.4; // about the diagonal of the square

/** data: {clouds: {name: [[x, y], …]}, epsilon}; coordinates in 0..1. */
export function rips(stage, { clouds, epsilon }) {
  const names = Object.keys(clouds);
  const points = [];
  let D;
  let bars;
  let shown; // the loop that is pointed at

  const measure = () => {
    D = distances(points);
    bars = persistence(D);
    shown = null;
    draw();
  };
  const start = (name) => {
    points.splice(0, points.length, ...clouds[name].map((point) => [...point]));
    measure();
  };
  const told = announcer();
  const radius = slider({
    label: "ε",
    min: 0,
    max: LONGEST,
    step: 0.01,
    value: epsilon,
    said: tell,
    changed: () => draw(),
  });
  const square = plane({
    label: "Points in the plane",
    points,
    moved: measure,
    paint: (pen, at, scale) => {
      paintComplex(pen, at, scale, points, D, radius.value);
      if (shown) outline(pen, at, scale, cycle(D, shown.edge).map((k) => points[k]));
    },
  });
  const code = barcode("Barcode of these points", (bar) => {
    shown = bar;
    draw();
  });
  const scatter = diagram("Persistence diagram of these points");
  const draw = framed(stage, () => {
    square.show();
    code.show(bars, radius.value, LONGEST);
    scatter.show(bars, LONGEST);
    told.say(`At ε = ${tell(radius.value)}: ${counted(alive(bars, radius.value))}.`);
  });
  stage.append(
    choice("Points to begin with", names, names[0], start),
    html(
      "div",
      { class: "live-row" },
      html("div", {}, square.element, radius.element, told.element, square.hint),
      html("div", {}, code.element, scatter.element),
    ),
  );
  start(names[0]);
  redrawn(square.element, draw);
}

function outline(pen, at, scale, loop) {
  if (!loop.length) return;
  pen.beginPath();
  loop.map(at).forEach((spot, k) => (k ? pen.lineTo(...spot) : pen.moveTo(...spot)));
  pen.closePath();
  pen.strokeStyle = colour("h1");
  pen.lineWidth = 4 * scale;
  pen.stroke();
}
