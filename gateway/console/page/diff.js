/** What changed between two checkpoints, as lines and tables. Not where the two come from. */

import { h, table } from "./dom.js";
import { bytes } from "./format.js";

const LINES_MAX = 4_000;

/** Whatever the gateway tells of: messages, state and files, each if there is something. */
export function diffView(diff) {
  return Object.entries(diff)
    .filter(([name, value]) => value !== null && typeof value === "object" && !["a", "b"].includes(name))
    .map(([name, value]) => section(name, value));
}

const TITLES = { messages: "Messages", state: "State", files: "Files", context: "Context" };

function section(name, value) {
  const list = Array.isArray(value) ? value : Object.entries(value);
  const body = list.length === 0 ? h("p", { class: "hint" }, "No change.") : drawn(name, value);
  return h("section", {}, h("h3", {}, TITLES[name] ?? name), body);
}

function drawn(name, value) {
  if (name === "files" && Array.isArray(value)) return files(value);
  return h("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));
}

function files(list) {
  return table("Files", ["Path", "Change", "Size"], list.map((one) => [one.path, one.change ?? "", one.bytes == null ? "" : bytes(one.bytes)]));
}

/** Lines that went, came and stayed, by the longest common run of them. */
export function lineDiff(before, after) {
  const a = before.split("\n").slice(0, LINES_MAX);
  const b = after.split("\n").slice(0, LINES_MAX);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const lines = (list, sign) => list.map((text) => ({ sign, text }));
  return [
    ...lines(a.slice(0, head), " "),
    ...lines(a.slice(head, a.length - tail), "-"),
    ...lines(b.slice(head, b.length - tail), "+"),
    ...lines(a.slice(a.length - tail), " "),
  ];
}
