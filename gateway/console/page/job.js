/** One job: its stream folded, and the parts that show it. Not the fold, nor the parts. */

import { get, seg } from "./api.js";
import { checkpointsPart } from "./checkpoints.js";
import { controls, speaker } from "./controls.js";
import { h, put } from "./dom.js";
import { filesPart } from "./files.js";
import { emptyJob, fold, treeOf } from "./fold.js";
import { jobHead } from "./head.js";
import { attempt } from "./shell.js";
import { follow } from "./sse.js";
import { talk } from "./talk.js";
import { timelinePart } from "./timeline.js";
import { runsTree } from "./tree.js";
import { waitsPanel } from "./waits.js";

const PARTS = {
  conversation: "Conversation",
  timeline: "Timeline",
  checkpoints: "Checkpoints",
  files: "Files",
};
const CLOCK_MS = 1_000;

export function jobPage(here, me) {
  const name = here.words[0];
  let state = emptyJob(name);
  let part = here.words[1] ?? "conversation";
  let chosen = here.query.get("run");
  let wanted = null; // the entry to be shown as soon as its conversation is drawn
  let due = false;
  const closing = new AbortController();

  const address = (to, run = chosen) => `#/job/${seg(name)}/${to}${run ? `?run=${seg(run)}` : ""}`;
  const go = (to, run = chosen) => {
    location.hash = address(to, run);
  };

  /** What the parts know of the job they are in. */
  const job = {
    name,
    act: me.role !== "viewer",
    state: () => state,
    run: () => state.runs.get(chosen) ?? state.runs.get(state.root),
    root: () => state.runs.get(state.root),
    atWork: () => job.run()?.status === "running",
    select: (run) => go(part, run),
    show(run, entry) {
      wanted = entry;
      go("conversation", run);
      schedule();
    },
  };

  const head = jobHead(name);
  job.heading = head.heading;
  const hold = controls(job);
  const waits = waitsPanel(job, job.act);
  const tree = runsTree((run) => address(part, run));
  const chat = talk(job);
  const speak = speaker(job);
  const parts = {
    conversation: { node: h("div", {}, chat.node, speak.node), draw: drawTalk },
    timeline: timelinePart(job),
    checkpoints: checkpointsPart(job),
    files: filesPart(job),
  };
  const nav = h("nav", { "aria-label": "Parts of the job", class: "tabs" });
  const view = h("div", { class: "part" });
  const narrow = matchMedia("(max-width: 800px)").matches;
  const runs = h("nav", { "aria-label": "Runs of the job" }, tree.node);
  const aside = h(
    "aside",
    {},
    h("details", { class: "runs", open: !narrow }, h("summary", {}, "Runs"), runs),
  );
  const node = h(
    "div",
    { class: "job" },
    h("p", { class: "back" }, h("a", { href: "#/jobs" }, "‹ Jobs")),
    head.node,
    job.act && hold.node,
    waits.node,
    h("div", { class: "job-body" }, aside, h("div", { class: "job-main" }, nav, view)),
  );

  /** Draw soon: once for all frames that come until then. */
  function schedule() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (!closing.signal.aborted) draw();
    });
  }

  function draw() {
    const run = job.run();
    if (!job.root() || !run) return;
    head.draw(state);
    tree.draw(state, run, part);
    hold.draw(run);
    waits.draw(state);
    parts[part]?.draw(run);
  }

  function drawTalk(run) {
    chat.draw(run);
    speak.draw(run);
    if (wanted === null) return;
    const entry = wanted;
    wanted = null;
    chat.reveal(entry);
  }

  function drawNav() {
    const links = Object.entries(PARTS).map(([key, label]) =>
      h("a", { href: address(key), "aria-current": key === part ? "page" : null }, label),
    );
    put(nav, links);
    put(view, parts[part]?.node ?? h("p", {}, "There is no such part."));
  }

  /** Take a change of the address that is still about this job. */
  function moved(next) {
    if (next.name !== "job" || next.words[0] !== name) return false;
    part = next.words[1] ?? "conversation";
    chosen = next.query.get("run");
    parts[part]?.shown?.();
    drawNav();
    schedule();
    return true;
  }

  function step(by) {
    const names = treeOf(state).map(({ run }) => run.name);
    const next = names[names.indexOf(job.run()?.name) + by];
    if (next) job.select(next);
  }

  follow({
    url: `/v1/jobs/${seg(name)}/events?live=1&follow=1`,
    hear(frame) {
      state = fold(state, frame);
      schedule();
    },
    told(what) {
      head.connection(what);
      if (what === "out") attempt(() => get("/me")); // a session that is over leads to the login
    },
    signal: closing.signal,
  });
  const ticking = setInterval(() => job.atWork() && schedule(), CLOCK_MS);
  globalThis.peritusJob = () => state; // for whoever looks with the developer's tools, and tests
  drawNav();

  return {
    node,
    moved,
    close() {
      closing.abort();
      clearInterval(ticking);
    },
    keys: {
      ...Object.fromEntries(Object.keys(PARTS).map((key, index) => [String(index + 1), () => go(key)])),
      j: () => step(1),
      k: () => step(-1),
      w: () => waits.node.querySelector("textarea, button.primary")?.focus(),
      c: () => speak.focus(),
      p: () => hold.toggle(),
      x: () => job.act && hold.cancel(),
    },
  };
}
