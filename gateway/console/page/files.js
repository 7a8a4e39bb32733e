/** The files of a job's workspace as the newest snapshot has them: listed, read, taken home. */

import { fetchRaw, get, seg } from "./api.js";
import { button, h, put, table } from "./dom.js";
import { bytes } from "./format.js";
import { attempt, empty } from "./shell.js";

const SHOWN_BYTES_MAX = 512 * 1024;
const ROWS_MAX = 1_000;

export function filesPart(job) {
  const list = h("div");
  const view = h("div", { class: "file-view" });
  const filter = h("input", { type: "search", "aria-label": "Filter files", placeholder: "Filter files" });
  const node = h(
    "section",
    { "aria-label": "Files", class: "files" },
    h("div", { class: "actions" }, filter, button("Look again", refresh)),
    list,
    view,
  );
  let files = null;
  let snapshot = "";

  filter.addEventListener("input", () => show());

  async function refresh() {
    const found = await attempt(() => get(`/jobs/${seg(job.name)}/files`));
    if (!found) return put(list, empty("The files cannot be listed now."));
    files = found;
    return show();
  }

  function show() {
    if (!files) return;
    if (files.step === null && files.files.length === 0) {
      put(list, empty("No files are stored yet: they are, after a step that changed some."));
      return;
    }
    const wanted = filter.value.trim().toLowerCase();
    const plain = files.files.filter(
      (one) => one.kind !== "folder" && one.path.toLowerCase().includes(wanted),
    );
    const rows = plain.slice(0, ROWS_MAX).map((one) => [
      one.kind === "file" && !one.missing
        ? h("button", { type: "button", class: "link path", onclick: () => open(one) }, one.path)
        : h("code", { class: "path" }, one.kind === "link" ? `${one.path} (link)` : one.path),
      bytes(one.bytes),
      one.missing
        ? `not stored: ${one.missing}`
        : one.kind === "file"
          ? h(
              "a",
              {
                href: address(one),
                download: one.path.split("/").at(-1),
                "aria-label": `Download ${one.path}`,
              },
              "Download",
            )
          : "",
    ]);
    const cut =
      plain.length > ROWS_MAX &&
      h("p", { class: "hint" }, `The first ${ROWS_MAX} of ${plain.length}: filter them.`);
    put(
      list,
      h("p", { class: "hint" }, `${plain.length} files, as of step ${files.step}.`),
      cut,
      table("Files of the workspace", ["Path", "Size", "Content"], rows),
    );
  }

  const address = (one) => `/v1/jobs/${seg(job.name)}/files/${one.path.split("/").map(seg).join("/")}`;

  async function open(one) {
    const title = h("h2", { tabindex: "-1" }, one.path);
    if (one.bytes > SHOWN_BYTES_MAX) {
      put(view, title, h("p", {}, `${bytes(one.bytes)} are too many to show; download it.`));
      return title.focus();
    }
    const answer = await attempt(() =>
      fetchRaw(`/jobs/${seg(job.name)}/files/${one.path.split("/").map(seg).join("/")}`),
    );
    if (!answer) return undefined;
    const data = new Uint8Array(await answer.arrayBuffer());
    const text = new TextDecoder("utf-8").decode(data);
    const binary = data.subarray(0, 8_000).includes(0);
    put(
      view,
      title,
      binary ? h("p", {}, "This is no text; download it.") : h("pre", { tabindex: "0", class: "code" }, text),
    );
    return title.focus();
  }

  function draw() {
    const taken = [...job.state().runs.values()].map((run) => run.snapshots ?? 0).join();
    if (taken === snapshot && files) return;
    snapshot = taken;
    refresh();
  }

  return { node, draw };
}
