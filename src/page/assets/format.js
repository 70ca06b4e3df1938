// How figures are written. What is not known is a dash, never a zero.

export const DASH = "–";

const isKnown = (value) => value !== null && value !== undefined && Number.isFinite(value);
const formats = new Map();

function fixed(value, digits) {
  if (!formats.has(digits)) {
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(digits, new Intl.NumberFormat("en", options));
  }
  return formats.get(digits).format(value);
}

// 1,234
export const count = (value) => (isKnown(value) ? fixed(value, 0) : DASH);

// 1,234 · 56.7 · 8.90
export function rate(value) {
  if (!isKnown(value)) return DASH;
  return fixed(value, value >= 100 || value === 0 ? 0 : value >= 10 ? 1 : 2);
}

// 87 %
export function percent(share) {
  if (!isKnown(share)) return DASH;
  // Nearly all is not all, and nearly nothing is something.
  if (share > 0.99 && share < 1) return "> 99 %";
  if (share > 0 && share < 0.01) return "< 1 %";
  return `${fixed(share * 100, 0)} %`;
}

// 0.31 s · 12 s · 4 min · 3 h · 2 d
export function span(seconds) {
  if (!isKnown(seconds)) return DASH;
  if (seconds < 0.0995) return `${fixed(seconds * 1000, 0)} ms`;
  if (seconds < 9.995) return `${fixed(seconds, 2)} s`;
  if (seconds < 99.5) return `${fixed(seconds, 0)} s`;
  if (seconds < 5970) return `${fixed(seconds / 60, 0)} min`;
  if (seconds < 172800) return `${fixed(seconds / 3600, 0)} h`;
  return `${fixed(seconds / 86400, 0)} d`;
}

// The same in whole seconds: how long ago is not known better.
export const whole = (seconds) => (isKnown(seconds) && seconds < 99.5 ? `${fixed(seconds, 0)} s` : span(seconds));

// How long ago something was. Both times come from the same clock, the server's.
export function since(then, now) {
  return then && now ? whole(Math.max(0, (Date.parse(now) - Date.parse(then)) / 1000)) : DASH;
}

// 12 s ago
export const ago = (then, now) => (then && now ? `${since(then, now)} ago` : DASH);

// 17.5 GiB
export function bytes(value) {
  if (!isKnown(value)) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let n = 0;
  while (value >= 1024 && n < units.length - 1) {
    value /= 1024;
    n += 1;
  }
  return `${fixed(value, n > 0 && value < 100 ? 1 : 0)} ${units[n]}`;
}

// 2026-06-15 12:34, in the time of who looks.
export function minute(then) {
  const date = new Date(then);
  if (Number.isNaN(date.getTime())) return DASH;
  const two = (n) => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

// 1 job, 2 jobs
export const counted = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

// no_data → no data
export const words = (name) => String(name).replaceAll("_", " ");
