/** The fold of a job's stream: what it makes of events, pieces, cuts and resets. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { totalsOf, treeOf } from "../fold.js";
import { draftText, stream } from "./told.js";

test("a job is its runs, each with what it said and called, in order", () => {
  const told = stream();
  told.begin();
  told.event("input.received.v2", {
    speaker: "user",
    parts: [{ kind: "text", text: "Go" }],
    by: { name: "ada" },
  });
  told.ask();
  told.reply("I look.");
  told.call("c1-0");
  told.event("tool_call.claimed.v1", { call: "c1-0" });
  told.event("tool_call.ended.v1", {
    call: "c1-0",
    outcome: "succeeded",
    content: [{ kind: "text", text: "ok" }],
    is_error: false,
  });
  told.event("run.completed.v2", { step: 1, result: "I look." });

  const run = told.run();
  assert.deepEqual(
    run.entries.map((entry) => entry.kind),
    ["input", "reply", "call", "end"],
  );
  assert.equal(run.entries[2].status, "succeeded");
  assert.equal(run.entries[2].claimedMs, 6_000);
  assert.deepEqual([run.status, told.state.status, run.result], ["completed", "completed", "I look."]);
  assert.deepEqual([run.tokens, run.money, told.state.missing], [15, 40, 0]);
});

test("an event that comes again changes nothing", () => {
  const told = stream();
  told.begin().ask();
  told.reply("Once.");
  const before = JSON.stringify([...told.run().entries]);
  for (const frame of [...told.frames]) told.hear(frame);

  assert.equal(JSON.stringify([...told.run().entries]), before);
  assert.deepEqual([told.run().tokens, told.state.events], [15, 3]);
});

test("a version that was jumped over is counted", () => {
  const told = stream();
  told.begin();
  const { data } = told.frames[0];
  told.hear({
    event: "todo.changed.v1",
    id: "a-9-0",
    data: { ...data, version: 4, event: { type: "todo.changed.v1", items: [] } },
  });
  assert.equal(told.state.missing, 2);
});

test("a stream that begins behind the start of a run has no gap", () => {
  const told = stream();
  told.hear({
    event: "step.ended.v1",
    id: "a-9-0",
    data: {
      run: "j",
      job: "j",
      parent: null,
      version: 40,
      at_ms: 1,
      event: { type: "step.ended.v1", step: 3 },
    },
  });
  assert.equal(told.state.missing, 0);
});

test("an event of a later release is carried and does no harm", () => {
  const told = stream();
  told.begin();
  told.event("something.new.v7", { what: "ever" });
  assert.deepEqual([told.run().version, told.run().entries.length], [2, 0]);
});

test("pieces of a reply are put together by their offsets, in characters", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.delta("Grüße 👋", 0);
  told.delta(" und", 7);
  assert.equal(draftText(told), "Grüße 👋 und");
});

test("pieces that come again, or overlap, are not doubled", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.delta("Hello ", 0);
  told.delta("lo wor", 3);
  told.delta("lo wor", 3);
  told.delta("ld", 9);
  assert.equal(draftText(told), "Hello world");
});

test("a lost piece shows as a gap until the record has all of it", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.delta("Hello ", 0);
  told.delta("rld", 8);
  assert.equal(draftText(told), "Hello  … rld");
  told.reply("Hello world");
  assert.equal(told.run().entries[0].parts[0].text, "Hello world");
});

test("what was said so far takes the place of what was heard, and pieces go on from there", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.delta("Hel", 0);
  told.soFar("Hello wo");
  told.delta("rld", 8);
  assert.equal(draftText(told), "Hello world");
});

test("what was said so far, if it is older than what was heard, takes nothing away", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.delta("Hello wo", 0);
  told.soFar("Hel");
  told.delta("rld", 8);
  assert.equal(draftText(told), "Hello world");
});

test("what was said so far comes before the history, and waits for it", () => {
  const told = stream();
  told.hear({ event: "hello", id: "a-0-0", data: { job: "j", cursor: "a-0-0" } });
  told.soFar("Hello");
  told.begin();
  told.ask();
  assert.equal(draftText(told), "Hello");
  told.delta(" world", 5);
  assert.equal(draftText(told), "Hello world");
});

test("a piece of an attempt that is over is not shown", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.reply("Done.");
  told.delta("late", 0);
  assert.deepEqual([told.run().entries[0].draft, told.state.drafts.size], [null, 0]);
});

test("what a failed attempt had said stays to be seen", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.delta("Half a", 0);
  told.event("generation.failed.v2", {
    step: 1,
    attempt: 1,
    failure: { kind: "network", message: "cut" },
    retryable: true,
    usage: null,
    charged: 7,
  });
  told.ask(1, 2);
  const [first, second] = told.run().entries;
  assert.deepEqual([first.outcome, [...first.unfinished.parts.values()][0].text], ["failed", "Half a"]);
  assert.deepEqual([second.open, second.draft, told.run().tokens], [true, null, 7]);
});

test("a reset begins anew from what the stream then tells", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.hear({ event: "reset", id: "b-0-0", data: { reason: "incarnation", cursor: "b-0-0" } });
  assert.deepEqual(
    [told.state.runs.size, told.state.cursor, told.state.resets, told.state.job],
    [0, "b-0-0", 1, "j"],
  );
});

test("heartbeats move the cursor and nothing else", () => {
  const told = stream();
  told.begin();
  const rev = told.state.rev;
  told.hear({ event: "heartbeat", id: "a-77-0", data: { cursor: "a-77-0" } });
  assert.deepEqual([told.state.cursor, told.state.rev], ["a-77-0", rev]);
});

test("a delegate is under the run that asked for it, and the job's totals count each once", () => {
  const told = stream();
  const child = { run: "k", parent: "j", expert: "clerk" };
  told.begin();
  told.ask();
  told.reply("Do it.");
  told.call("c1-0", { tool: "clerk", lane: "delegate" });
  told.event("delegation.requested.v2", { call: "c1-0", child: "k", expert: "clerk" });
  told.event("run.started.v2", { expert: "clerk", parent: { run: "j", call: "c1-0" } }, child);
  told.event("generation.requested.v2", { step: 1, attempt: 1 }, child);
  told.event(
    "generation.completed.v2",
    { step: 1, attempt: 1, parts: [], usage: null, charged: 100, charged_money: 60 },
    child,
  );
  told.event("run.completed.v2", { step: 1, result: "Done" }, child);
  told.event("delegation.settled.v2", {
    call: "c1-0",
    child: "k",
    status: "completed",
    steps: 1,
    tokens: 100,
    money: 60,
  });

  assert.deepEqual(
    treeOf(told.state).map(({ run, depth }) => [run.expert, depth]),
    [
      ["boss", 0],
      ["clerk", 1],
    ],
  );
  const { runs, tokens, money, running } = totalsOf(told.state);
  assert.deepEqual({ runs, tokens, money, running }, { runs: 2, tokens: 115, money: 100, running: 1 });
  assert.equal(told.run().calls.get("c1-0").child, "k");
  assert.equal(told.state.status, "running");
});

test("an approval waits with its digest until it is decided, and its call shows what was changed", () => {
  const told = stream();
  told.begin();
  told.call("c1-0");
  told.event("approval.requested.v1", { approval: "c1-0", digest: "ab12", reason: "letters", due_ms: 99 });
  assert.equal(totalsOf(told.state).waiting, 1);
  assert.equal(told.run().calls.get("c1-0").status, "waiting");
  told.event("approval.decided.v1", {
    approval: "c1-0",
    verdict: "edited",
    arguments: '{"to":"Eve"}',
    by: { name: "ada" },
  });
  const call = told.run().calls.get("c1-0");
  assert.deepEqual(
    [call.status, call.edited, call.waits[0].verdict, call.waits[0].untilMs],
    ["requested", '{"to":"Eve"}', "edited", 4_000],
  );
  assert.equal(totalsOf(told.state).waiting, 0);
});

test("what a tool asks of the model does not wait for a person", () => {
  const told = stream();
  told.begin();
  told.call("c1-0");
  told.event("tool_call.asked.v1", { call: "c1-0", ask: "a1", holder: "e", about: { kind: "sampling" } });
  assert.equal(totalsOf(told.state).waiting, 0);
  told.event("tool_call.asked.v1", {
    call: "c1-0",
    ask: "a2",
    holder: "e",
    about: { kind: "elicitation", message: "Sure?" },
  });
  assert.equal(totalsOf(told.state).waiting, 1);
});

test("the end of a run ends what waits and what is paused in it", () => {
  const told = stream();
  told.begin();
  told.call("c1-0");
  told.event("question.asked.v1", { call: "c1-0" });
  told.event("run.paused.v1", { command: "x" });
  told.event("run.cancel_requested.v2", { command: "y", reason: "enough" });
  told.event("run.cancelled.v1", { step: 1 });
  const run = told.run();
  assert.deepEqual(
    [run.status, run.pausedMs, run.cancelling, run.pauses[0].untilMs],
    ["cancelled", null, false, 6_000],
  );
  assert.equal([...run.waits.values()][0].untilMs, 6_000);
});

test("a run that is continued is at work again", () => {
  const told = stream();
  told.begin();
  told.event("run.completed.v2", { step: 1, result: "One" });
  told.hear({ event: "end", id: "a-2-0", data: { run: "j", job: "j", status: "completed" } });
  told.event("run.continued.v2", { command: "z", steps_max: 12 });
  assert.deepEqual(
    [told.run().status, told.state.status, told.run().stepsMax, told.run().endedMs],
    ["running", "running", 12, null],
  );
});

test("output of a running call is kept by its offsets and given up for the record", () => {
  const told = stream();
  const say = (text, offset) =>
    told.hear({
      event: "live",
      id: null,
      data: { type: "tool_output.v1", run: "j", job: "j", call: "c1-0", offset, text },
    });
  told.begin();
  say("early ", 0);
  told.call("c1-0");
  say("bird", 6);
  assert.equal(told.run().calls.get("c1-0").output.text, "early bird");
  told.event("tool_call.ended.v1", { call: "c1-0", outcome: "succeeded", content: [], is_error: false });
  say("!", 10);
  assert.deepEqual([told.run().calls.get("c1-0").output, told.state.outputs.size], [null, 0]);
});

test("output that was said so far is the end of it, and its beginning is marked as lost", () => {
  const told = stream();
  const names = { run: "j", job: "j", call: "c1-0" };
  told.hear({ event: "so_far", id: null, data: { ...names, offset: 100, text: "the end" } });
  told.begin();
  told.call("c1-0");
  told.hear({ event: "so_far", id: null, data: { ...names, offset: 103, text: " end, or so" } });
  assert.equal(told.run().calls.get("c1-0").output.text, " … the end, or so");
  assert.equal(told.state.drafts.size, 0);
});

test("money of an abandoned reply that came late is given back", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.event("generation.abandoned.v2", {
    step: 1,
    attempt: 1,
    reason: "holder_lost",
    charged: 100,
    charged_money: 90,
  });
  told.event("generation.superseded.v2", {
    step: 1,
    attempt: 1,
    usage: null,
    refunded: 60,
    refunded_money: 50,
  });
  assert.deepEqual([told.run().tokens, told.run().money], [40, 40]);
});

test("a fork says where its past is", () => {
  const told = stream();
  told.event("run.forked.v1", {
    source: { job: "old", run: "old", version: 9, hash: "h" },
    step: 2,
    expert: "boss",
    definition: "d",
    limits: {},
    edited: ["query"],
  });
  const [entry] = told.run().entries;
  assert.deepEqual([entry.kind, entry.source.job, entry.step], ["fork", "old", 2]);
});
