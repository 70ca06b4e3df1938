// What was found about each restaurant. Names, claims and quotes are other people's words: they only ever become text.

import { announce, byId, h, moment, s, setHidden, setText, showList, tellAges } from "./dom.js";
import { count, counted, DASH, minute, percent, words } from "./format.js";
import { ask, now } from "./poll.js";
import { spark } from "./spark.js";

const PARTS = ["positive", "neutral", "negative"];
// A word typed is worth a look, a letter is not.
const PAUSE = 150;

let [opened, shown, asking, pausing] = ["", null, null, null];

// The list, as it is now.
export async function refresh() {
  const text = byId("search").value;
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const found = await ask(`api/restaurants?limit=100&q=${encodeURIComponent(text)}`, { signal: mine.signal });
    if (mine.signal.aborted) return;
    showFound(found, text);
  } catch (error) {
    if (mine.signal.aborted) return;
    setText(byId("restaurants-note"), error.message);
  }
}

function showFound(found, text) {
  const some = found.found > found.restaurants.length ? `, the newest ${count(found.restaurants.length)} are shown` : "";
  const what = text.trim() === "" ? `${counted(found.known, "restaurant")}` : `${count(found.found)} of ${counted(found.known, "restaurant")}`;
  const faults = [
    found.complete ? "" : " The results are still being read.",
    found.unreadable > 0 ? ` ${counted(found.unreadable, "result")} cannot be read.` : "",
    found.fault === null ? "" : ` ${found.fault}.`,
  ];
  setText(byId("restaurants-note"), what + some + "." + faults.join(""));
  const rows = found.restaurants.map((row) => ({ ...row, open: row.restaurant_id === opened }));
  showList(byId("restaurants"), rows, (row) => row.restaurant_id, line);
  const none = byId("restaurants-none");
  setHidden(none, rows.length > 0);
  setText(none, text.trim() === "" ? "No results yet. Hand in jobs: maitred submit" : "None has this in its name or id.");
  const newer = rows.find((row) => row.open && shown !== null && row.sequence > shown);
  if (newer) load(opened, false);
  tellAges(now());
}

function line(row) {
  return h("li", {}, h("a", {
    href: `#restaurants/${encodeURIComponent(row.restaurant_id)}`, "aria-current": row.open ? "true" : null,
  },
    h("span", { class: "name" }, row.name ?? row.restaurant_id),
    shares(row, "share small"),
    h("span", { class: "note" },
      counted(row.reviews, "review"), " · ", moment(row.at),
      row.outcome === "ok" || row.outcome === "unchanged" ? null : [" · ", outcome(row.outcome)],
    ),
  ));
}

const outcome = (status) => h("span", { class: "outcome", "data-outcome": status }, words(status));

// Shares as one bar. What is not known has no bar.
function shares(of, name) {
  const known = PARTS.every((part) => of[part] !== null && of[part] !== undefined);
  if (!known) return h("span", { class: "note nothing" }, DASH);
  const label = PARTS.map((part) => `${percent(of[part])} ${part}`).join(", ");
  let x = 0;
  const parts = PARTS.map((part) => {
    const width = of[part] * 100;
    const drawn = s("rect", { class: part, x, y: 0, width, height: 8 });
    x += width;
    return drawn;
  });
  return s("svg", { class: name, viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label }, parts);
}

// Shows one restaurant; `byHand`: somebody chose it, and wants to read it next.
export function open(id, byHand) {
  const before = opened;
  opened = id;
  document.documentElement.dataset.opened = id === "" ? "no" : "yes";
  refresh();
  if (id === "") {
    shown = null;
    byId("restaurant").replaceChildren(h("p", { class: "empty" }, "Choose a restaurant to read what guests say of it."));
    if (byHand && before !== "") focusLine(before);
    return;
  }
  // Until it is there, nothing of it can be too old.
  if (before !== id) shown = null;
  load(id, byHand);
}

async function load(id, byHand) {
  if (byHand || shown === null) byId("restaurant").setAttribute("aria-busy", "true");
  let content;
  try {
    const found = await ask(`api/restaurants/${encodeURIComponent(id)}`);
    if (id !== opened) return;
    shown = found.sequence;
    content = report(found);
  } catch (error) {
    if (id !== opened) return;
    content = [h("h2", { tabindex: -1 }, id), h("p", { class: "problem" }, error.message)];
  }
  const article = byId("restaurant");
  const wasRead = article.contains(document.activeElement);
  article.replaceChildren(...content);
  article.removeAttribute("aria-busy");
  tellAges(now());
  if (byHand || wasRead) article.querySelector("h2").focus({ preventScroll: true });
  if (byHand) {
    article.scrollIntoView({ block: "nearest" });
    announce(`${article.querySelector("h2").textContent} is shown.`);
  }
}

function report({ result, published_at: at, backfill }) {
  const { usage, model, outcomes } = result;
  const facts = [
    result.restaurant_name ? result.restaurant_id : null, counted(usage.reviews, "review"),
    `${count(usage.reviews_read)} read now`, backfill === null ? null : `backfill ${backfill}`,
  ].filter((fact) => fact !== null);
  return [
    h("p", { class: "back" }, h("a", { href: "#restaurants" }, "All restaurants")),
    h("h2", { tabindex: -1 }, result.restaurant_name ?? result.restaurant_id),
    h("p", { class: "note" }, outcome(result.outcome.status), " · ", facts.join(" · "), " · ", moment(at)),
    result.outcome.message ? h("p", { class: "problem" }, result.outcome.message) : null,
    result.summary ? h("p", { class: "overall", lang: result.language }, result.summary.overall.text) : null,
    part("Sentiment", outcomes.sentiment, result.sentiment, sentiment),
    part("Aspects", outcomes.summary, result.summary, (summary) => aspects(summary, result.language)),
    part("Strengths", outcomes.strengths, result.strengths, (strengths) => praise(strengths, result.language)),
    h("p", { class: "note model" }, `Read by ${model.name} on ${result.worker}, published ${minute(at)}, job ${result.job_id}.`),
  ].filter((node) => node !== null);
}

// A part of the result, or why there is none.
function part(title, outcome, found, show) {
  if (outcome === undefined) return null;
  const why = outcome.message ?? { no_data: "There was nothing to work on.", stale: "A newer job took its place." }[outcome.status];
  const body = found ? show(found) : h("p", { class: "empty" }, why ?? words(outcome.status));
  return h("section", {}, h("h3", {}, title), found && outcome.message ? h("p", { class: "problem" }, outcome.message) : null, body);
}

function sentiment(found) {
  if (found.total === 0) return h("p", { class: "empty" }, "No review could be labelled.");
  const of = Object.fromEntries(PARTS.map((part) => [part, found[`${part}_share`]]));
  const notes = [
    found.scope === "selected" ? "a sample of the reviews" : null,
    found.unread > 0 ? `${counted(found.unread, "review")} could not be read` : null,
  ].filter((note) => note !== null);
  const trend = found.trend.map((month) => {
    const all = month.positive + month.negative + month.neutral;
    return all > 0 ? month.positive / all : null;
  });
  return h("div", { class: "sentiment" },
    shares(of, "share"),
    h("dl", { class: "legend" }, PARTS.map((part) => h("div", { class: part },
      h("dt", {}, part), h("dd", {}, h("b", {}, percent(of[part])), ` ${count(found[part])}`)))),
    trend.length > 1 ? h("figure", {},
      spark(trend, { label: "Share of positive reviews by month", write: percent, most: 1 }),
      h("figcaption", { class: "note" }, `positive by month, ${found.trend[0].month} to ${found.trend.at(-1).month}`)) : null,
    notes.length > 0 ? h("p", { class: "note" }, notes.join(", ")) : null,
  );
}

function aspects(summary, language) {
  if (summary.aspects.length === 0) return h("p", { class: "empty" }, "No aspect has enough reviews behind it.");
  return h("ul", { class: "findings" }, summary.aspects.map((aspect) => h("li", {},
    h("h4", {}, words(aspect.aspect), " ", h("small", { class: aspect.polarity }, aspect.polarity)),
    h("p", { class: "note" },
      `${counted(aspect.support, "review")}, ${percent(aspect.positive_share)} praise it, ${percent(aspect.negative_share)} complain`),
    claim(aspect.claim, language),
    quotes(aspect.evidence, language),
  )));
}

function praise(strengths, language) {
  if (strengths.items.length === 0) return h("p", { class: "empty" }, "None is said often enough.");
  return h("ol", { class: "findings" }, strengths.items.map((strength) => h("li", {},
    h("h4", {}, words(strength.aspect), " ", h("small", {}, strength.kind)),
    h("p", { class: "note" }, [
      `${counted(strength.support, "review")}, ${percent(strength.support_ratio)} of those read`,
      strength.lift === undefined || strength.lift === null ? null : `${strength.lift.toFixed(1)} times as often as elsewhere`,
    ].filter((note) => note !== null).join(", ")),
    claim(strength.claim, language),
    quotes(strength.evidence, language),
  )));
}

// A claim that is a quote stands among the quotes already.
const claim = ({ text, origin }, language) => (origin === "extractive" ? null : h("p", { class: "claim", lang: language }, text));

function quotes(evidence, language) {
  return evidence.map(({ quote, review_id: review }) => h("blockquote", {},
    h("p", { lang: language }, quote), h("footer", { class: "note" }, `review ${review}`)));
}

function lines() {
  return [...byId("restaurants").querySelectorAll("a")];
}

function focusLine(id) {
  const found = [...byId("restaurants").children].find((child) => child.dataset.key === id);
  (found?.querySelector("a") ?? byId("search")).focus();
}

byId("search").addEventListener("input", () => {
  clearTimeout(pausing);
  pausing = setTimeout(refresh, PAUSE);
});
byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  lines()[0]?.click();
});
byId("view-restaurants").addEventListener("keydown", (event) => {
  const [all, at] = [lines(), document.activeElement];
  const n = all.indexOf(at);
  const moves = { ArrowDown: n + 1, ArrowUp: n - 1, Home: 0, End: all.length - 1 };
  const inSearch = at === byId("search");
  if (inSearch ? event.key === "ArrowDown" : n >= 0 && event.key in moves) {
    event.preventDefault();
    const to = moves[event.key];
    if (to < 0) byId("search").focus();
    else all[Math.min(to, all.length - 1)]?.focus();
  } else if (event.key === "Escape" && !inSearch) {
    if (n >= 0) byId("search").focus();
    else if (opened !== "") focusLine(opened);
  }
});
