/** Frames as a stream tells them, for tests of the fold. Not the tests. */

import { emptyJob, fold } from "../fold.js";

/** A job whose stream is told piece by piece. */
export function stream(job = "j") {
  const versions = new Map();
  const told = { state: emptyJob(job), frames: [] };
  let seq = 0;
  const hear = (frame) => {
    told.frames.push(frame);
    told.state = fold(told.state, frame);
    return told;
  };
  told.hear = hear;
  told.event = (type, fields = {}, { run = job, parent = null, expert = "boss" } = {}) => {
    seq += 1;
    versions.set(run, (versions.get(run) ?? 0) + 1);
    const data = {
      run,
      job,
      expert,
      parent,
      version: versions.get(run),
      at_ms: 1_000 * seq,
      event: { type, ...fields },
    };
    return hear({ event: type, id: `a-${seq}-0`, data });
  };
  told.delta = (text, offset, more = {}) =>
    hear({
      event: "live",
      id: null,
      data: {
        type: "delta.v1",
        run: job,
        job,
        step: 1,
        attempt: 1,
        kind: "text",
        part: 0,
        offset,
        text,
        tool: "",
        ...more,
      },
    });
  told.soFar = (text, more = {}) =>
    hear({
      event: "so_far",
      id: null,
      data: { run: job, job, step: 1, attempt: 1, kind: "text", part: 0, text, tool: "", ...more },
    });
  told.run = (name = job) => told.state.runs.get(name);
  told.begin = () =>
    told.event("run.started.v2", { expert: "boss", definition: "d", limits: { steps_max: 9 } });
  told.ask = (step = 1, attempt = 1) => told.event("generation.requested.v2", { step, attempt });
  told.reply = (text, step = 1, attempt = 1) =>
    told.event("generation.completed.v2", {
      step,
      attempt,
      stop_reason: "end",
      parts: [{ kind: "text", text }],
      usage: { input: 10, output: 5 },
      charged: 15,
      charged_money: 40,
      model: "m1",
    });
  told.call = (call, more = {}) =>
    told.event("tool_call.requested.v2", {
      call,
      step: 1,
      tool: "send",
      skill: "office",
      lane: "tool",
      safety: "unsafe",
      arguments: "{}",
      ...more,
    });
  return told;
}

/** What a reader sees of a reply in the making. */
export const draftText = (told, run) =>
  [...(told.run(run).entries.at(-1).draft?.parts.values() ?? [])].map((part) => part.text).join("|");
