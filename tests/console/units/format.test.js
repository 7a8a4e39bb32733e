/** How figures and JSON are written: what people decide about has to be what they see. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, bytes, count, duration, isExact, money, pretty, thought, visible } from "../format.js";

test("JSON is written line by line, with every token as it was", () => {
  assert.equal(
    pretty('{"a":[1,{"b":"x"}],"c":{},"d":[]}'),
    '{\n  "a": [\n    1,\n    {\n      "b": "x"\n    }\n  ],\n  "c": {},\n  "d": []\n}',
  );
  assert.equal(
    pretty('{"id":12345678901234567890,"n":1.10,"n":2}'),
    '{\n  "id": 12345678901234567890,\n  "n": 1.10,\n  "n": 2\n}',
  );
  assert.equal(pretty('{"a":"{\\"b\\": [1,2]}, \\\\"}'), '{\n  "a": "{\\"b\\": [1,2]}, \\\\"\n}');
});

test("JSON that is written so is the same JSON", () => {
  for (const value of [
    {},
    [],
    [[]],
    { a: [{}, [], "x", null, true, -1.5e-9] },
    "text",
    7,
    { "": { "": "" } },
  ]) {
    const text = JSON.stringify(value);
    assert.deepEqual(JSON.parse(pretty(text)), value);
    assert.equal(pretty(text), JSON.stringify(value, null, 2));
  }
});

test("text that is no JSON stays as it is", () => {
  assert.equal(pretty("{not json"), "{not json");
  assert.equal(pretty("a\nb"), "a\nb");
});

test("what cannot be seen, or turns a line round, is made visible in JSON", () => {
  const text = JSON.stringify({ command: "rm \u202Efdp.txt\u2066 a\u200bb \u{E0041}" });
  assert.equal(pretty(text), '{\n  "command": "rm \\u202efdp.txt\\u2066 a\\u200bb \\udb40\\udc41"\n}');
  assert.deepEqual(JSON.parse(pretty(text)), JSON.parse(text));
  assert.equal(visible("Grüße 👋 你好\n"), "Grüße 👋 你好\n");
});

test("numbers that a page would round are known", () => {
  assert.equal(isExact('{"id": 123456789012345, "s": "12345678901234567890"}'), true);
  assert.equal(isExact('{"id": 12345678901234567890}'), false);
  assert.equal(isExact('{"x": -0.12345678901234567}'), false);
});

test("figures are short", () => {
  assert.deepEqual([money(0), money(420), money(1_234_567)], ["$0", "$0.0004", "$1.23"]);
  assert.deepEqual([count(999), count(12_345), count(2_500_000)], ["999", "12.3k", "2.5M"]);
  assert.deepEqual(
    [duration(12), duration(1_500), duration(60_000), duration(3_725_000)],
    ["12 ms", "1.5 s", "1 min", "1 h 2 min"],
  );
  assert.deepEqual([bytes(12), bytes(2_048)], ["12 B", "2.0 KiB"]);
  assert.deepEqual([ago(0, 1_000), ago(0, 120_000), ago(0, 7_200_000)], ["just now", "2 min ago", "2 h ago"]);
});

test("thoughts are read in the forms of all providers, and nothing else is taken for one", () => {
  assert.equal(thought('{"type":"thinking","thinking":"a"}'), "a");
  assert.equal(thought('{"type":"reasoning","summary":[{"text":"a"},{"text":"b"}]}'), "a\n\nb");
  assert.equal(thought('{"reasoning_content":"c"}'), "c");
  assert.equal(thought('{"type":"redacted_thinking","data":"x"}'), "");
  assert.equal(thought('{"type":"server_tool_use","thinking":"x"}'), "");
  assert.equal(thought("null"), "");
  assert.equal(thought("{"), "");
});
