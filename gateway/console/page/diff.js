/** What changed between two checkpoints, as lines and tables. Not where the two come from. */

import { button, h, put, table } from "./dom.js";

const LINES_MAX = 2_000;

/** State, messages and files; `lines` asks for those of one file. */
export function diffView(diff, lines) {
  return [
    section(
      "State",
      diff.state.length > 0 &&
        table(
          "State",
          ["What", "Before", "After"],
          diff.state.map((one) => [one.name, value(one.before), value(one.after)]),
        ),
    ),
    section("Messages", diff.messages.length > 0 && unified(diff.messages)),
    section("Files", files(diff, lines)),
  ];
}

const section = (title, body) =>
  h("section", {}, h("h3", {}, title), body || h("p", { class: "hint" }, "No change."));

const value = (one) =>
  one !== null && typeof one === "object" ? h("code", {}, JSON.stringify(one)) : String(one ?? "");

const CLASSES = { "+": "came", "-": "gone", "@": "place" };

/** A unified diff: the signs stay, so that colour is not all that tells. */
function unified(lines) {
  const cut =
    lines.length > LINES_MAX && h("p", { class: "hint" }, `The first ${LINES_MAX} of ${lines.length} lines.`);
  const shown = lines
    .slice(0, LINES_MAX)
    .map((line) => h("span", { class: `line ${CLASSES[line[0]] ?? ""}` }, line, "\n"));
  return [cut, h("pre", { class: "unified", tabindex: "0" }, shown)];
}

function files(diff, lines) {
  if (diff.files === null)
    return h("p", { class: "hint" }, diff.files_problem ?? "The files cannot be compared.");
  return (
    diff.files.length > 0 &&
    h(
      "ul",
      { class: "changed" },
      diff.files.map((one) => {
        const body = h("div");
        const show = button(
          "Lines",
          async () => {
            const text = await lines(one.path);
            if (text !== undefined)
              put(body, text ? unified(text.split("\n")) : h("p", { class: "hint" }, "No lines to show."));
          },
          { "aria-label": `Lines of ${one.path}` },
        );
        return h(
          "li",
          {},
          h("span", { class: `what ${one.what}` }, one.what),
          " ",
          h("code", {}, one.path),
          " ",
          show,
          body,
        );
      }),
    )
  );
}
