// What the interactive figures share: elements, controls, a plane with points, bars, a diagram.

const SVG = "http://www.w3.org/2000/svg";

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text, whatever they contain
  return element;
}

/** An HTML element with attributes and children. */
export const html = (name, attributes = {}, ...children) =>
  made(document.createElement(name), attributes, children);

/** An SVG element with attributes and children. */
export const svg = (name, attributes = {}, ...children) =>
  made(document.createElementNS(SVG, name), attributes, children);

/**
 * Calls of the returned function before the next frame are one call of `draw`; the stage has the
 * attribute `data-drawn` while nothing remains to be drawn.
 */
export function framed(stage, draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    delete stage.dataset.drawn;
    requestAnimationFrame(() => {
      asked = false;
      draw();
      stage.dataset.drawn = "";
    });
  };
}

/** Draw again when an element gets another size, or the page its other colours. */
export function redrawn(element, draw) {
  new ResizeObserver(draw).observe(element);
  const theme = { attributes: true, attributeFilter: ["data-theme"] };
  new MutationObserver(draw).observe(document.documentElement, theme);
}

/** A line that says what a figure shows; read aloud when it has been the same for a while. */
export function announcer() {
  const seen = html("p", { class: "live-told", "aria-hidden": "true" });
  const heard = html("span", { class: "live-heard", "aria-live": "polite" });
  let waiting;
  const say = (text) => {
    if (seen.textContent === text) return;
    seen.textContent = text;
    clearTimeout(waiting);
    waiting = setTimeout(() => (heard.textContent = text), 600);
  };
  return { element: html("div", {}, seen, heard), say };
}

/** A labelled slider; `changed` gets its value, `said` tells it in words. */
export function slider({ label, min, max, step, value, said, changed }) {
  const told = html("span", { class: "live-value", "aria-hidden": "true" });
  const input = html("input", { type: "range", min, max, step, value, "aria-label": label });
  const show = () => {
    told.textContent = said(Number(input.value));
    input.setAttribute("aria-valuetext", told.textContent);
  };
  input.addEventListener("input", () => {
    show();
    changed(Number(input.value));
  });
  show();
  const word = html("span", { "aria-hidden": "true" }, label);
  return {
    element: html("div", { class: "live-slider" }, word, input, told),
    get value() {
      return Number(input.value);
    },
  };
}

/** Buttons of which one is pressed; `chosen` gets its name. */
export function choice(label, names, pressed, chosen) {
  const buttons = names.map((name) => {
    const button = html("button", { type: "button", "aria-pressed": name === pressed }, name);
    button.addEventListener("click", () => {
      buttons.forEach((it) => it.setAttribute("aria-pressed", it === button));
      chosen(name);
    });
    return button;
  });
  return html("div", { class: "live-choice", role: "group", "aria-label": label }, ...buttons);
}

/**
 * A square with points; with `moved`, mouse, finger and arrow keys move them.
 *
 * Coordinates run from 0 to 1, y upwards. `moved` is called after each move. Beneath the points
 * lies a canvas, to which `paint` draws; it gets the context, a function from coordinates to
 * pixels, and pixels of the canvas per pixel of the page.
 */
export function plane({ label, points, moved, paint }) {
  const canvas = html("canvas", { "aria-hidden": "true" });
  const role = moved ? "group" : "img";
  const dots = svg("svg", { viewBox: "0 0 100 100", role, "aria-label": label });
  const element = html("div", { class: "live-plane" }, canvas, dots);
  const words =
    "Drag a point, or move it with the arrow keys; the space bar goes to the next, with Shift back.";
  const hint = html("p", { class: "live-hint", id: `live-hint-${++hints}` }, words);
  let current = 0;
  let held = null;

  const put = (k, [x, y]) => (points[k] = [inside(x), inside(y)]);
  const move = (k, point) => {
    put(k, point);
    moved();
  };
  const select = (k) => {
    current = k;
    [...dots.children].forEach((dot, i) => dot.setAttribute("tabindex", i === k ? 0 : -1));
  };
  const where = ({ clientX, clientY }) => {
    const box = dots.getBoundingClientRect();
    return [(clientX - box.left) / box.width, 1 - (clientY - box.top) / box.height];
  };
  const nearest = ([x, y]) => {
    const far = points.map((point) => Math.hypot(point[0] - x, point[1] - y));
    const k = far.indexOf(Math.min(...far));
    return far[k] <= REACH ? k : -1;
  };
  const follow = () => {
    dots.addEventListener("pointerdown", (event) => {
      const at = where(event);
      const k = nearest(at);
      if (k < 0) return;
      event.preventDefault();
      held = { k, shift: points[k].map((x, axis) => x - at[axis]) };
      dots.setPointerCapture(event.pointerId);
      dots.children[k].focus({ preventScroll: true });
    });
    dots.addEventListener("pointermove", (event) => {
      if (held) move(held.k, where(event).map((x, axis) => x + held.shift[axis]));
    });
    for (const end of ["pointerup", "pointercancel"])
      dots.addEventListener(end, () => (held = null));
    // A finger on a point moves it; elsewhere it moves the page.
    const touched = (event) => {
      if (nearest(where(event.touches[0])) >= 0) event.preventDefault();
    };
    dots.addEventListener("touchstart", touched, { passive: false });
  };
  const grip = (dot, k) => {
    dot.setAttribute("role", "button");
    dot.setAttribute("aria-describedby", hint.id);
    dot.prepend(svg("circle", { r: 100 * REACH, class: "live-grip" }));
    dot.addEventListener("focus", () => select(k));
    dot.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.05 : 0.01;
      const way = {
        ArrowLeft: [-step, 0],
        ArrowRight: [step, 0],
        ArrowUp: [0, step],
        ArrowDown: [0, -step],
      }[event.key];
      const n = points.length;
      if (way) move(k, [points[k][0] + way[0], points[k][1] + way[1]]);
      else if (event.key === " " || event.key === "Enter")
        dots.children[(k + (event.shiftKey ? n - 1 : 1)) % n].focus();
      else return;
      event.preventDefault();
    });
  };
  if (moved) follow();
  const dot = (_, k) => {
    const shape = svg("g", {}, svg("circle", { r: 1.8, class: "live-dot" }));
    if (moved) grip(shape, k);
    return shape;
  };
  const show = () => {
    if (dots.children.length !== points.length) {
      dots.replaceChildren(...points.map(dot));
      if (moved) select(Math.min(current, points.length - 1));
    }
    points.forEach(([x, y], k) => {
      const shape = dots.children[k];
      shape.setAttribute("transform", `translate(${100 * x} ${100 * (1 - y)})`);
      if (moved) shape.setAttribute("aria-label", `Point ${k + 1} at ${tell(x)}, ${tell(y)}`);
    });
    const wide = Math.round(canvas.clientWidth * Math.min(2, devicePixelRatio));
    if (canvas.width !== wide) canvas.width = canvas.height = wide;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, wide, wide);
    paint(pen, ([x, y]) => [x * wide, (1 - y) * wide], wide / canvas.clientWidth);
  };
  return { element, hint, put, show };
}
let hints = 0;
const REACH = 0.06; // how near to a point it is grasped, in widths of the square

const inside = (x) => Math.min(0.98, Math.max(0.02, x));

/** A number as the figures tell it. */
export const tell = (x) => (Math.abs(x) < 0.005 ? 0 : x).toFixed(2);

/** A colour of the stylesheet. */
export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--live-${name}`).trim();

/** Edges and filled triangles of the Rips complex at epsilon, drawn on a canvas. */
export function paintComplex(pen, at, scale, points, D, epsilon) {
  const n = points.length;
  const spots = points.map(at);
  pen.beginPath();
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j < n; j++) {
      if (D[i][j] > epsilon) continue;
      for (let k = j + 1; k < n; k++) {
        if (D[i][k] > epsilon || D[j][k] > epsilon) continue;
        // All the same way round, or overlapping triangles would cancel out.
        const [a, b, c] = turned(spots[i], spots[j], spots[k]);
        pen.moveTo(...a);
        pen.lineTo(...b);
        pen.lineTo(...c);
        pen.closePath();
      }
    }
  pen.fillStyle = colour("fill");
  pen.fill();
  pen.beginPath();
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j < n; j++) {
      if (D[i][j] > epsilon) continue;
      pen.moveTo(...spots[i]);
      pen.lineTo(...spots[j]);
    }
  pen.strokeStyle = colour("edge");
  pen.lineWidth = scale;
  pen.stroke();
}

function turned(a, b, c) {
  const area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
  return area > 0 ? [a, b, c] : [a, c, b];
}

/** Components and loops that are there at epsilon. */
export function alive({ h0, h1 }, epsilon) {
  return {
    components: 1 + h0.filter((bar) => bar.death > epsilon).length,
    loops: h1.filter((bar) => bar.birth <= epsilon && epsilon < bar.death).length,
  };
}

/** "1 loop", "2 loops". */
export function some(k, name) {
  return `${k} ${name}${k === 1 ? "" : "s"}`;
}

/** "3 components, 1 loop". */
export function counted({ components, loops }) {
  return `${some(components, "component")}, ${some(loops, "loop")}`;
}

/** What the two colours mean. */
function key() {
  const word = (kind, text) => html("span", { class: `live-key live-${kind}` }, text);
  return html("span", {}, word("h0", "H₀ components"), " ", word("h1", "H₁ loops"));
}

/**
 * Bars, H0 above H1, with a line at epsilon.
 *
 * With `pointed`, it gets the H1 bar that is under the pointer, or was chosen by click or key.
 */
export function barcode(label, pointed) {
  const lines = svg("g");
  const now = svg("line", { class: "live-now", y1: 0, y2: 100 });
  const role = pointed ? "group" : "img";
  const look = { viewBox: "0 0 100 100", preserveAspectRatio: "none", role, "aria-label": label };
  const picture = svg("svg", look, now, lines);
  const end = html("span");
  let drawn = null;

  const choose = (target, bar) => {
    let chosen = false;
    const point = (it) => pointed(it ? bar : null);
    const toggle = () => {
      chosen = !chosen;
      target.setAttribute("aria-pressed", chosen);
      point(chosen);
    };
    const named = `Loop from ${tell(bar.birth)} to ${tell(bar.death)}`;
    const told = { role: "button", tabindex: 0, "aria-pressed": false, "aria-label": named };
    Object.entries(told).forEach(([name, value]) => target.setAttribute(name, value));
    target.addEventListener("pointerenter", () => point(true));
    target.addEventListener("pointerleave", () => point(chosen));
    target.addEventListener("click", toggle);
    target.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      toggle();
    });
  };
  const rebuild = ({ h0, h1 }, longest) => {
    const all = [
      ...h0.map((bar) => ["h0", { birth: 0, ...bar }]),
      ["h0", { birth: 0, death: longest }], // the component that never dies
      ...h1.map((bar) => ["h1", bar]),
    ];
    const gap = 100 / (all.length + 1);
    const room = (gap / 100) * (picture.clientHeight || 150); // pixels from bar to bar
    lines.setAttribute("stroke-width", Math.min(2.5, Math.max(0.8, 0.7 * room)));
    lines.replaceChildren(
      ...all.map(([kind, bar], k) => {
        const y = gap * (k + 1);
        const x1 = (100 * bar.birth) / longest;
        const ends = { x1, x2: (100 * bar.death) / longest, y1: y, y2: y };
        const line = svg("line", { ...ends, class: `live-bar live-${kind}` });
        if (kind === "h0" || !pointed) return line;
        const target = svg("g", {}, svg("line", { ...ends, class: "live-bar live-hit" }), line);
        choose(target, bar);
        return target;
      }),
    );
    picture.setAttribute("aria-label", `${label}: ${told(h0, h1)}`);
  };
  const show = (bars, epsilon, longest, digits = 1) => {
    if (bars !== drawn) rebuild(bars, longest);
    drawn = bars;
    now.setAttribute("x1", (100 * epsilon) / longest);
    now.setAttribute("x2", (100 * epsilon) / longest);
    end.textContent = longest.toFixed(digits);
  };
  const scale = html("div", { class: "live-scale" }, html("span", {}, "0"), "scale ε", end);
  const element = html("div", { class: "live-bars" }, key(), picture, scale);
  return { element, show };
}

const told = (h0, h1) => `${h0.length} finite H0 bars, ${h1.length} H1 bars`;

/** Births against deaths. */
export function diagram(label) {
  const dots = svg("g");
  const picture = svg(
    "svg",
    { viewBox: "-4 -4 108 108", role: "img", "aria-label": label },
    svg("path", { d: "M0 100H100M0 100V0M0 100L100 0", class: "live-axes" }),
    dots,
  );
  const show = ({ h0, h1 }, longest) => {
    const all = [
      ...h0.map((bar) => ["h0", 0, bar.death]),
      ...h1.map((bar) => ["h1", bar.birth, bar.death]),
    ];
    dots.replaceChildren(
      ...all.map(([kind, birth, death]) =>
        svg("circle", {
          cx: (100 * birth) / longest,
          cy: 100 - (100 * death) / longest,
          r: 2.2,
          class: `live-${kind}`,
        }),
      ),
    );
    picture.setAttribute("aria-label", `${label}: ${told(h0, h1)}`);
  };
  const scale = html("div", { class: "live-scale" }, "birth →");
  const element = html(
    "div",
    { class: "live-diagram" },
    html("span", {}, "death ↑"),
    picture,
    scale,
  );
  return { element, show };
}
