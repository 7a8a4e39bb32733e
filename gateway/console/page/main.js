/** Starts the console: which page is shown, by the part of the address after `#`. Not the pages. */

import { get, onSignedOut, remove } from "./api.js";
import { h, put } from "./dom.js";
import { help, shortcuts } from "./keys.js";
import { attempt, empty, themeSwitch } from "./shell.js";
import { auditPage } from "./audit.js";
import { jobPage } from "./job.js";
import { jobsPage } from "./jobs.js";
import { loginPage } from "./login.js";
import { searchPage } from "./search.js";
import { startPage } from "./start.js";
import { usagePage } from "./usage.js";

const PAGES = {
  jobs: ["Jobs", jobsPage],
  start: ["Start", startPage],
  search: ["Search", searchPage],
  usage: ["Usage", usagePage],
  audit: ["Audit", auditPage],
};

const main = document.getElementById("main");
let shown = null; // what the page in view wants to be told when it is left
let me = null;
let moved = false; // whether a page was shown before this one

/** Where we are: the name of the page, what it is about, and its parameters. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const words = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { name: words[0] ?? "jobs", words: words.slice(1), query: new URLSearchParams(query) };
}

function show() {
  if (location.hash === "#main") return;
  const here = place();
  // A page may take a change of its own parameters without being built anew.
  if (me !== null && shown?.moved?.(here)) return mark(here);
  shown?.close?.();
  shown = null;
  if (me === null) {
    put(main, loginPage(begin).node);
    return;
  }
  const make = here.name === "job" ? jobPage : PAGES[here.name]?.[1];
  shown = make
    ? make(here, me)
    : { node: empty("There is no such page.", h("a", { href: "#/jobs" }, "Jobs")) };
  put(main, shown.node);
  mark(here);
  scrollTo(0, 0);
  // Whoever changes the page is at its heading then; whoever opens the console is at its start.
  if (moved) main.querySelector("h1")?.focus({ preventScroll: true });
  moved = true;
}

function mark(here) {
  for (const link of document.querySelectorAll("#nav a")) {
    const current = link.dataset.page === here.name || (here.name === "job" && link.dataset.page === "jobs");
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function frame() {
  const links =
    me === null
      ? []
      : Object.entries(PAGES).map(([name, [label]]) =>
          h("a", { href: `#/${name}`, "data-page": name }, label),
        );
  put(document.getElementById("nav"), links);
  put(
    document.getElementById("tools"),
    h(
      "button",
      {
        type: "button",
        class: "plain",
        "aria-label": "Keyboard help",
        title: "Keyboard help (?)",
        onclick: help,
      },
      "?",
    ),
    themeSwitch(),
    me !== null &&
      me.via === "session" &&
      h(
        "button",
        { type: "button", class: "plain", onclick: leave, title: `${me.name}, ${me.role}` },
        "Sign out",
      ),
  );
}

async function leave() {
  await attempt(() => remove("/session"));
  me = null;
  begin();
}

/** Find out who we are, then show what the address says. */
async function begin() {
  try {
    me = await get("/me");
  } catch (error) {
    me = null;
    if (error.status !== 401) {
      frame();
      put(main, empty(error.message, h("button", { type: "button", onclick: begin }, "Try again")));
      return;
    }
  }
  frame();
  show();
}

onSignedOut(() => {
  if (me === null) return;
  me = null;
  frame();
  show();
});
addEventListener("hashchange", show);
shortcuts(() => shown);
begin();
