/**
 * A job as its event stream tells it: frames folded into a state, one after the other.
 * Pure: no page, no clock, no network. What single events do is in `events.js`.
 */

import { EVENTS } from "./events.js";
import { touch } from "./histories.js";

const DRAFTS_MAX = 500;
const OUTPUT_CHARS_MAX = 100_000;

/** The state before the first frame. Maps keep the order in which things were first heard of. */
export function emptyJob(job) {
  return {
    job,
    cursor: null, // where the stream goes on
    root: null, // the name of the root run
    runs: new Map(),
    status: null, // of the root run
    lastMs: 0, // when the newest event was
    events: 0,
    missing: 0, // versions that were jumped over: none, if the stream keeps its word
    resets: 0,
    problem: null,
    drafts: new Map(), // replies in the making, also of attempts whose event is still to come
    outputs: new Map(), // what open calls said so far
    rev: 0,
  };
}

/** The state after one more frame; the same object, changed, so that 5,000 frames stay cheap. */
export function fold(state, frame) {
  const data = frame.data ?? {};
  if (frame.id) state.cursor = frame.id;
  switch (frame.event) {
    case "hello":
    case "heartbeat":
    case "goodbye":
      return state;
    case "reset": // what was folded is of a history that is not there any more
      return Object.assign(emptyJob(state.job), {
        cursor: frame.id ?? null,
        resets: state.resets + 1,
        rev: state.rev + 1,
      });
    case "problem":
      state.problem = data;
      break;
    case "end":
      if (data.run === state.root) state.status = data.status;
      break;
    case "live":
      hearLive(state, data);
      break;
    case "so_far":
      if (data.call) hearOutput(state, data);
      else hearDelta(state, data, 0);
      break;
    default:
      hearEvent(state, data);
  }
  state.rev += 1;
  return state;
}

function hearEvent(state, data) {
  if (!data.event) return;
  const run = runOf(state, data);
  // Versions of a run are contiguous: what was heard already changes nothing, and a gap is counted.
  if (data.version <= run.version) return;
  // A stream that begins behind the start of a run, at the edge of retention, is no gap.
  if (run.version > 0) state.missing += data.version - run.version - 1;
  run.version = data.version;
  run.updatedMs = data.at_ms;
  state.lastMs = Math.max(state.lastMs, data.at_ms);
  state.events += 1;
  const known = EVENTS[data.event.type.replace(/\.v\d+$/, "")];
  if (known) known(run, data.event, data, state);
  if (run.name === state.root) state.status = run.status;
  run.rev += 1;
}

function runOf(state, data) {
  const found = state.runs.get(data.run);
  if (found) return found;
  const run = {
    name: data.run,
    job: data.job,
    parent: data.parent ?? null,
    expert: data.expert ?? "",
    status: "running",
    step: 0,
    stepsMax: null,
    version: 0,
    startedMs: data.at_ms,
    endedMs: null,
    updatedMs: data.at_ms,
    pausedMs: null,
    cancelling: false,
    model: null,
    tokens: 0,
    money: 0, // micro-USD, of this run alone
    toolCalls: 0,
    entries: [], // what the conversation shows, in order
    replies: new Map(),
    calls: new Map(),
    waits: new Map(),
    pauses: [],
    todo: [],
    children: [],
    result: null,
    rev: 0,
  };
  state.runs.set(run.name, run);
  if (run.parent === null) state.root ??= run.name;
  else state.runs.get(run.parent)?.children.push(run.name);
  return run;
}

function hearLive(state, data) {
  if (data.type === "delta.v1") hearDelta(state, data, data.offset);
  else if (data.type === "tool_output.v1") hearOutput(state, data);
}

/** A piece of a reply, or all of it so far: offsets count characters, so nothing is taken twice. */
function hearDelta(state, data, offset) {
  const reply = state.runs.get(data.run)?.replies.get(`${data.step}.${data.attempt}`);
  if (reply && !reply.open) return; // the record has it
  const key = `${data.run}.${data.step}.${data.attempt}`;
  let draft = state.drafts.get(key);
  if (!draft) {
    draft = { parts: new Map() };
    state.drafts.set(key, draft);
    if (state.drafts.size > DRAFTS_MAX) state.drafts.delete(state.drafts.keys().next().value);
  }
  const place = `${data.part}.${data.kind}`;
  const part = draft.parts.get(place) ?? emptyText({ kind: data.kind, part: data.part });
  part.tool = data.tool || part.tool;
  draft.parts.set(place, part);
  takePiece(part, offset, data.text);
  if (reply) {
    reply.draft = draft;
    touch(state.runs.get(data.run), reply);
  }
}

function hearOutput(state, data) {
  const run = state.runs.get(data.run);
  const call = run?.calls.get(data.call);
  if (call?.endedMs != null) return;
  const key = `${data.run}.${data.call}`;
  const output = state.outputs.get(key) ?? emptyText({});
  state.outputs.set(key, output);
  takePiece(output, data.offset, data.text);
  if (output.text.length > OUTPUT_CHARS_MAX) {
    output.text = output.text.slice(-OUTPUT_CHARS_MAX);
    output.gap = true;
  }
  if (call) {
    call.output = output;
    touch(run, call);
  }
}

const emptyText = (more) => ({ text: "", chars: 0, gap: false, tool: "", ...more });

function takePiece(into, offset, text) {
  const points = Array.from(text); // characters as the server counts them, not UTF-16 units
  if (offset === 0 && points.length >= into.chars) {
    into.text = text;
    into.chars = points.length;
    into.gap = false;
    return;
  }
  if (offset > into.chars) {
    // A piece was lost. The record will have all of it; until then the place is marked.
    into.gap = true;
    into.text += " … ";
    into.chars = offset;
  }
  into.text += points.slice(into.chars - offset).join("");
  into.chars = Math.max(into.chars, offset + points.length);
}

/** The runs of a job, each before those it asked for, with how deep they are. */
export function treeOf(state) {
  const found = [];
  const visit = (name, depth) => {
    const run = state.runs.get(name);
    if (!run) return;
    found.push({ run, depth });
    for (const child of run.children) visit(child, depth + 1);
  };
  if (state.root !== null) visit(state.root, 0);
  return found;
}

/** Whether a wait is still open, and a person's: what a tool asks of the model is not. */
export const isForPeople = (wait) => wait.untilMs === null && wait.kind !== "sampling";

/** What the whole job used; each run counts its own, so nothing is counted twice. */
export function totalsOf(state) {
  const totals = { runs: 0, running: 0, tokens: 0, money: 0, steps: 0, toolCalls: 0, waiting: 0 };
  for (const run of state.runs.values()) {
    totals.runs += 1;
    totals.running += run.status === "running" ? 1 : 0;
    totals.tokens += run.tokens;
    totals.money += run.money;
    totals.steps += run.step;
    totals.toolCalls += run.toolCalls;
    if (run.status !== "running") continue;
    for (const wait of run.waits.values()) totals.waiting += isForPeople(wait) ? 1 : 0;
  }
  return totals;
}
