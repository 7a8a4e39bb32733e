/** One job: its stream folded, and the parts that show it. Not the fold, nor the parts. */

import { seg } from "./api.js";
import { h, put, say } from "./dom.js";
import { emptyJob, fold, totalsOf, treeOf } from "./fold.js";
import { chip } from "./entries.js";
import { checkpointsPart } from "./checkpoints.js";
import { controls, speaker } from "./controls.js";
import { filesPart } from "./files.js";
import { ago, money, plural, shortName, standing } from "./format.js";
import { announce, heading } from "./shell.js";
import { follow } from "./sse.js";
import { talk } from "./talk.js";
import { timelinePart } from "./timeline.js";
import { waitsPanel } from "./waits.js";

const PARTS = {
  conversation: "Conversation",
  timeline: "Timeline",
  checkpoints: "Checkpoints",
  files: "Files",
};
const CLOCK_MS = 1_000;
const TITLE_CHARS = 140;

const CONNECTION = {
  connecting: "Connecting…",
  live: "Live",
  waiting: "Connection lost, trying again…",
  gone: "There is no such job.",
  out: "You may not see this job.",
};

export function jobPage(here, me) {
  const name = here.words[0];
  let state = emptyJob(name);
  let part = here.words[1] ?? "conversation";
  let chosen = here.query.get("run");
  let due = false;
  let stood = null;
  const closing = new AbortController();

  const address = (to, run = chosen) => `#/job/${seg(name)}/${to}${run ? `?run=${seg(run)}` : ""}`;
  const job = {
    name,
    act: me.role !== "viewer",
    state: () => state,
    run: () => state.runs.get(chosen) ?? state.runs.get(state.root),
    root: () => state.runs.get(state.root),
    atWork: () => job.run()?.status === "running",
    select: (run) => (location.hash = address(part, run)),
    show: (run, entry) => {
      wanted = entry;
      location.hash = address("conversation", run);
      if (part === "conversation" && chosen === run) schedule();
    },
  };
  let wanted = null; // the entry to be shown when its conversation is drawn

  // The frame of the page
  const title = heading(`Job ${name}`);
  job.heading = title.querySelector("h1");
  const facts = h("p", { class: "facts job-facts" });
  const link = h("span", { class: "connection", "data-state": "connecting" }, CONNECTION.connecting);
  const status = h("span", { class: "job-status" });
  const hold = controls(job);
  const trouble = h("p", { class: "trouble", role: "alert" });
  const waits = waitsPanel(job, job.act);
  const tree = h("ul", { class: "tree" });
  const nav = h("nav", { "aria-label": "Parts of the job", class: "tabs" });
  const speak = speaker(job);
  const chat = talk(job);
  const parts = {
    conversation: { node: h("div", {}, chat.node, speak.node), draw: drawTalk },
    timeline: timelinePart(job),
    checkpoints: checkpointsPart(job),
    files: filesPart(job),
  };
  const view = h("div", { class: "part" });
  const runs = h(
    "details",
    { class: "runs", open: true },
    h("summary", {}, "Runs"),
    h("nav", { "aria-label": "Runs of the job" }, tree),
  );
  const node = h(
    "div",
    { class: "job" },
    h("p", { class: "back" }, h("a", { href: "#/jobs" }, "‹ Jobs")),
    title,
    h("div", { class: "job-line" }, status, facts, link),
    trouble,
    job.act && hold.node,
    waits.node,
    h("div", { class: "job-body" }, h("aside", {}, runs), h("div", { class: "job-main" }, nav, view)),
  );
  if (matchMedia("(max-width: 800px)").matches) runs.open = false;

  function schedule() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      if (!closing.signal.aborted) draw();
    });
  }

  function draw() {
    const root = job.root();
    const run = job.run();
    if (!root || !run) return;
    drawHead(root);
    drawTree(run);
    say(trouble, state.problem ? `A part of the history cannot be told: ${state.problem.detail}` : "");
    hold.draw(run);
    waits.draw(state);
    parts[part]?.draw(run, state);
  }

  function drawHead(root) {
    const text = root.entries
      .find((entry) => entry.kind === "input")
      ?.parts.find((one) => one.kind === "text")?.text;
    const query = typeof text === "string" && text ? text : `Job ${name}`;
    say(job.heading, query.length > TITLE_CHARS ? `${query.slice(0, TITLE_CHARS)}…` : query);
    document.title = `${query.slice(0, 60)} · Peritus`;
    const total = totalsOf(state);
    const stands =
      total.waiting && root.status === "running" && root.pausedMs === null && !root.cancelling
        ? "waiting"
        : standing(root);
    if (stands !== stood) {
      if (stood !== null) announce(`The job is now: ${stands}`);
      stood = stands;
      put(status, chip(stands));
    }
    say(
      facts,
      [
        root.expert,
        plural(total.runs, "run"),
        plural(total.steps, "step"),
        plural(total.toolCalls, "call"),
        plural(total.tokens, "token"),
        money(total.money),
        ago(root.startedMs),
      ].join(" · "),
    );
  }

  let drawnTree = "";
  function drawTree(run) {
    const rows = treeOf(state);
    const now =
      rows.map(({ run: one }) => `${one.name}${standing(one)}${one.step}${one.money}`).join() +
      run.name +
      part;
    if (now === drawnTree) return;
    drawnTree = now;
    const focused = tree.contains(document.activeElement) ? document.activeElement.dataset.run : null;
    put(
      tree,
      rows.map(({ run: one, depth }) =>
        h(
          "li",
          { class: `deep${Math.min(depth, 6)}` },
          h(
            "a",
            {
              href: address(part, one.name),
              "data-run": one.name,
              "aria-current": one === run ? "true" : null,
            },
            h("span", { class: "tree-name", title: one.expert }, shortName(one.expert)),
            chip(standing(one)),
            h("span", { class: "facts" }, `step ${one.step}${one.money ? ` · ${money(one.money)}` : ""}`),
          ),
        ),
      ),
    );
    if (focused) tree.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
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
    put(
      nav,
      Object.entries(PARTS).map(([key, label]) =>
        h("a", { href: address(key), "aria-current": key === part ? "page" : null }, label),
      ),
    );
    put(view, parts[part]?.node ?? h("p", {}, "There is no such part."));
  }

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
    const rows = treeOf(state).map(({ run }) => run.name);
    const at = rows.indexOf(job.run()?.name);
    if (rows[at + by]) job.select(rows[at + by]);
  }

  let told = "";
  function connection(what) {
    if (what === told) return;
    if (what === "waiting") announce("The connection is lost; trying again");
    else if (what === "live" && told === "connecting" && node.dataset.lost)
      announce("The connection is back");
    if (what === "waiting") node.dataset.lost = "1";
    told = what;
    link.dataset.state = what;
    say(link, CONNECTION[what]);
  }

  follow({
    url: `/v1/jobs/${seg(name)}/events?live=1&follow=1`,
    hear: (frame) => {
      state = fold(state, frame);
      schedule();
    },
    told: connection,
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
      ...Object.fromEntries(
        Object.keys(PARTS).map((key, index) => [String(index + 1), () => (location.hash = address(key))]),
      ),
      j: () => step(1),
      k: () => step(-1),
      w: () => waits.node.querySelector("textarea, button.primary")?.focus(),
      c: () => speak.focus(),
      p: () => hold.toggle(),
      x: () => job.act && hold.cancel(),
    },
  };
}
