// Making and changing what is shown. Text only ever becomes text: there is no way here to make markup of a string.

import { ago, since } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// h("p", { class: "note" }, "text", another): an element.
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

// The same for a part of a drawing.
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

// Sets a text, and touches nothing if it is that already: selections and screen readers are left in peace.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

// Shows `items` as the children of `parent`: `make(item)` makes one. A child whose item has not changed stays the same
// element, so that focus, selection and scrolling survive. `key(item)` tells items apart.
export function showList(parent, items, key, make) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const focused = parent.contains(document.activeElement) ? document.activeElement.closest("[data-key]") : null;
  const wanted = items.map((item) => {
    const [id, sign] = [String(key(item)), JSON.stringify(item)];
    const known = old.get(id);
    if (known && signs.get(known) === sign) return known;
    const made = make(item);
    made.dataset.key = id;
    signs.set(made, sign);
    return made;
  });
  const same = wanted.length === parent.children.length && wanted.every((child, n) => child === parent.children[n]);
  if (same) return;
  parent.replaceChildren(...wanted);
  if (focused && !focused.isConnected) {
    const again = wanted.find((child) => child.dataset.key === focused.dataset.key);
    const target = again && (again.matches("a, button") ? again : again.querySelector("a, button"));
    if (target) target.focus({ preventScroll: true });
  }
}

const signs = new WeakMap();

// A moment, told as how long ago it was, or with `form` "since" only how long. Empty until `tellAges`: the text grows old
// while what it belongs to stays the same.
export const moment = (at, form = "ago") => h("time", { datetime: at, "data-form": form });

// Tells the ages of all moments there are.
export function tellAges(now) {
  for (const element of document.querySelectorAll("time[data-form]")) {
    setText(element, (element.dataset.form === "since" ? since : ago)(element.dateTime, now));
  }
}

// A row of a table from texts, nodes and [text, class] pairs. The first cell is the row's header.
export function row(...cells) {
  const made = cells.map((cell, n) => {
    const [content, name] = Array.isArray(cell) ? cell : [cell, null];
    return h(n === 0 ? "th" : "td", { scope: n === 0 ? "row" : null, class: name }, content);
  });
  return h("tr", {}, made);
}

// Text in which what stands between backticks is something to type.
export const typed = (text) => String(text).split("`").map((part, n) => (n % 2 === 1 ? h("code", {}, part) : part));

// Tells those who cannot see the page what they would see. Only for what somebody should hear: not for every figure.
export function announce(text) {
  setText(byId("announcer"), text);
}
