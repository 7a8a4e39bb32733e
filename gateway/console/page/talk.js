/** The conversation of one run, in order. Long ones are shown from their end. Not the entries. */

import { button, h, say } from "./dom.js";
import { entryView } from "./entries.js";
import { isBlob } from "./format.js";

const SHOWN_MAX = 150;
const NEAR_PX = 160;

export function talk(job) {
  const list = h("div", { class: "talk-list" });
  const earlier = button(
    "",
    () => {
      more += SHOWN_MAX;
      draw(run, true);
    },
    { class: "earlier", hidden: true },
  );
  const newest = h("button", { type: "button", class: "newest", hidden: true, onclick: toEnd }, "↓ Newest");
  const node = h(
    "section",
    { "aria-label": "Conversation", class: "talk" },
    h("h2", { class: "unseen" }, "Conversation"),
    earlier,
    list,
    newest,
  );
  let run = null;
  let more = 0;
  let views = new Map(); // by entry: {rev, view}

  job.alreadySaid = (end) => {
    // The last reply is most often the result: it is not said twice.
    const reply = run?.entries.findLast((entry) => entry.kind === "reply" && entry.outcome === "completed");
    const texts = (reply?.parts ?? []).filter((part) => part.kind === "text" && !isBlob(part.text));
    return (
      texts
        .map((part) => part.text)
        .join("")
        .trim() === String(end.result).trim()
    );
  };

  job.alreadyFailed = (end) =>
    run?.entries.findLast((entry) => entry.kind === "reply")?.failure?.message === end.failure.message;

  function draw(next, again = false) {
    if (next !== run) {
      run = next;
      more = 0;
      views = new Map();
      list.replaceChildren();
    }
    if (!run) return;
    // Who has scrolled to the end wants to see what comes; who is at the top wants to stay there.
    const near = isNear() && scrollY > 0;
    const first = Math.max(0, run.entries.length - SHOWN_MAX - more);
    earlier.hidden = first === 0;
    say(earlier, `Show earlier (${first} more)`);
    place(run.entries.slice(first));
    if (near && !again && job.atWork()) toEnd();
    newest.hidden = isNear() || !job.atWork();
  }

  const isNear = () => document.documentElement.scrollHeight - (scrollY + innerHeight) < NEAR_PX;

  function toEnd() {
    scrollTo(0, document.documentElement.scrollHeight);
  }

  /** Put the views of these entries in the list: what is there already stays where it is. */
  function place(entries) {
    const wanted = new Set(entries);
    for (const [entry, { view }] of views) {
      if (wanted.has(entry)) continue;
      view.node.remove();
      views.delete(entry);
    }
    let after = null;
    for (const entry of entries) {
      const known = views.get(entry);
      if (!known) {
        const view = entryView(entry, job);
        views.set(entry, { rev: entry.rev, view });
        if (after === null) list.prepend(view.node);
        else after.after(view.node);
        after = view.node;
        continue;
      }
      if (known.rev !== entry.rev) {
        known.rev = entry.rev;
        known.view.update();
      }
      after = known.view.node;
    }
  }

  /** Show the entry with that id, also one that is far back. */
  function reveal(id) {
    const at = run?.entries.findIndex((entry) => entry.id === id) ?? -1;
    if (at < 0) return;
    more = Math.max(more, run.entries.length - at - SHOWN_MAX + 20);
    draw(run, true);
    const found = document.getElementById(`e-${id}`);
    if (!found) return;
    if (found instanceof HTMLDetailsElement) found.open = true;
    found.setAttribute("tabindex", "-1");
    found.focus();
    found.scrollIntoView({ block: "center" });
  }

  return { node, draw, reveal };
}
