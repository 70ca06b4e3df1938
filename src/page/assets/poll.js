// Asks for the state again and again, and says how old what is shown is.

import { announce, byId, setText, tellAges } from "./dom.js";
import { whole } from "./format.js";

const EVERY = 2000;
// Later than this something is wrong, and it is said.
const LATE = 6000;
const LIMIT = 8000;

export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// How far the server's clock is before ours: times are told by the server's.
let ahead = 0;
export const now = () => new Date(Date.now() + ahead).toISOString();

let token = null;
try {
  token = sessionStorage.getItem("maitred-token");
} catch {
  // A browser that keeps nothing asks again after a reload.
}

export const hasToken = () => token !== null;

// Kept until the tab is closed.
export function keepToken(given) {
  token = given;
  try {
    if (given === null) sessionStorage.removeItem("maitred-token");
    else sessionStorage.setItem("maitred-token", given);
  } catch {
    // As above.
  }
}

// The JSON at `path`; fails with a Problem that says what the server says. The token goes in a header, never in the
// address.
export async function ask(path, { method = "GET", withToken = hasToken(), signal } = {}) {
  const headers = { Accept: "application/json" };
  if (withToken && token !== null) headers.Authorization = `Bearer ${token}`;
  const limit = AbortSignal.timeout(LIMIT);
  const response = await fetch(path, { method, headers, cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit });
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(response.status, body?.error ?? `the server answers ${response.status}`);
  return body;
}

// Calls `show` with each new state. `refused` hears of a state that is not given without a token. Returns a function
// that asks at once.
export function poll(show, refused = () => {}) {
  let [last, timer, lost] = [null, null, false];
  // Nothing is asked for while nobody looks, and that is no lost connection.
  let seen = performance.now();

  async function look() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        const state = await ask("api/state");
        ahead = Date.parse(state.at) - Date.now();
        show(state);
        last = performance.now();
      } catch (error) {
        if (error.status === 401) refused(error);
        else if (!(error instanceof Problem) && !isPassing(error)) console.error(error);
      }
      tell();
    }
    timer = setTimeout(look, EVERY);
  }

  function tell() {
    if (document.hidden) return;
    tellAges(now());
    const moment = performance.now();
    const late = moment - Math.max(last ?? seen, seen) > LATE;
    const link = late ? "lost" : last === null ? "waiting" : "live";
    document.documentElement.dataset.link = link;
    setText(byId("link"), { lost: "disconnected", waiting: "connecting", live: "live" }[link]);
    const age = last === null ? "no answer yet" : `last update ${whole((moment - last) / 1000)} ago`;
    setText(byId("age"), late ? age : "");
    if (late !== lost) announce(late ? "The connection is lost; what is shown may be old." : "The connection is back.");
    lost = late;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    seen = performance.now();
    look();
  });
  setInterval(tell, 1000);
  look();
  return look;
}

// A server that is away, or too slow: the page says so, and goes on asking.
const isPassing = (error) => error instanceof TypeError || ["TimeoutError", "AbortError"].includes(error.name);

// The button that chooses between light, dark, and what the system says.
export function offerThemes() {
  const order = ["auto", "light", "dark"];
  const root = document.documentElement;
  const button = byId("theme");
  const current = () => root.dataset.theme ?? "auto";
  const show = () => setText(button, `Theme: ${current()}`);
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(current()) + 1) % order.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      localStorage.setItem("maitred-theme", next);
    } catch {
      // Not remembered, then.
    }
    show();
  });
  show();
}
