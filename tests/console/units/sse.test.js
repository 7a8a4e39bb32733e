/** The reader of server-sent events: any cut of the bytes, and a resume from the last id. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { follow, frameReader } from "../sse.js";

const TEXT =
  'id: a-0-0\nevent: hello\ndata: {"job":"j"}\n\n: a comment\n\nid: a-1-0\r\nevent: x\r\ndata: {"n":\r\ndata: 1}\r\n\r\nevent: live\ndata: {"text":"Grüße 👋"}\n\nid: a-2-0\nevent: half';

const frames = [
  { id: "a-0-0", event: "hello", data: '{"job":"j"}' },
  { id: "a-1-0", event: "x", data: '{"n":\n1}' },
  { event: "live", data: '{"text":"Grüße 👋"}' },
];

test("frames are the same wherever the text is cut, and a half one is none", () => {
  for (let at = 0; at <= TEXT.length; at += 1) {
    const read = frameReader();
    assert.deepEqual([...read(TEXT.slice(0, at)), ...read(TEXT.slice(at))], frames, `cut at ${at}`);
  }
  const read = frameReader();
  assert.deepEqual(
    [...TEXT].flatMap((one) => read(one)),
    frames,
  );
});

/** A server that gives its stream up after so many bytes, again and again. */
function cutting(sizes, text) {
  const asked = [];
  const events = text.split("\n\n").filter(Boolean);
  const fake = async (url, { headers }) => {
    const after = headers["Last-Event-ID"];
    asked.push(after ?? null);
    const from = after ? events.findIndex((one) => one.includes(`id: ${after}\n`)) + 1 : 0;
    const bytes = new TextEncoder().encode(
      events
        .slice(from)
        .map((one) => `${one}\n\n`)
        .join(""),
    );
    const size = sizes.shift() ?? bytes.length;
    return new Response(bytes.slice(0, size), { headers: { "Content-Type": "text/event-stream" } });
  };
  return { fake, asked };
}

test("a stream that is cut anywhere gives each event once, in order", async (t) => {
  const text = [1, 2, 3, 4, 5]
    .map((n) => `id: a-${n}-0\nevent: e\ndata: {"n":${n},"text":"Grüße"}`)
    .join("\n\n");
  for (let size = 0; size < 120; size += 3) {
    const { fake, asked } = cutting([size, 60, 7], text);
    t.mock.method(globalThis, "fetch", fake);
    t.mock.method(globalThis, "setTimeout", (act, ms) => (ms < 30_000 ? queueMicrotask(act) : undefined));
    const heard = [];
    const stop = new AbortController();
    await follow({
      url: "/x",
      signal: stop.signal,
      told: () => {},
      hear: (frame) => {
        heard.push(frame.data.n);
        if (frame.data.n === 5) stop.abort();
      },
    });
    t.mock.restoreAll();
    assert.deepEqual(heard, [1, 2, 3, 4, 5], `cut after ${size} bytes`);
    assert.equal(asked[0], null);
  }
});

test("who is not known here, or asks for what is not there, is told so and does not ask for ever", async (t) => {
  for (const [status, word] of [
    [401, "out"],
    [403, "out"],
    [404, "gone"],
    [410, "gone"],
  ]) {
    let asked = 0;
    t.mock.method(globalThis, "fetch", async () => {
      asked += 1;
      return new Response("{}", { status });
    });
    t.mock.method(globalThis, "setTimeout", (act, ms) => (ms < 30_000 ? queueMicrotask(act) : undefined));
    const told = [];
    await follow({
      url: "/x",
      signal: new AbortController().signal,
      hear: () => {},
      told: (what) => told.push(what),
    });
    t.mock.restoreAll();
    assert.equal(told.at(-1), word);
    assert.ok(asked <= 5);
  }
});
