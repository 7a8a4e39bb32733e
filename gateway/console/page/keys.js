/** The keyboard: shortcuts, and the dialog that tells of them. Tab and Enter work without these. */

import { h } from "./dom.js";
import { dialog } from "./shell.js";

const GO = { j: "#/jobs", n: "#/start", s: "#/search", u: "#/usage", a: "#/audit" };

const TOLD = [
  ["?", "this help"],
  ["g j", "jobs"],
  ["g n", "start a job"],
  ["g s", "search"],
  ["g u", "usage"],
  ["g a", "audit"],
  ["/", "to the filter or search field"],
  ["1 … 4", "the parts of a job: conversation, timeline, checkpoints, files"],
  ["j, k", "the next run, the one before"],
  ["w", "to what waits for you"],
  ["c", "to the field that speaks to the run"],
  ["p", "pause the job, or resume it"],
  ["x", "cancel the job (you are asked first)"],
  ["Esc", "close a dialog"],
];

let open = null;

export function help() {
  if (open?.isConnected) return;
  open = dialog(
    "Keyboard",
    h(
      "dl",
      { class: "keys" },
      TOLD.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]),
    ),
  );
}

const typing = (node) => node.closest("input, textarea, select, [contenteditable], dialog") !== null;

/** Listen; `page` gives the page in view, whose `keys` are its own. */
export function shortcuts(page) {
  let going = false;
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const { key } = event;
    if (going) {
      going = false;
      if (key in GO) {
        event.preventDefault();
        location.hash = GO[key];
      }
      return;
    }
    if (key === "g") going = true;
    else if (key === "?") help();
    else if (key === "/") press(event, () => document.querySelector("main input[type=search]")?.focus());
    else if (page()?.keys?.[key]) press(event, page().keys[key]);
  });
}

function press(event, act) {
  event.preventDefault();
  act();
}
