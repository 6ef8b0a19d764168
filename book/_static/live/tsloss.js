// TSLoss of one small cloud, equations 1 to 8 of the paper with pairs i = j left out, and its
// gradient by hand. The same as tsp.loss.TSLoss; a test compares them.

import { distances } from "./topology.js";

export const DEFAULTS = {
  tau: 0.1,
  alpha: 10,
  beta_h0: 1,
  beta_h1: 1,
  lambda_repel: 1,
  lambda_attract: 1,
};

/** Softmax of a list of numbers. */
function softmax(values) {
  const top = Math.max(...values);
  const raised = values.map((v) => Math.exp(v - top));
  const all = raised.reduce((a, b) => a + b, 0);
  return raised.map((v) => v / all);
}

const dot = (a, b) => a.reduce((sum, x, k) => sum + x * b[k], 0);

/**
 * Terms of TSLoss and the gradient of each part in the points.
 *
 * Returns s (equation 1), h0 (2), delta and zeta (6), repel (3), attract (4), h1 (5), total (8
 * without lambda_ts), and `forces`: for h0, repel, attract and total the gradient, n arrays of d.
 */
export function tsloss(points, settings = {}) {
  const { tau, alpha, beta_h0, beta_h1, lambda_repel, lambda_attract } = {
    ...DEFAULTS,
    ...settings,
  };
  const n = points.length;
  const D = distances(points);
  const pairs = [];
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) if (i !== j) pairs.push([i, j]);
  const lengths = pairs.map(([i, j]) => D[i][j]);

  const near = D.map((row, i) => softmax(row.map((x, j) => (i === j ? -Infinity : -x / tau))));
  const s = D.map((row, i) => {
    const others = row.filter((_, j) => j !== i);
    const least = Math.min(...others);
    return least - tau * Math.log(others.reduce((a, x) => a + Math.exp((least - x) / tau), 0));
  });
  const mean = s.reduce((a, b) => a + b, 0) / n;
  const h0 = s.reduce((a, x) => a + (x - mean) ** 2, 0) / n;

  const low = softmax(lengths.map((x) => -alpha * x));
  const high = softmax(lengths.map((x) => alpha * x));
  const delta = dot(low, lengths);
  const zeta = dot(high, lengths);
  const short = lengths.map((x) => Math.max(0, delta - x));
  const long = lengths.map((x) => Math.max(0, x - zeta));
  const m = pairs.length;
  const repel = dot(short, short) / m;
  const attract = dot(long, long) / m;
  const h1 = lambda_repel * repel + lambda_attract * attract;

  // What each term gains with each distance; delta and zeta move with the distances too.
  const byDelta = (2 / m) * short.reduce((a, b) => a + b, 0);
  const byZeta = (-2 / m) * long.reduce((a, b) => a + b, 0);
  const slopes = {
    h0: pairs.map(([i, j]) => ((2 * (s[i] - mean)) / n) * near[i][j]),
    repel: lengths.map(
      (x, k) => (-2 / m) * short[k] + byDelta * low[k] * (1 - alpha * (x - delta)),
    ),
    attract: lengths.map(
      (x, k) => (2 / m) * long[k] + byZeta * high[k] * (1 + alpha * (x - zeta)),
    ),
  };
  const forces = Object.fromEntries(
    Object.entries(slopes).map(([name, slope]) => [name, pulled(points, D, pairs, slope)]),
  );
  const weights = [
    ["h0", beta_h0],
    ["repel", beta_h1 * lambda_repel],
    ["attract", beta_h1 * lambda_attract],
  ];
  forces.total = points.map((point, i) =>
    point.map((_, k) => weights.reduce((sum, [name, w]) => sum + w * forces[name][i][k], 0)),
  );
  return { s, h0, delta, zeta, repel, attract, h1, total: beta_h0 * h0 + beta_h1 * h1, forces };
}

/** From slopes in distances to a gradient in points; coincident points do not pull. */
function pulled(points, D, pairs, slope) {
  const found = points.map((point) => point.map(() => 0));
  pairs.forEach(([i, j], k) => {
    if (D[i][j] === 0) return;
    points[i].forEach((x, axis) => {
      const part = (slope[k] * (x - points[j][axis])) / D[i][j];
      found[i][axis] += part;
      found[j][axis] -= part;
    });
  });
  return found;
}
