/** The head of a job: what is to be done, how it stands, what it used, and whether we hear of it. */

import { h, put, say } from "./dom.js";
import { chip } from "./entries.js";
import { totalsOf } from "./fold.js";
import { ago, money, plural, standing } from "./format.js";
import { announce, heading } from "./shell.js";

const TITLE_CHARS = 140;
const TAB_CHARS = 60;

const CONNECTION = {
  connecting: "Connecting…",
  live: "Live",
  waiting: "Connection lost, trying again…",
  gone: "There is no such job.",
  out: "You may not see this job.",
};

export function jobHead(name) {
  const title = heading(`Job ${name}`);
  const h1 = title.querySelector("h1");
  const facts = h("p", { class: "facts job-facts" });
  const status = h("span", { class: "job-status" });
  const link = h("span", { class: "connection" });
  const trouble = h("p", { class: "trouble", role: "alert" });
  const node = h("div", {}, title, h("div", { class: "job-line" }, status, facts, link), trouble);
  let stood = null;
  let told = "";
  let lost = false;

  function draw(state) {
    const root = state.runs.get(state.root);
    const query = queryOf(root) ?? `Job ${name}`;
    say(h1, query.length > TITLE_CHARS ? `${query.slice(0, TITLE_CHARS)}…` : query);
    document.title = `${query.slice(0, TAB_CHARS)} · Peritus`;
    const total = totalsOf(state);
    const own = standing(root);
    const stands = own === "running" && total.waiting ? "waiting" : own;
    if (stands !== stood) {
      if (stood !== null) announce(`The job is now: ${stands}`);
      stood = stands;
      put(status, chip(stands));
    }
    const used = [plural(total.tokens, "token"), money(total.money), ago(root.startedMs)];
    const done = [plural(total.runs, "run"), plural(total.steps, "step"), plural(total.toolCalls, "call")];
    say(facts, [root.expert, ...done, ...used].join(" · "));
    say(trouble, state.problem ? `A part of the history cannot be told: ${state.problem.detail}` : "");
  }

  /** Show how the stream is; who listens is told when it is lost, and when it is back. */
  function connection(what) {
    if (what === told) return;
    if (what === "waiting") announce("The connection is lost; trying again");
    if (what === "live" && lost) announce("The connection is back");
    lost = what === "waiting" || (lost && what === "connecting");
    told = what;
    link.dataset.state = what;
    say(link, CONNECTION[what]);
  }

  return { node, heading: h1, draw, connection };
}

function queryOf(root) {
  const said = root.entries.find((entry) => entry.kind === "input");
  const text = said?.parts.find((part) => part.kind === "text")?.text;
  return typeof text === "string" && text ? text : null;
}
