/** How figures, times and states are written. Not where they are shown. */

import { isForPeople } from "./fold.js";

export function money(microUsd) {
  if (!microUsd) return "$0";
  const usd = microUsd / 1e6;
  return usd < 0.01 ? `$${usd.toFixed(4)}` : `$${usd.toFixed(2)}`;
}

export function count(number) {
  if (number < 10_000) return String(number ?? 0);
  if (number < 1e6) return `${(number / 1e3).toFixed(number < 1e5 ? 1 : 0)}k`;
  return `${(number / 1e6).toFixed(1)}M`;
}

export function duration(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1e3).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = Math.floor((ms % 60_000) / 1e3);
  if (minutes < 60) return seconds ? `${minutes} min ${seconds} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function ago(ms, nowMs = Date.now()) {
  const past = Math.max(0, nowMs - ms);
  if (past < 45_000) return "just now";
  if (past < 3_600_000) return `${Math.round(past / 60_000)} min ago`;
  if (past < 86_400_000) return `${Math.round(past / 3_600_000)} h ago`;
  return new Date(ms).toLocaleDateString(undefined, { dateStyle: "medium" });
}

export const clock = (ms) => new Date(ms).toLocaleTimeString(undefined, { timeStyle: "medium" });

export const moment = (ms) =>
  new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function bytes(size) {
  if (size < 1_024) return `${size} B`;
  if (size < 1_048_576) return `${(size / 1_024).toFixed(1)} KiB`;
  return `${(size / 1_048_576).toFixed(1)} MiB`;
}

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** What people call a model: of a script, which is a file, its name alone. */
export const modelName = (model) => (model.startsWith("/") ? model.split("/").at(-1) : model);

/** An expert's name without the team it belongs to, where there is little room. */
export const shortName = (expert) => expert.split("/").at(-1);

export const isBlob = (text) => typeof text === "object" && text !== null && "digest" in text;

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const UNSEEN =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udfff]/g;

/**
 * JSON text with line breaks, token by token: large numbers and doubled names stay as they were
 * written. What cannot be seen, or turns the direction of a line, is written as JSON escapes it:
 * who approves has to see what runs. Text that is no JSON stays as it is.
 */
export function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  const indent = (depth) => `\n${"  ".repeat(depth)}`;
  let [out, depth, opened] = ["", 0, false];
  for (const [token] of text.matchAll(TOKEN)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    // What follows a bracket begins a line; an end does unless it directly follows its beginning.
    if (closes ? !opened : opened) out += indent(depth);
    opened = token === "{" || token === "[";
    if (opened) depth += 1;
    if (token === ",") out += `,${indent(depth)}`;
    else out += token === ":" ? ": " : token;
  }
  return visible(out);
}

/** Whether a page can hold every number of a JSON text: it rounds those of more digits. */
export const isExact = (text) => ![...text.matchAll(TOKEN)].some(([token]) => /^-?[\d.]{16,}/.test(token));

const escaped = (found) =>
  [...Array(found.length).keys()]
    .map((at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`)
    .join("");

/** The text with everything that cannot be seen made visible, but for line breaks. */
export const visible = (text) => text.replace(UNSEEN, escaped);

/** The thought in a provider's own block; empty when only the provider can read it. */
export function thought(block) {
  let value;
  try {
    value = JSON.parse(block);
  } catch {
    return "";
  }
  if (value === null || typeof value !== "object") return "";
  if (![undefined, null, "thinking", "reasoning"].includes(value.type)) return "";
  for (const key of ["thinking", "reasoning_content", "reasoning"]) {
    if (typeof value[key] === "string") return value[key];
  }
  const texts = (items) =>
    (Array.isArray(items) ? items : []).map((item) => item?.text).filter((t) => typeof t === "string");
  return texts(value.summary).join("\n\n") || texts(value.content).join("");
}

/** A state as a word and a sign, so that it is not told by colour alone. */
export const STATES = {
  running: ["running", "●"],
  waiting: ["waits for you", "◆"],
  paused: ["paused", "‖"],
  cancelling: ["stopping", "◌"],
  requested: ["asked for", "○"],
  completed: ["completed", "✓"],
  succeeded: ["succeeded", "✓"],
  stopped: ["stopped", "■"],
  failed: ["failed", "✕"],
  refused: ["refused", "✕"],
  cancelled: ["cancelled", "⊘"],
  outcome_unknown: ["outcome unknown", "?"],
  deleted: ["deleted", "⊘"],
  abandoned: ["abandoned", "⊘"],
};

/** How a run stands, as one word of `STATES`. */
export function standing(run) {
  if (run.status !== "running") return run.status;
  if (run.cancelling) return "cancelling";
  if (run.pausedMs !== null) return "paused";
  return [...run.waits.values()].some(isForPeople) ? "waiting" : "running";
}
