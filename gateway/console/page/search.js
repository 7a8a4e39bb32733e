/** Searches what was said in all histories. Words are looked for as they are; no query language. */

import { look, seg } from "./api.js";
import { button, h, put } from "./dom.js";
import { moment } from "./format.js";
import { attempt, empty, heading } from "./shell.js";

const MARK = /\u0002([^\u0003]*)\u0003/g;

export function searchPage(here) {
  const asked = here.query.get("q") ?? "";
  const words = h("input", { type: "search", id: "q", value: asked, required: true });
  const list = h("ol", { class: "hits" });
  const more = h("div", { class: "actions" });
  const state = h("p", { class: "hint", role: "status" });
  const find = (event) => {
    event.preventDefault();
    location.hash = `#/search?q=${seg(words.value.trim())}`;
  };
  const node = h(
    "section",
    {},
    heading("Search"),
    h(
      "form",
      { role: "search", class: "filters", onsubmit: find },
      h("div", { class: "wide" }, h("label", { for: "q" }, "Words that all occur"), words),
      h("button", { type: "submit", class: "primary" }, "Search"),
    ),
    state,
    list,
    more,
  );

  async function load(cursor) {
    put(state, "Searching…");
    const found = await attempt(() => look("/search", { q: asked, cursor, limit: 30 }));
    if (!found) return put(state);
    list.append(...found.hits.map(hitNode));
    put(
      state,
      list.children.length ? `${list.children.length} places, newest first` : empty("Nothing is like that."),
    );
    put(more, found.next_cursor && button("More", () => load(found.next_cursor)));
    return undefined;
  }

  if (asked) load(null);
  else put(state, "Inputs, replies, tool calls, results, questions and answers of all jobs.");
  return { node };
}

function hitNode(hit) {
  return h(
    "li",
    { class: "card" },
    h("a", { href: `#/job/${seg(hit.job)}/conversation?run=${seg(hit.run)}` }, `Job ${hit.job}`),
    h("span", { class: "facts" }, ` ${hit.kind} · ${moment(hit.at_ms)}`),
    h("p", { class: "hit-text" }, marked(hit.text)),
  );
}

function marked(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(MARK)) {
    found.push(text.slice(at, match.index), h("mark", {}, match[1]));
    at = match.index + match[0].length;
  }
  return [...found, text.slice(at)];
}
