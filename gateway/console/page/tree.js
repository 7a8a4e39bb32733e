/** The runs of a job as links, each under the one that asked for it. */

import { h, put } from "./dom.js";
import { chip } from "./entries.js";
import { treeOf } from "./fold.js";
import { money, shortName, standing } from "./format.js";

const DEPTH_MAX = 6; // deeper ones are no further to the right

/** `{node, draw}`; `addressOf` is where a run is shown in the part of the job that is in view. */
export function runsTree(addressOf) {
  const node = h("ul", { class: "tree" });
  let drawn = "";

  function draw(state, chosen, part) {
    const rows = treeOf(state);
    const facts = rows.map(({ run }) => `${run.name} ${standing(run)} ${run.step} ${run.money}`);
    const now = [chosen.name, part, ...facts].join();
    if (now === drawn) return;
    drawn = now;
    const focused = node.contains(document.activeElement) ? document.activeElement.dataset.run : null;
    put(
      node,
      rows.map(({ run, depth }) => line(run, depth, run === chosen)),
    );
    if (focused) node.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
  }

  function line(run, depth, isChosen) {
    const used = `step ${run.step}${run.money ? ` · ${money(run.money)}` : ""}`;
    const link = {
      href: addressOf(run.name),
      "data-run": run.name,
      "aria-current": isChosen ? "true" : null,
    };
    return h(
      "li",
      { class: `deep${Math.min(depth, DEPTH_MAX)}` },
      h(
        "a",
        link,
        h("span", { class: "tree-name", title: run.expert }, shortName(run.expert)),
        chip(standing(run)),
        h("span", { class: "facts" }, used),
      ),
    );
  }

  return { node, draw };
}
