/** What the timeline works out: lanes, rows, ticks. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { extentOf, lanesOf, ticksOf } from "../spans.js";
import { stream } from "./told.js";

test("a lane has the replies, the calls and what waited, each from when to when", () => {
  const told = stream();
  told.begin();
  told.ask();
  told.reply("x");
  told.call("c1-0");
  told.event("approval.requested.v1", { approval: "c1-0", digest: "d" });
  told.event("approval.decided.v1", { approval: "c1-0", verdict: "approved" });
  told.event("tool_call.ended.v1", { call: "c1-0", outcome: "succeeded", content: [] });
  const [lane] = lanesOf(told.state);
  assert.deepEqual(
    lane.spans.map(({ kind, from, to }) => [kind, from, to]),
    [
      ["generation", 2_000, 3_000],
      ["call", 4_000, 7_000],
      ["wait", 5_000, 6_000],
    ],
  );
});

test("calls that are at work at once have rows of their own, and later ones take a free one", () => {
  const told = stream();
  told.begin();
  told.call("a");
  told.call("b");
  told.event("tool_call.ended.v1", { call: "a", outcome: "succeeded", content: [] });
  told.call("c");
  const [lane] = lanesOf(told.state);
  assert.deepEqual(
    lane.spans.map((one) => one.row),
    [1, 2, 1],
  );
  assert.equal(lane.rows, 3);
});

test("what goes on reaches to now", () => {
  const told = stream();
  told.begin();
  told.ask();
  const lanes = lanesOf(told.state);
  assert.deepEqual(extentOf(lanes, 9_000), { from: 1_000, to: 9_000 });
});

test("ticks are round and no more than fit", () => {
  assert.deepEqual(ticksOf(1_000, 5), [0, 200, 400, 600, 800, 1_000]);
  assert.ok(ticksOf(86_400_000 * 40, 8).length <= 9);
});
