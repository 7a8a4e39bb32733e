/** Texts and files of an event: inline, or fetched when somebody asks. Not the entries they are in. */

import { fetchRaw, seg } from "./api.js";
import { button, h, put } from "./dom.js";
import { bytes, isBlob, pretty } from "./format.js";
import { markdown } from "./markdown.js";
import { attempt } from "./shell.js";

const SHOWN_BYTES_MAX = 1_048_576;
const CLIPPED_CHARS = 20_000;
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

/** A text as machines write it. A large one is cut, with the rest a press away. */
export function plainText(text, { json = false } = {}) {
  if (isBlob(text)) return stored(text, (found) => plainText(found, { json }));
  const whole = json ? pretty(text) : text;
  const node = h("pre", { tabindex: "0" });
  if (whole.length <= CLIPPED_CHARS) return put(node, whole);
  put(node, whole.slice(0, CLIPPED_CHARS));
  const more = button(`Show all ${bytes(whole.length)}`, () => {
    put(node, whole);
    more.remove();
  });
  return h("div", {}, node, more);
}

/** A text as people and models write it. */
export function proseText(text) {
  return isBlob(text) ? stored(text, proseText) : markdown(text);
}

/** The parts of a message or of a result. */
export function parts(list, draw = plainText) {
  return list.map((part) => {
    if (part.kind === "text") return draw(part.text);
    if (part.kind === "file") return file(part);
    return null;
  });
}

const address = (blob) => `/v1/blobs/${seg(blob.digest)}`;

function file(part) {
  const { blob } = part;
  const name = part.name || blob.digest.slice(0, 12);
  const label = `${name} · ${blob.media_type} · ${bytes(blob.size)}`;
  const link = h("a", { href: address(blob), download: name }, label);
  const node = h("div", { class: "file" }, link);
  if (!PICTURES.has(blob.media_type)) return node;
  const see = button("Show", () =>
    attempt(async () => {
      // The gateway says of no content what it is: a picture is one because the event says so.
      const data = await (await fetchRaw(`/blobs/${seg(blob.digest)}`)).arrayBuffer();
      const source = URL.createObjectURL(new Blob([data], { type: blob.media_type }));
      node.append(h("img", { src: source, alt: name, onload: () => URL.revokeObjectURL(source) }));
      see.remove();
    }),
  );
  node.append(" ", see);
  return node;
}

function stored(blob, draw) {
  const node = h("div", { class: "stored" });
  const link = h("a", { href: address(blob), download: `${blob.digest.slice(0, 12)}.txt` }, "Download");
  if (blob.size > SHOWN_BYTES_MAX) return put(node, `${bytes(blob.size)} of text. `, link);
  const show = button(`Show ${bytes(blob.size)}`, () =>
    attempt(async () => {
      const answer = await fetchRaw(`/blobs/${seg(blob.digest)}`);
      put(node, draw(await answer.text()));
    }),
  );
  return put(node, show, " ", link);
}
