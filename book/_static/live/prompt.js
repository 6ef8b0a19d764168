// A trained prompt under epsilon: projected points, true distances, and its barcode by epoch.

import {
  alive, announcer, barcode, counted, framed, html, paintComplex, plane, redrawn, slider, some,
} from "./stage.js";

/**
 * data: {methods: {name: [{epoch, points, distances, h0, h1}]}, longest, digits}; points in 0..1,
 * distances of the pairs i < j row by row, h0 deaths, h1 [birth, death], longest the end of the
 * bars' axis, digits those of a scale.
 */
export function prompt(stage, { methods, longest, digits }) {
  const epochs = Object.values(methods)[0].map((snapshot) => snapshot.epoch);
  const panels = Object.entries(methods).map(([name, seen]) => panel(name, seen, longest, digits));
  const radius = slider({
    label: "ε",
    min: 0,
    max: longest,
    step: longest / 200,
    value: middleOfLongestLoop(Object.values(methods).map((seen) => seen.at(-1))) ?? longest / 2,
    said: (x) => x.toFixed(digits),
    changed: () => draw(),
  });
  const time = slider({
    label: "epoch",
    min: 0,
    max: epochs.length - 1,
    step: 1,
    value: epochs.length - 1,
    said: (k) => String(epochs[k]),
    changed: () => draw(),
  });
  const draw = framed(stage, () => panels.forEach((it) => it.show(time.value, radius.value)));
  stage.append(
    html("div", { class: "live-pair" }, ...panels.map((it) => it.element)),
    time.element,
    radius.element,
  );
  redrawn(panels[0].element, draw);
}

function panel(name, snapshots, longest, digits) {
  const points = snapshots[0].points.map((point) => [...point]);
  const told = announcer();
  const bars = snapshots.map(({ h0, h1 }) => ({
    h0: h0.map((death) => ({ death })),
    h1: h1.map(([birth, death]) => ({ birth, death })),
  }));
  let D = [];
  let epsilon = 0;
  const square = plane({
    label: `${name}: vectors of the prompt, projected`,
    points,
    paint: (pen, at, scale) => paintComplex(pen, at, scale, points, D, epsilon),
  });
  const code = barcode(`${name}: barcode`);
  const show = (k, radius) => {
    const snapshot = snapshots[k];
    epsilon = radius;
    D = full(snapshot.distances, points.length);
    points.splice(0, points.length, ...snapshot.points);
    square.show();
    code.show(bars[k], radius, longest, digits);
    const here = counted(alive(bars[k], radius));
    told.say(`${some(bars[k].h1.length, "H₁ bar")}. At ε = ${radius.toFixed(digits)}: ${here}.`);
  };
  const title = html("p", { class: "live-title" }, name);
  return { element: html("div", {}, title, square.element, told.element, code.element), show };
}

/** The scale at which the longest loop of some snapshots is halfway through its life. */
function middleOfLongestLoop(snapshots) {
  const loops = snapshots.flatMap(({ h1 }) => h1).sort(([a, b], [c, d]) => d - c - (b - a));
  return loops.length ? (loops[0][0] + loops[0][1]) / 2 : undefined;
}

/** A square matrix from the pairs i < j, row by row. */
function full(pairs, n) {
  const D = Array.from({ length: n }, () => new Array(n).fill(0));
  let k = 0;
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) D[i][j] = D[j][i] = pairs[k++];
  return D;
}
