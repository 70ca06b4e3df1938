// Dead letters: why each was given up, and, for who has the token, sending its job again or dropping it.

import { announce, byId, h, moment, setHidden, setText, showList, typed } from "./dom.js";
import { bytes, count, counted, words } from "./format.js";
import { ask, hasToken, keepToken } from "./poll.js";

let [look, last] = [() => {}, null];

export function begin(lookAgain) {
  look = lookAgain;
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = byId("token").value.trim();
    byId("token").value = "";
    if (given === "") return;
    keepToken(given);
    setText(byId("letters-problem"), "");
    again();
  });
}

export function show(state) {
  last = state;
  const { dead_letters: letters, status, actions } = state;
  const waiting = status?.dead_letters ?? letters.length;
  const newest = waiting > letters.length ? `, the newest ${count(letters.length)} are shown` : "";
  const offered = actions ? "" : " To replay or drop them here, start maitred ui with ui.token_file; or use maitred dlq.";
  setText(byId("letters-note"), waiting > 0 ? `${counted(waiting, "job")} given up${newest}.${offered}` : "");
  setHidden(byId("letters-none"), letters.length > 0 || status === null);
  setHidden(byId("token-form"), !actions || hasToken() || letters.length === 0);
  const items = letters.map((letter) => ({ ...letter, acts: actions && hasToken() }));
  showList(byId("letters"), items, (letter) => letter.sequence, item);
}

function item(letter) {
  const details = h("div", { id: `letter-${letter.sequence}`, class: "details", hidden: true });
  const more = h("button", { type: "button", "aria-expanded": "false", "aria-controls": details.id }, "Why");
  more.addEventListener("click", () => expand(letter, more, details));
  const buttons = [more];
  if (letter.acts) {
    buttons.push(
      h("button", { type: "button", "data-do": "replay", onclick: () => act(letter, "replay") }, "Replay"),
      h("button", { type: "button", class: "grave", "data-do": "drop", onclick: (event) => twice(event.target, () => act(letter, "drop")) }, "Drop"),
    );
  }
  return h("li", {},
    h("p", { class: "reason" }, h("b", {}, words(letter.reason)), " ", h("span", { class: "name" }, letter.restaurant_id ?? "restaurant not known")),
    h("p", { class: "note" }, `letter ${letter.sequence} · lane ${letter.lane ?? "not known"} · `, moment(letter.at)),
    h("p", { class: "buttons" }, buttons),
    details,
  );
}

async function expand(letter, button, details) {
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  details.hidden = !open;
  if (!open || details.childElementCount > 0) return;
  details.replaceChildren(h("p", { class: "note" }, "looking"));
  try {
    const found = await ask(`api/dead-letters/${letter.sequence}`);
    const facts = [
      ["Job", found.job_id ?? "not known"], ["Came from", found.subject], ["Backfill", found.backfill],
      ["Delivered", counted(found.delivered, "time")], ["Failed", counted(found.failures, "time")],
      ["Given up by", found.worker], ["Size", bytes(found.payload_bytes)],
    ];
    details.replaceChildren(
      h("p", { class: "message" }, typed(found.message)),
      h("dl", { class: "facts" }, facts.filter(([, value]) => value !== null).map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    );
  } catch (error) {
    details.replaceChildren(h("p", { class: "problem" }, error.message));
  }
}

// What cannot be undone takes a second press; looking elsewhere takes the first one back.
function twice(button, act) {
  if (button.dataset.sure === "asked") {
    act();
    return;
  }
  const text = button.textContent;
  button.dataset.sure = "asked";
  setText(button, "Drop for good?");
  button.addEventListener("blur", () => {
    delete button.dataset.sure;
    setText(button, text);
  }, { once: true });
}

async function act(letter, what) {
  setText(byId("letters-problem"), "");
  try {
    const done = await ask(`api/dead-letters/${letter.sequence}/${what}`, { method: "POST", withToken: true });
    const told = done.done === "replayed" ? `replayed as job ${done.job_sequence}` : "dropped";
    announce(`Dead letter ${letter.sequence} ${told}.`);
    last.dead_letters = last.dead_letters.filter((other) => other.sequence !== letter.sequence);
    again();
    byId("main").focus({ preventScroll: true });
  } catch (error) {
    if (error.status === 401) keepToken(null);
    setText(byId("letters-problem"), `Dead letter ${letter.sequence}: ${error.message}`);
    again();
  }
  look();
}

function again() {
  if (last !== null) show(last);
}
