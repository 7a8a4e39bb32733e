/** What events of tool calls, and of what waits for people, do to a run. Pure, like `fold.js`. */

import { add, named, note, touch } from "./histories.js";

export function callRequested(run, event, data, state) {
  const entry = add(run, data, {
    kind: "call",
    call: event.call,
    step: event.step,
    tool: event.tool,
    skill: event.skill,
    lane: event.lane,
    safety: event.safety,
    arguments: event.arguments,
    edited: null,
    status: "requested",
    startedMs: data.at_ms,
    claimedMs: null,
    endedMs: null,
    output: state.outputs.get(`${run.name}.${event.call}`) ?? null,
    content: [],
    full: null,
    isError: false,
    child: null,
    waits: [],
  });
  run.toolCalls += 1;
  run.calls.set(event.call, entry);
}

function ofCall(run, name, change) {
  const entry = run.calls.get(name);
  if (!entry) return;
  Object.assign(entry, change);
  touch(run, entry);
}

export const callClaimed = (run, event, data) =>
  ofCall(run, event.call, { status: "running", claimedMs: data.at_ms });

export const callForwarded = (run, event) => ofCall(run, event.call, { status: "running" });

export const callRetried = (run, event) => ofCall(run, event.call, { status: "requested" });

export function callEnded(run, event, data, state) {
  state.outputs.delete(`${run.name}.${event.call}`);
  const entry = run.calls.get(event.call);
  if (!entry) return;
  for (const wait of entry.waits) wait.untilMs ??= data.at_ms;
  ofCall(run, event.call, {
    status: event.outcome,
    endedMs: data.at_ms,
    durationMs: event.duration_ms ?? null,
    content: event.content,
    full: event.full_output ?? null,
    isError: event.is_error,
    output: null,
  });
}

export const delegated = (run, event, data) =>
  ofCall(run, event.call, { child: event.child, status: "running", claimedMs: data.at_ms });

// What waits for people

function asked(run, id, data, more) {
  const wait = { id, sinceMs: data.at_ms, untilMs: null, dueMs: null, verdict: null, ...more };
  run.waits.set(id, wait);
  const entry = run.calls.get(wait.call);
  if (entry) {
    entry.waits.push(wait);
    ofCall(run, wait.call, { status: "waiting" });
  }
  return wait;
}

function answered(run, id, data, more) {
  const wait = run.waits.get(id);
  if (!wait) return;
  Object.assign(wait, { untilMs: data.at_ms, ...more });
  const entry = run.calls.get(wait.call);
  if (entry) ofCall(run, wait.call, entry.status === "waiting" ? { status: "requested" } : {});
  else note(run, data, `Going on beyond the soft limit: ${wait.verdict}${named(wait.by)}`);
}

export function approvalRequested(run, event, data) {
  const budget = event.limit != null;
  const kind = budget ? "budget" : "approval";
  const call = budget ? null : event.approval;
  const { digest, reason, due_ms: dueMs } = event;
  asked(run, event.approval, data, { kind, call, digest, reason, dueMs });
  if (budget) note(run, data, `The soft limit of ${event.limit} is reached: a person is asked`, "warn");
}

export function approvalDecided(run, event, data) {
  const { verdict, reason, by } = event;
  answered(run, event.approval, data, { verdict, reason, by, byRule: event.by_rule });
  if (event.arguments != null) ofCall(run, event.approval, { edited: event.arguments });
}

export const questionAsked = (run, event, data) =>
  asked(run, event.call, data, { kind: "question", call: event.call, dueMs: event.due_ms });

export const questionAnswered = (run, event, data) =>
  answered(run, event.call, data, {
    verdict: event.expired ? "expired" : "answered",
    by: event.by,
  });

export function toolAsked(run, event, data) {
  const kind = event.about?.kind === "sampling" ? "sampling" : "ask";
  asked(run, event.ask, data, { kind, call: event.call, dueMs: event.due_ms, about: event.about });
}

export function toolAnswered(run, event, data) {
  answered(run, event.ask, data, { verdict: event.action, by: event.by, content: event.content });
  ofCall(run, event.call, { status: "running" });
}
