// The page of one worker.

import { announce, byId, h, moment, row, setHidden, setText, showList, typed } from "./dom.js";
import { ago, bytes, count, counted, DASH, percent, rate, since, span, words } from "./format.js";
import { offerThemes, poll } from "./poll.js";
import { draw } from "./spark.js";

const CONDITIONS = {
  starting: "starting", ready: "ready", blocked: "takes no jobs", draining: "draining", stuck: "stuck: restart it",
};

let condition = null;

function show(state) {
  showHead(state);
  showFigures(state);
  showLanes(state);
  showEngine(state.engine);
  showRunning(state);
  showResults(state);
  showLetters(state);
  showGpus(state.gpus);
}

function showHead(state) {
  setText(byId("worker"), state.worker);
  document.title = `${state.worker} · maitred`;
  const badge = byId("condition");
  setText(badge, CONDITIONS[state.condition] ?? words(state.condition));
  badge.dataset.condition = state.condition;
  setText(byId("about"), `· up ${since(state.started_at, state.at)}`);
  setText(byId("model"), state.model.split("/").at(-1));
  setText(byId("version"), state.version);
  // That it drains or starts is no fault.
  const faults = state.condition === "blocked" || state.condition === "stuck" ? state.obstacles : [];
  showList(byId("obstacles"), faults, (fault) => fault, (fault) => h("li", {}, typed(fault)));
  setHidden(byId("obstacles"), faults.length === 0);
  if (condition !== null && condition !== state.condition) announce(`The worker: ${badge.textContent}.`);
  condition = state.condition;
}

function showFigures({ jobs, service, goodput, pace }) {
  setText(byId("running"), count(jobs.running));
  setText(byId("slots"), count(jobs.slots));
  setText(byId("queued"), count(jobs.queued));
  setText(byId("look-ahead"), count(jobs.look_ahead));
  const marks = Array.from({ length: jobs.slots + jobs.look_ahead }, (_, n) => {
    if (n < jobs.slots) return { n, kind: n < jobs.running ? "busy" : "free" };
    return { n, kind: n - jobs.slots < jobs.queued ? "waiting" : "room" };
  });
  showList(byId("slot-marks"), marks.slice(0, 64), (mark) => mark.n, (mark) => h("i", { class: mark.kind }));

  setText(byId("ttft"), span(service.p50_seconds));
  setText(byId("ttft-95"), span(service.p95_seconds));
  setText(byId("within"), percent(service.within));
  setText(byId("limit"), span(service.limit_seconds).replace(".00", ""));
  draw(byId("ttft-spark"), service.ttft_seconds, {
    label: "Seconds to the first answer of the last jobs", write: span, limit: service.limit_seconds,
  });

  setText(byId("goodput"), rate(goodput.goodput.at(-1)));
  setText(byId("compliance"), percent(goodput.compliance.at(-1)));
  draw(byId("goodput-spark"), goodput.goodput, {
    label: "Tokens a second of jobs that were served well", write: rate, behind: goodput.throughput,
  });

  setText(byId("pace"), rate(pace.jobs_per_minute.at(-1)));
  setText(byId("tokens"), rate(pace.tokens_per_second.at(-1)));
  draw(byId("pace-spark"), pace.jobs_per_minute, { label: "Results a minute", write: rate });
}

function showLanes({ lanes, at }) {
  setHidden(byId("lanes-none"), lanes !== null);
  setText(byId("lanes-age"), lanes === null ? "" : `of the fleet, ${ago(lanes.at, at)}`);
  const rows = (lanes?.lanes ?? []).map((lane) => [
    lane.lane, count(lane.pending), count(lane.in_flight), since(lane.oldest, at),
  ]);
  showList(byId("lanes"), rows, ([lane]) => lane, ([lane, ...numbers]) => row(lane, ...numbers.map((text) => [text, "number"])));
}

function showEngine(engine) {
  setHidden(byId("engine-none"), engine !== null);
  const facts = engine === null ? [] : [
    ["Requests running", count(engine.running)],
    ["Requests waiting", count(engine.waiting)],
    ["Sequences a call", rate(engine.sequences_per_step)],
    ["Tokens read", count(engine.prefill_tokens)],
    ["Tokens written", count(engine.decode_tokens)],
  ];
  showList(byId("engine"), facts, ([name]) => name, ([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

function showRunning({ running }) {
  setHidden(byId("running-table"), running.length === 0);
  setHidden(byId("running-none"), running.length > 0);
  showList(byId("running-rows"), running, (job) => `${job.job_id} ${job.since}`, (job) => row(
    [job.restaurant_id, "name"], job.lane, [count(job.reviews), "number"], [moment(job.since, "since"), "number"],
  ));
}

function showResults({ results, totals }) {
  setText(byId("results-count"), totals.results > 0 ? `${count(totals.results)} since the start` : "");
  setHidden(byId("results-table"), results.length === 0);
  setHidden(byId("results-none"), results.length > 0);
  showList(byId("results"), results, (result) => `${result.job_id} ${result.at}`, (result) => row(
    [result.restaurant_id, "name"],
    h("span", { class: "outcome", "data-outcome": result.outcome }, words(result.outcome)),
    [result.lane, "wide"],
    [count(result.reviews), "number"],
    [count(result.reviews_read), "number wide"],
    [count(result.tokens), "number wide"],
    [milliseconds(result.queue_ms), "number wide"],
    [milliseconds(result.ttft_ms), "number"],
    [milliseconds(result.total_ms), "number wide"],
    [moment(result.at), "number"],
  ));
}

const milliseconds = (ms) => (ms === null ? DASH : span(ms / 1000));

function showLetters({ dead_letters: letters, totals }) {
  setText(byId("letters-count"), totals.dead_letters > 0 ? counted(totals.dead_letters, "letter") : "");
  setHidden(byId("letters-none"), letters.length > 0);
  showList(byId("letters"), letters, (letter) => `${letter.at} ${letter.job_id}`, (letter) => h("li", {},
    h("p", { class: "reason" }, h("b", {}, words(letter.code)), " ", h("span", {}, typed(letter.message))),
    h("p", { class: "note" }, letter.restaurant_id ?? "restaurant not known", ` · lane ${letter.lane} · `, moment(letter.at)),
  ));
}

function showGpus(gpus) {
  setHidden(byId("gpus-none"), gpus.length > 0);
  showList(byId("gpus"), gpus, (gpu) => gpu.device, (gpu) => h("li", {},
    h("h3", {}, gpu.name, " ", h("small", {}, `device ${gpu.device}`)),
    bar("Busy", gpu.utilization, percent(gpu.utilization)),
    bar("Memory", ratio(gpu.memory_used_bytes, gpu.memory_total_bytes), `${bytes(gpu.memory_used_bytes)} of ${bytes(gpu.memory_total_bytes)}`),
    h("p", { class: "note" }, `${measure(gpu.power_watts, "W")} · ${measure(gpu.temperature_celsius, "°C")}`),
  ));
}

const ratio = (part, all) => (part === null || !all ? null : part / all);
const measure = (value, unit) => `${value === null ? DASH : count(value)} ${unit}`;

// A share as a bar with its figure; without a share, only the dash.
function bar(name, share, text) {
  const meter = share === null ? null : h("meter", { min: 0, max: 1, value: share, "aria-label": name });
  return h("p", { class: "bar" }, h("span", {}, name), meter, h("b", {}, text));
}

offerThemes();
poll(show);
