/** Asks the gateway. The session is a cookie that no script can read; not the streams: `sse.js`. */

/** An answer that is not what was asked for, in the gateway's own words. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The gateway answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "";
    this.errors = body.errors ?? [];
  }
}

const listeners = new Set();

/** Hear when the gateway does not know who asks (any more). */
export function onSignedOut(listener) {
  listeners.add(listener);
}

async function ask(method, path, { query = {}, headers = {}, body = undefined, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== "");
  const search = given.length ? `?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : "";
  let response;
  try {
    response = await fetch(`/v1${path}${search}`, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "away", detail: "The gateway cannot be reached." });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (response.status === 401 && path !== "/session") for (const hear of listeners) hear(problem);
  throw problem;
}

/** `GET`, answered as JSON. */
export async function get(path, query = {}, more = {}) {
  return (await ask("GET", path, { query, ...more })).json();
}

let written = null; // the position of our newest write

/** `GET` of a view, which is first to come to what we wrote: nobody misses his own deed in a list. */
export async function look(path, query = {}, more = {}) {
  const position = query.min_position ?? written;
  try {
    return await get(path, { ...query, min_position: position }, more);
  } catch (error) {
    // Of another life of the log, or not there in time: what there is, is better than nothing.
    if (position === null || !["reset", "behind"].includes(error.code)) throw error;
    written = null;
    return get(path, { ...query, min_position: null }, more);
  }
}

/** `GET`, answered as it is: files and blobs. */
export const fetchRaw = (path, query = {}) => ask("GET", path, { query });

/** `POST` of JSON. With a key of its own: sent twice by a nervous hand, it is done once. */
export async function post(path, body = {}, key = freshKey()) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  const response = await ask("POST", path, { headers, body: JSON.stringify(body) });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  written = answer?.position ?? written;
  return answer;
}

export const remove = (path) => ask("DELETE", path);

/** Store a file, to be named by its digest. */
export async function upload(file) {
  const type = file.type || "application/octet-stream";
  const response = await ask("POST", "/uploads", { headers: { "Content-Type": type }, body: file });
  const stored = await response.json();
  return { digest: stored.digest, media_type: stored.media_type ?? type, name: file.name };
}

/** Randomness that also a page on plain HTTP has, where `crypto.randomUUID` is not. */
export function freshKey() {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return `console-${Array.from(words, (word) => word.toString(16).padStart(8, "0")).join("")}`;
}

export const seg = encodeURIComponent;
