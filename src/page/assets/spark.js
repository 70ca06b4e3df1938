// Sparklines: the last values of a figure, drawn small. A gap is a gap.

import { s } from "./dom.js";

const [WIDTH, HEIGHT, EDGE] = [120, 30, 3];

// Values, oldest first; null is a gap. `most`: the top of the scale, so that those that are compared share one.
// `limit`: a value drawn as a line across. `behind`: other values, drawn pale. `label`: what it is, for those who
// cannot see it; `write`: how a value is written there.
export function spark(values, { label, write = String, most = null, limit = null, behind = null } = {}) {
  const known = values.filter((value) => value !== null);
  const all = [...known, ...(behind ?? []).filter((value) => value !== null), ...(limit === null ? [] : [limit])];
  const top = most ?? Math.max(...all, 0);
  const at = (list) => (value, n) => {
    const x = list.length < 2 ? WIDTH - EDGE : EDGE + (n / (list.length - 1)) * (WIDTH - 2 * EDGE);
    const y = HEIGHT - EDGE - (top > 0 ? Math.min(value / top, 1) : 0) * (HEIGHT - 2 * EDGE);
    return [round(x), round(y)];
  };
  const drawing = s("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": describe(label, known, write),
  });
  drawing.append(s("path", { class: "floor", d: `M0 ${HEIGHT - EDGE}H${WIDTH}` }));
  if (limit !== null && top > 0) {
    const [, y] = at([])(limit, 0);
    drawing.append(s("path", { class: "limit", d: `M0 ${y}H${WIDTH}` }));
  }
  if (behind) drawing.append(s("path", { class: "behind", d: lines(behind, at(behind)) }));
  const place = at(values);
  drawing.append(s("path", { class: "area", d: areas(values, place) }), s("path", { class: "line", d: lines(values, place) }));
  const newest = values.at(-1);
  if (newest !== null && newest !== undefined) {
    const [x, y] = place(newest, values.length - 1);
    // A line without length is a dot that keeps its shape however the drawing is stretched.
    drawing.append(s("path", { class: "dot", d: `M${x} ${y}h0.001` }));
  }
  return drawing;
}

const round = (value) => Math.round(value * 100) / 100;

function describe(label, known, write) {
  if (known.length === 0) return `${label}: nothing yet`;
  return `${label}: last ${write(known.at(-1))}, least ${write(Math.min(...known))}, most ${write(Math.max(...known))}`;
}

// The stretches between gaps, each a list of points.
function stretches(values, place) {
  const found = [[]];
  values.forEach((value, n) => {
    if (value === null) found.push([]);
    else found.at(-1).push(place(value, n));
  });
  return found.filter((points) => points.length > 0);
}

const join = (points) => points.map(([x, y]) => `${x} ${y}`).join("L");
const lines = (values, place) => stretches(values, place).map((points) => `M${join(points)}`).join("");

function areas(values, place) {
  const floor = HEIGHT - EDGE;
  const area = (points) => `M${points[0][0]} ${floor}L${join(points)}L${points.at(-1)[0]} ${floor}Z`;
  return stretches(values, place).filter((points) => points.length > 1).map(area).join("");
}

// Replaces what is drawn in an element, if the values have changed.
export function draw(element, values, options) {
  const sign = JSON.stringify([values, options.most ?? null, options.limit ?? null, options.behind ?? null]);
  if (drawn.get(element) === sign) return;
  drawn.set(element, sign);
  element.replaceChildren(spark(values, options));
}

const drawn = new WeakMap();
