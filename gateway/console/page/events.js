/**
 * What each event does to a run, by its name without the version. Pure, like `fold.js`.
 * An event that is not here changes nothing that the page shows.
 */

import {
  approvalDecided,
  approvalRequested,
  callClaimed,
  callEnded,
  callForwarded,
  callRequested,
  callRetried,
  delegated,
  questionAnswered,
  questionAsked,
  toolAnswered,
  toolAsked,
} from "./calls.js";
import { add, named, note, touch } from "./histories.js";

function begin(run, event) {
  run.expert = event.expert || run.expert;
  run.definition = event.definition;
  run.stepsMax = event.limits?.steps_max ?? null;
}

function started(run, event, data) {
  begin(run, event);
  run.startedMs = data.at_ms;
}

function forked(run, event, data) {
  started(run, event, data);
  run.step = event.step;
  run.forkedFrom = { ...event.source, step: event.step };
  const edits = event.edited?.length ? `, with another ${event.edited.join(", ")}` : "";
  add(run, data, { kind: "fork", source: event.source, step: event.step, text: edits });
}

function continued(run, event, data) {
  run.status = "running";
  run.endedMs = null;
  run.cancelling = false;
  run.result = null;
  if (event.steps_max != null) run.stepsMax = event.steps_max;
  note(run, data, `Continued${named(event.by)}`);
}

function inputReceived(run, event, data) {
  add(run, data, { kind: "input", speaker: event.speaker, parts: event.parts, by: event.by });
}

function contextPinned(run, event, data) {
  run.model = event.model;
  if (event.cause === "fallback") note(run, data, `Went on with another model: ${event.model.model}`, "warn");
}

// Generations

function generationRequested(run, event, data, state) {
  run.step = event.step;
  const key = `${event.step}.${event.attempt}`;
  const entry = add(run, data, {
    kind: "reply",
    step: event.step,
    attempt: event.attempt,
    open: true,
    outcome: null,
    parts: [],
    draft: state.drafts.get(`${run.name}.${key}`) ?? null,
    startedMs: data.at_ms,
    endedMs: null,
    model: run.model?.model ?? "",
    usage: null,
    money: 0,
  });
  run.replies.set(key, entry);
}

function closeReply(run, event, data, state, outcome, more = {}) {
  const key = `${event.step}.${event.attempt}`;
  state.drafts.delete(`${run.name}.${key}`);
  run.tokens += event.charged ?? 0;
  run.money += event.charged_money ?? 0;
  const entry = run.replies.get(key);
  if (!entry) return;
  const heard = entry.draft; // what a failed attempt had said stays to be seen
  Object.assign(entry, { open: false, outcome, endedMs: data.at_ms, draft: null });
  Object.assign(entry, { usage: event.usage ?? null, money: event.charged_money ?? 0 }, more);
  if (outcome !== "completed" && heard) entry.unfinished = heard;
  touch(run, entry);
}

const generationCompleted = (run, event, data, state) =>
  closeReply(run, event, data, state, "completed", {
    parts: event.parts,
    stopReason: event.stop_reason,
    model: event.model || run.model?.model || "",
  });

const generationFailed = (run, event, data, state) =>
  closeReply(run, event, data, state, "failed", {
    failure: event.failure,
    retryable: event.retryable,
  });

const generationAbandoned = (run, event, data, state) =>
  closeReply(run, event, data, state, "abandoned", { reason: event.reason });

function refunded(run, event) {
  run.tokens -= event.refunded ?? 0;
  run.money -= event.refunded_money ?? 0;
}

function samplingEnded(run, event) {
  run.tokens += event.charged ?? 0;
  run.money += event.charged_money ?? 0;
}

// How a run is held and ends

function paused(run, event, data) {
  run.pausedMs = data.at_ms;
  run.pauses.push({ sinceMs: data.at_ms, untilMs: null });
  note(run, data, `Paused${named(event.by)}`);
}

function resumed(run, event, data) {
  run.pausedMs = null;
  const last = run.pauses.at(-1);
  if (last) last.untilMs ??= data.at_ms;
  note(run, data, `Resumed${named(event.by)}`);
}

function cancelRequested(run, event, data) {
  run.cancelling = true;
  const why = event.reason ? `: ${event.reason}` : "";
  const what = event.limit ? `The limit of ${event.limit} is reached` : "Cancel asked for";
  note(run, data, `${what}${named(event.by)}${why}`, "warn");
}

function end(run, event, data, status, more) {
  Object.assign(run, { status, endedMs: data.at_ms, pausedMs: null, cancelling: false });
  if (event.step != null) run.step = event.step;
  for (const wait of run.waits.values()) wait.untilMs ??= data.at_ms;
  for (const pause of run.pauses) pause.untilMs ??= data.at_ms;
  run.result = more.result ?? null;
  add(run, data, { kind: "end", status, ...more });
}

const snapshotTaken = (run, event, data) => {
  run.snapshots = (run.snapshots ?? 0) + 1; // who shows files looks again
  if (event.problem)
    note(run, data, `The files of step ${event.step} were not stored: ${event.problem}`, "warn");
};

export const EVENTS = {
  "run.started": started,
  "run.forked": forked,
  "run.continued": continued,
  "input.received": inputReceived,
  "context.pinned": contextPinned,
  "generation.requested": generationRequested,
  "generation.completed": generationCompleted,
  "generation.failed": generationFailed,
  "generation.abandoned": generationAbandoned,
  "generation.superseded": refunded,
  "sampling.ended": samplingEnded,
  "sampling.settled": refunded,
  "tool_call.requested": callRequested,
  "tool_call.claimed": callClaimed,
  "tool_call.retried": callRetried,
  "tool_call.forwarded": callForwarded,
  "tool_call.ended": callEnded,
  "tool_call.asked": toolAsked,
  "tool_call.answered": toolAnswered,
  "tool_result.late": (run, event, data) =>
    note(run, data, `A second, different result of call ${event.call} came late`, "warn"),
  "delegation.requested": delegated,
  "approval.requested": approvalRequested,
  "approval.decided": approvalDecided,
  "question.asked": questionAsked,
  "question.answered": questionAnswered,
  "team.changed": (run, event, data) =>
    note(run, data, `Changed its team: ${event.action} ${event.names.join(", ")}`),
  "policy.changed": (run, event, data) => note(run, data, `The rules changed${named(event.by)}`),
  "todo.changed": (run, event) => {
    run.todo = event.items;
  },
  "sandbox.placed": (run, event, data) => {
    if (event.lost) note(run, data, `The workspace was brought back: ${event.lost}`, "warn");
  },
  "sandbox.lost": (run, event, data) => note(run, data, "The worker that held the workspace is gone", "warn"),
  "snapshot.taken": snapshotTaken,
  "limit.reached": (run, event, data) =>
    note(run, data, `The limit of ${event.limit} leaves nothing for call ${event.call}`, "warn"),
  "run.paused": paused,
  "run.resumed": resumed,
  "run.cancel_requested": cancelRequested,
  "run.completed": (run, event, data) =>
    end(run, event, data, "completed", { result: event.result, typed: event.typed }),
  "run.stopped": (run, event, data) => end(run, event, data, "stopped", { limit: event.limit }),
  "run.failed": (run, event, data) => end(run, event, data, "failed", { failure: event.failure }),
  "run.deleted": (run, event, data) => {
    run.status = "deleted";
    note(run, data, `The job was deleted${named(event.by)}`, "warn");
  },
  "run.cancelled": (run, event, data) => end(run, event, data, "cancelled", {}),
};
