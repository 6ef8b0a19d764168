// Persistent homology of the Vietoris–Rips complex of a few points, in degrees 0 and 1, over Z/2.

/** Euclidean distances of points, each an array of coordinates: n arrays of n numbers. */
export function distances(points) {
  return points.map((a) =>
    points.map((b) => Math.sqrt(a.reduce((sum, x, k) => sum + (x - b[k]) ** 2, 0))),
  );
}

/** All pairs in the order in which the complex receives them, shortest first. */
export function edges(D) {
  const found = [];
  for (let j = 1; j < D.length; j++)
    for (let i = 0; i < j; i++) found.push({ i, j, length: D[i][j] });
  return found.sort((a, b) => a.length - b.length || a.j - b.j || a.i - b.i);
}

/**
 * Bars of a cloud.
 *
 * h0: {death, edge} of each of the n - 1 components that die, in the order of their deaths.
 * h1: {birth, death, edge} of each loop with death > birth, longest bar first; `edge` closes it.
 */
export function persistence(D) {
  const order = edges(D);
  const { deaths, joins } = components(order, D.length);
  return { h0: deaths, h1: loops(order, D.length, joins) };
}

/** Kruskal's algorithm: an edge between two components kills one of them. */
function components(order, n) {
  const parent = Array.from({ length: n }, (_, i) => i);
  const root = (i) => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  const deaths = [];
  const joins = new Set();
  order.forEach((edge, rank) => {
    const a = root(edge.i);
    const b = root(edge.j);
    if (a === b) return;
    parent[Math.max(a, b)] = Math.min(a, b);
    deaths.push({ death: edge.length, edge });
    joins.add(rank);
  });
  return { deaths, joins };
}

/**
 * Persistent cohomology, which has the same bars and here fewer columns than homology: one for
 * each edge that joins no components, the latest first; its entries are the triangles over it.
 *
 * A triangle is one number, n times the rank of its last edge plus the vertex across from that
 * edge: these numbers are ordered as the triangles arrive.
 */
function loops(order, n, joins) {
  const rank = Array.from({ length: n }, () => new Array(n).fill(0));
  order.forEach(({ i, j }, r) => (rank[i][j] = rank[j][i] = r));
  const columns = new Map(); // by the first triangle of each
  const found = [];
  for (let r = order.length - 1; r >= 0; r--) {
    if (joins.has(r)) continue;
    let column = triangles(order[r], r, rank, n);
    while (column.length && columns.has(column[0])) column = sum(column, columns.get(column[0]));
    if (!column.length) continue; // never filled: cannot be once all edges are there
    columns.set(column[0], column);
    const death = order[Math.floor(column[0] / n)].length;
    if (death > order[r].length) found.push({ birth: order[r].length, death, edge: order[r] });
  }
  return found.sort((a, b) => b.death - b.birth - (a.death - a.birth));
}

function triangles({ i, j }, r, rank, n) {
  const found = [];
  for (let v = 0; v < n; v++) {
    if (v === i || v === j) continue;
    const last = Math.max(r, rank[i][v], rank[j][v]);
    found.push(last * n + (last === r ? v : last === rank[i][v] ? j : i));
  }
  return found.sort((a, b) => a - b);
}

/** Sum over Z/2 of two ordered columns: what is in one of them only. */
function sum(a, b) {
  const found = [];
  let x = 0;
  let y = 0;
  while (x < a.length && y < b.length) {
    if (a[x] < b[y]) found.push(a[x++]);
    else if (a[x] > b[y]) found.push(b[y++]);
    else x++, y++;
  }
  while (x < a.length) found.push(a[x++]);
  while (y < b.length) found.push(b[y++]);
  return found;
}

/** A loop that an edge closes when it arrives: the edge and the fewest earlier ones around it. */
export function cycle(D, edge) {
  const n = D.length;
  const before = new Array(n).fill(-1);
  before[edge.i] = edge.i;
  const queue = [edge.i];
  while (queue.length) {
    const a = queue.shift();
    for (let b = 0; b < n; b++) {
      if (before[b] >= 0 || b === a || D[a][b] > edge.length) continue;
      if (Math.min(a, b) === edge.i && Math.max(a, b) === edge.j) continue;
      before[b] = a;
      queue.push(b);
    }
  }
  if (before[edge.j] < 0) return [];
  const path = [edge.j];
  while (path[0] !== edge.i) path.unshift(before[path[0]]);
  return path;
}
