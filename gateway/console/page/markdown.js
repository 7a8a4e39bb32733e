/**
 * The small part of Markdown that models write most, as nodes. Never markup from a string: what is
 * not known here stays the text it is, and links lead to http and https only.
 */

import { h } from "./dom.js";

const INLINE =
  /(`+)([^`]+?)\1|\*\*([^*\n]+)\*\*|\*([^*\s][^*\n]*)\*|\[([^\]\n]{1,300})\]\((https?:\/\/[^\s)]{1,2000})\)/g;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const CHARS_MAX = 200_000; // beyond, plain text: nobody reads it, and the page has to stay quick

export function markdown(text) {
  const node = h("div", { class: "prose" });
  if (text.length > CHARS_MAX) {
    node.append(h("pre", { class: "plain-text" }, text));
    return node;
  }
  const lines = text.split("\n");
  let at = 0;
  while (at < lines.length) {
    const [made, next] = block(lines, at);
    if (made) node.append(made);
    at = next;
  }
  return node;
}

function block(lines, at) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const fence = /^\s*(```+|~~~+)/.exec(line);
  if (fence) return fenced(lines, at, fence[1]);
  const title = /^(#{1,6})\s+(.*)$/.exec(line);
  // Headings of a text are below those of the page, which has three levels of its own.
  if (title) return [h("p", { class: `title t${title[1].length}` }, inline(title[2])), at + 1];
  if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) return [h("hr"), at + 1];
  if (ITEM.test(line)) return list(lines, at);
  if (/^\s*>/.test(line)) return quoted(lines, at);
  if (/^\s*\|.*\|\s*$/.test(line))
    return gathered(
      lines,
      at,
      (one) => /^\s*\|.*\|\s*$/.test(one),
      (found) => h("pre", {}, found.join("\n")),
    );
  return gathered(
    lines,
    at,
    (one, first) => one.trim() && (first || !starts(one)),
    (found) =>
      h(
        "p",
        {},
        found.map((one, index) => [index ? h("br") : null, inline(one)]),
      ),
  );
}

const starts = (line) => ITEM.test(line) || /^\s*(```|~~~|#{1,6}\s|>)/.test(line);

function gathered(lines, at, fits, make) {
  let end = at;
  while (end < lines.length && fits(lines[end], end === at)) end += 1;
  return [make(lines.slice(at, end)), end];
}

function fenced(lines, at, mark) {
  let end = at + 1;
  while (end < lines.length && !lines[end].trim().startsWith(mark)) end += 1;
  return [h("pre", {}, h("code", {}, lines.slice(at + 1, end).join("\n"))), end + 1];
}

function quoted(lines, at) {
  return gathered(
    lines,
    at,
    (one) => /^\s*>/.test(one),
    (found) =>
      h(
        "blockquote",
        {},
        found.map((one) => h("p", {}, inline(one.replace(/^\s*> ?/, "")))),
      ),
  );
}

function list(lines, at) {
  const numbered = ITEM.exec(lines[at])[2] !== undefined;
  const items = [];
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    if (found) {
      const depth = Math.min(Math.floor(found[1].length / 2), 5);
      items.push(h("li", depth ? { class: `deep${depth}` } : {}, inline(found[3])));
    } else if (/^\s{2,}\S/.test(lines[end]) && items.length) {
      items.at(-1).append(" ", ...inline(lines[end].trim()));
    } else break;
    end += 1;
  }
  return [h(numbered ? "ol" : "ul", {}, items), end];
}

function inline(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > at) found.push(text.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[1]) found.push(h("code", {}, match[2]));
    else if (match[3]) found.push(h("strong", {}, match[3]));
    else if (match[4]) found.push(h("em", {}, match[4]));
    else found.push(h("a", { href: match[6], rel: "noopener noreferrer", target: "_blank" }, match[5]));
  }
  if (at < text.length) found.push(text.slice(at));
  return found;
}
