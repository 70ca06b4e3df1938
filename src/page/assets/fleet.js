// The page of the fleet: which view is shown, and the view of the fleet itself.

import { announce, byId, h, moment, row, setHidden, setText, showList, typed } from "./dom.js";
import { bytes, count, counted, DASH, percent, rate, since, span } from "./format.js";
import * as letters from "./letters.js";
import { keepToken, offerThemes, poll } from "./poll.js";
import * as restaurants from "./restaurants.js";
import { draw, spark } from "./spark.js";

const VIEWS = ["fleet", "restaurants", "letters"];

// Slots that are drawn one by one; of more, this many stand for all.
const MARKS = 48;

let alarmed = "";

// `#restaurants/an-id` → ["restaurants", "an-id"]
function place() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // Nobody's id, then: it is not found.
  }
  return [VIEWS.includes(view) ? view : "fleet", id];
}

function goto(byHand) {
  const [view, id] = place();
  for (const name of VIEWS) {
    setHidden(byId(`view-${name}`), name !== view);
    const link = byId(`to-${name}`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "restaurants") restaurants.open(id, byHand);
  if (byHand && !(view === "restaurants" && id)) window.scrollTo(0, 0);
}

function show(state) {
  setHidden(byId("gate"), true);
  document.documentElement.dataset.known = "yes";
  showFaults(state);
  if (state.status !== null) showStatus(state, state.status);
  letters.show(state);
  if (place()[0] === "restaurants") restaurants.refresh();
}

function showFaults({ status, fault, alarms, at }) {
  const told = status === null ? "" : ` What is shown is ${since(status.at, at)} old.`;
  setText(byId("fault"), fault === null ? "" : `${fault}.${told}`);
  setHidden(byId("fault"), fault === null);
  document.documentElement.dataset.stale = fault === null ? "no" : "yes";
  showList(byId("alarms"), alarms, (alarm) => alarm, (alarm) => h("li", {}, typed(alarm)));
  setHidden(byId("alarms"), alarms.length === 0);
  const heard = [...alarms, ...(fault === null ? [] : [fault])].join(". ");
  if (heard !== alarmed) announce(heard || "No alarms any more.");
  alarmed = heard;
}

function showStatus({ history }, status) {
  const { server, lanes, workers, backfills } = status;
  setText(byId("server"), `nats ${server.version} at ${server.address}`);
  const sum = (items, of) => items.reduce((all, item) => all + of(item), 0);
  const load = [...lanes, ...backfills.map((running) => running.progress)];
  setText(byId("waiting"), count(sum(load, (one) => one.pending)));
  setText(byId("in-hand"), count(sum(load, (one) => one.in_flight)));
  const waits = lanes.flatMap((lane) => (lane.oldest ? [lane.oldest.since] : []));
  draw(byId("waiting-spark"), total([...Object.values(history.pending), history.replays]), { label: "Jobs waiting", write: count });
  setText(byId("oldest"), since(waits.sort((a, b) => Date.parse(a) - Date.parse(b))[0], status.at));
  setText(byId("workers-count"), count(workers.length));
  setText(byId("slots-busy"), workers.length > 0 ? count(sum(workers, (worker) => worker.running)) : DASH);
  setText(byId("slots-all"), workers.length > 0 ? count(sum(workers, (worker) => worker.slots)) : DASH);
  const [busy, all] = [sum(workers, (worker) => worker.running), sum(workers, (worker) => worker.slots)];
  const marks = Array.from({ length: Math.min(all, MARKS) }, (_, n) => ({ n, kind: n < (busy / all) * Math.min(all, MARKS) ? "busy" : "free" }));
  showList(byId("slot-marks"), marks, (mark) => mark.n, (mark) => h("i", { class: mark.kind }));
  setText(byId("jobs-pace"), rate(history.jobs_per_minute.at(-1)));
  setText(byId("results-total"), workers.length > 0 ? count(sum(workers, (worker) => worker.totals.results)) : DASH);
  setText(byId("tokens-pace"), rate(history.tokens_per_second.at(-1)));
  draw(byId("jobs-spark"), history.jobs_per_minute, { label: "Jobs a minute", write: rate });
  draw(byId("tokens-spark"), history.tokens_per_second, { label: "Tokens a second", write: rate });
  showLanes(lanes, history);
  showWorkers(workers, history);
  showBackfills(backfills);
  showStreams(status.streams);
  const badge = byId("letters-badge");
  setText(badge, count(status.dead_letters));
  setHidden(badge, status.dead_letters === 0);
}

// The sum at each point; a gap in one is a gap in all.
function total(all) {
  const length = Math.max(...all.map((values) => values.length), 0);
  return Array.from({ length }, (_, n) => all.reduce((sum, values) => {
    const value = values.at(n - length);
    return sum === null || value === null || value === undefined ? null : sum + value;
  }, 0));
}

// Small multiples share one scale: what is higher is more.
const highest = (all) => Math.max(...all.flat().filter((value) => value !== null), 0);

function showLanes(lanes, { pending }) {
  setHidden(byId("lanes-none"), true);
  const most = highest(Object.values(pending));
  const rows = lanes.map((lane) => ({ ...lane, trend: pending[lane.lane] ?? [], most }));
  showList(byId("lanes"), rows, (lane) => lane.lane, (lane) => row(
    lane.lane,
    [spark(lane.trend, { label: `Jobs waiting in lane ${lane.lane}`, write: count, most }), "trend"],
    [count(lane.pending), "number"],
    [count(lane.in_flight), "number"],
    [count(lane.redelivered), "number wide"],
    [count(lane.waiting), "number wide"],
    [lane.oldest === null ? DASH : moment(lane.oldest.since, "since"), "number"],
  ));
}

function showWorkers(workers, history) {
  setHidden(byId("workers-table"), workers.length === 0);
  setHidden(byId("workers-none"), workers.length > 0);
  const most = highest(Object.values(history.workers));
  const rows = workers.map((worker) => ({ ...worker, trend: history.workers[worker.name] ?? [], most }));
  showList(byId("workers"), rows, (worker) => worker.name, (worker) => row(
    [worker.name, "name"],
    [spark(worker.trend, { label: `Tokens a second of ${worker.name}`, write: rate, most }), "trend"],
    condition(worker),
    [`${count(worker.running)}/${count(worker.slots)}`, "number"],
    [`${count(worker.queued)}/${count(worker.look_ahead)}`, "number wide"],
    [rate(worker.pace.jobs_per_minute), "number wide"],
    [count(worker.totals.results), "number wide"],
    [moment(worker.started_at, "since"), "number"],
  ));
}

function condition(worker) {
  const away = [["redis", worker.stores.redis], ["postgres", worker.stores.postgres]]
    .filter(([, home]) => home === "down").map(([store]) => `no ${store}`);
  const all = [...(worker.draining ? ["draining"] : []), ...away];
  const name = away.length > 0 ? "blocked" : worker.draining ? "draining" : "ready";
  return h("span", { class: "badge", "data-condition": name }, all.length > 0 ? all.join(", ") : worker.running > 0 ? "working" : "idle");
}

function showBackfills(backfills) {
  setHidden(byId("backfills-table"), backfills.length === 0);
  setHidden(byId("backfills-none"), backfills.length > 0);
  showList(byId("backfills"), backfills, (running) => running.backfill.id, ({ backfill, progress, lost }) => {
    const share = progress.total > 0 ? progress.done / progress.total : null;
    const name = `${backfill.id}: ${counted(progress.done, "job")} of ${count(progress.total)}`;
    return row(
      [backfill.id, "name"],
      [h("meter", { min: 0, max: 1, value: share ?? 0, "aria-label": name }), "trend"],
      [lost ? "lost" : percent(share), "number"],
      [count(progress.pending), "number wide"],
      [count(progress.in_flight), "number"],
      [rate(progress.per_second), "number wide"],
      [span(progress.seconds_left ?? null), "number"],
    );
  });
}

function showStreams(streams) {
  showList(byId("streams"), streams, (stream) => stream.name, (stream) => row(
    [stream.name, "name"],
    [count(stream.messages), "number"],
    [[bytes(stream.bytes), stream.max_bytes === null ? null : h("span", { class: "wide" }, ` of ${bytes(stream.max_bytes)}`)], "number"],
    [count(stream.last_sequence), "number wide"],
    [stream.oldest === null ? DASH : moment(stream.oldest, "since"), "number"],
  ));
}

// What is asked without the token is not given: the page asks for it, and shows nothing until it is right.
function refused(error) {
  const again = !byId("gate").hidden;
  setHidden(byId("gate"), false);
  for (const name of VIEWS) setHidden(byId(`view-${name}`), true);
  if (!again) byId("gate-token").focus();
  else if (byId("gate-token").dataset.tried === "yes") setText(byId("gate-problem"), error.message);
  byId("gate-token").dataset.tried = "no";
}

byId("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("gate-token").value.trim());
  byId("gate-token").dataset.tried = "yes";
  setText(byId("gate-problem"), "");
  look();
});

document.addEventListener("keydown", (event) => {
  const types = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || types || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (place()[0] !== "restaurants") {
    // Said by nobody but us: the view is there at once.
    history.pushState(null, "", "#restaurants");
    goto(true);
  }
  byId("search").focus();
});

window.addEventListener("hashchange", () => goto(true));
offerThemes();
goto(false);
const look = poll((state) => {
  const hadGate = !byId("gate").hidden;
  show(state);
  if (hadGate) goto(false);
}, refused);
letters.begin(look);
