/** Who did what, and when, newest first. */

import { look, seg } from "./api.js";
import { button, h, put, table } from "./dom.js";
import { moment } from "./format.js";
import { attempt, busy, empty, heading } from "./shell.js";

export function auditPage() {
  const list = h("div", {}, busy());
  const pages = h("div", { class: "actions" });
  const node = h("section", {}, heading("Audit"), list, pages);
  const trail = [null];

  async function load() {
    const found = await attempt(() => look("/audit", { limit: 50, cursor: trail.at(-1) }));
    if (!found) return put(list, empty("The list cannot be read now."));
    const rows = found.entries.map((one) => [
      moment(one.at_ms),
      one.name ? `${one.name} (${one.via})` : "—",
      one.action.replaceAll("_", " "),
      h("a", { href: `#/job/${seg(one.job)}/conversation?run=${seg(one.run)}` }, one.what || one.run),
      one.detail,
    ]);
    put(
      list,
      rows.length
        ? table("Who did what", ["When", "Who", "Action", "What", "Detail"], rows)
        : empty("Nobody has done anything yet."),
    );
    put(
      pages,
      trail.length > 1 && button("‹ Newer", () => (trail.pop(), load())),
      found.next_cursor && button("Older ›", () => (trail.push(found.next_cursor), load())),
    );
    return undefined;
  }

  load();
  return { node };
}
