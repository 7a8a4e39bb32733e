/** What the timeline shows, worked out from a folded job: pure, no picture. */

import { treeOf } from "./fold.js";

/**
 * Lanes, one a run: `{run, depth, rows, spans}`. A span has `kind` (generation, call, child, wait,
 * pause), `from`, `to` (null while it goes on), `row` within its lane, and `entry` to look up.
 */
export function lanesOf(state) {
  return treeOf(state).map(({ run, depth }) => {
    const spans = run.entries.flatMap((entry) => spansOf(entry));
    for (const wait of run.waits.values()) {
      if (wait.call === null)
        spans.push(span("wait", wait.sinceMs, wait.untilMs, "budget", wait.verdict, null));
    }
    for (const pause of run.pauses)
      spans.push(span("pause", pause.sinceMs, pause.untilMs, "paused", null, null));
    return { run, depth, spans, rows: stack(spans) };
  });
}

const span = (kind, from, to, name, state, entry) => ({ kind, from, to, name, state, entry, row: 0 });

function spansOf(entry) {
  if (entry.kind === "reply") {
    const name = `step ${entry.step}${entry.attempt > 1 ? `, attempt ${entry.attempt}` : ""}`;
    return [
      span("generation", entry.startedMs, entry.endedMs, name, entry.open ? "running" : entry.outcome, entry),
    ];
  }
  if (entry.kind !== "call") return [];
  const waits = entry.waits.map((wait) =>
    span("wait", wait.sinceMs, wait.untilMs, `${entry.tool}: ${wait.kind}`, wait.verdict, entry),
  );
  const kind = entry.child === null ? "call" : "child";
  return [span(kind, entry.startedMs, entry.endedMs, entry.tool, entry.status, entry), ...waits];
}

const ROWS_MAX = 6;

/** Gives spans that are at work at once rows of their own; how many rows that makes. */
function stack(spans) {
  const until = []; // by row: when it is free again
  let most = 1;
  for (const one of spans) {
    if (one.kind === "generation" || one.kind === "pause") continue; // always the first row
    if (one.kind === "wait") continue; // in the row of its call
    let row = 1;
    while (row < ROWS_MAX && (until[row] ?? -1) > one.from) row += 1;
    until[row] = one.to ?? Infinity;
    one.row = row;
    most = Math.max(most, row + 1);
  }
  const rows = new Map(
    spans.filter((one) => one.entry).map((one) => [one.kind === "wait" ? null : one.entry, one.row]),
  );
  for (const one of spans) if (one.kind === "wait") one.row = rows.get(one.entry) ?? 0;
  return most;
}

/** The first and the last moment of a job; what goes on reaches to `nowMs`. */
export function extentOf(lanes, nowMs) {
  let from = Infinity;
  let to = -Infinity;
  for (const { run, spans } of lanes) {
    from = Math.min(from, run.startedMs);
    to = Math.max(to, run.endedMs ?? (run.status === "running" ? nowMs : run.updatedMs));
    for (const one of spans) to = Math.max(to, one.to ?? nowMs);
  }
  return { from, to: Math.max(to, from + 1) };
}

const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5,
  216e5, 864e5,
];

/** Moments for the axis: round ones, no more than fit. */
export function ticksOf(lengthMs, most) {
  const step = STEPS.find((one) => lengthMs / one <= most) ?? 864e5 * Math.ceil(lengthMs / 864e5 / most);
  const found = [];
  for (let at = 0; at <= lengthMs; at += step) found.push(at);
  return found;
}
