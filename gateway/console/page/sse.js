/**
 * Server-sent events over `fetch`, with exact resume: what EventSource cannot send (credentials in
 * a header, Last-Event-ID of an earlier page) this can. Not what the frames mean.
 */

const SILENCE_MS = 30_000; // three heartbeats
const WAIT_FIRST_MS = 250;
const WAIT_MOST_MS = 10_000;
const MISSES_MAX = 4;

/** Reads frames out of text that comes in any pieces; what a cut leaves half is never given. */
export function frameReader() {
  let rest = "";
  let fields = {};
  function line(text) {
    if (text === "") {
      const frame = fields.data === undefined ? null : fields;
      fields = {};
      return frame;
    }
    const colon = text.indexOf(":");
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(colon + 1).replace(/^ /, "");
    if (name === "data") fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
    else if (name === "event" || name === "id") fields[name] = value;
    return null;
  }
  return (text) => {
    // A lone CR at the very end may be half of a CRLF, and waits for what follows.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    return lines.map(line).filter((frame) => frame !== null);
  };
}

/**
 * Follow a stream until `signal` is aborted; `hear` gets each frame, with its data parsed.
 * `told` gets `connecting`, `live`, `waiting` (to try again), `gone` (with the status) and `out`.
 */
export async function follow({ url, after = null, hear, told, signal }) {
  let last = after;
  let waitMs = WAIT_FIRST_MS;
  let misses = 0;
  while (!signal.aborted) {
    told("connecting");
    const quiet = silence(signal);
    try {
      const headers = { Accept: "text/event-stream" };
      if (last) headers["Last-Event-ID"] = last;
      const response = await fetch(url, { headers, signal: quiet.signal, cache: "no-store" });
      if (response.status === 401 || response.status === 403) return told("out", response.status);
      if (response.status >= 400 && response.status < 500 && response.status !== 429) {
        // What was started a moment ago may be stored, and not decided yet.
        misses += 1;
        if (last !== null || misses > MISSES_MAX) return told("gone", response.status);
      }
      if (response.ok) {
        for await (const frame of framesOf(response.body, quiet)) {
          waitMs = WAIT_FIRST_MS;
          told("live");
          if (frame.id) last = frame.id;
          hear(frame);
        }
      }
    } catch (error) {
      if (signal.aborted) return undefined;
      if (!(error instanceof TypeError || error.name === "AbortError")) throw error;
    } finally {
      quiet.end();
    }
    if (signal.aborted) return undefined;
    told("waiting");
    await pause(waitMs * (0.75 + Math.random() / 2), signal);
    waitMs = Math.min(waitMs * 2, WAIT_MOST_MS);
  }
  return undefined;
}

async function* framesOf(body, quiet) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const read = frameReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    quiet.heard();
    for (const frame of read(decoder.decode(value, { stream: true }))) {
      yield { event: frame.event ?? "message", id: frame.id ?? null, data: JSON.parse(frame.data) };
    }
  }
}

/** Cuts a connection that says nothing: a proxy may hold one open that leads nowhere. */
function silence(outer) {
  const cut = new AbortController();
  const stop = () => cut.abort();
  let timer = setTimeout(stop, SILENCE_MS);
  outer.addEventListener("abort", stop, { once: true });
  return {
    signal: cut.signal,
    heard() {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
    },
    end() {
      clearTimeout(timer);
      outer.removeEventListener("abort", stop);
      stop();
    },
  };
}

/** Waits, but not when the network is back, or nobody wants the stream any more. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    globalThis.addEventListener?.("online", done);
    signal.addEventListener("abort", done);
  });
}
