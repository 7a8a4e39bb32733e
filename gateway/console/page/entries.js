/** One view for each entry of a conversation: made once, brought up to date as the entry changes. */

import { h, put, say } from "./dom.js";
import { clock, duration, isBlob, modelName, money, plural, pretty, STATES, thought } from "./format.js";
import { parts, plainText, proseText } from "./texts.js";

const HINT_CHARS = 90;
const SPEAKERS = { user: "You", expert: "Delegated by", runtime: "Runtime" };

/** `{node, update}` of an entry; `job.select(run)` shows another run. */
export function entryView(entry, job) {
  const make = { input, reply, call, note, fork, end }[entry.kind];
  const view = make(entry, job);
  view.node.id = `e-${entry.id}`;
  view.update ??= () => {};
  return view;
}

/** A state as a sign and a word. */
export function chip(state) {
  const [word, sign] = STATES[state] ?? [state, "·"];
  return h("span", { class: `chip ${state}` }, h("span", { "aria-hidden": "true" }, sign), ` ${word}`);
}

const when = (ms) =>
  h("time", { datetime: new Date(ms).toISOString(), title: new Date(ms).toLocaleString() }, clock(ms));

const head = (...content) => h("div", { class: "entry-head" }, content);

function input(entry) {
  const name = entry.speaker === "user" ? entry.by?.name || SPEAKERS.user : SPEAKERS[entry.speaker];
  const body = parts(entry.parts, entry.speaker === "runtime" ? plainText : proseText);
  return {
    node: h(
      "article",
      { class: `entry input ${entry.speaker}` },
      head(h("h3", {}, name ?? "Input"), when(entry.atMs)),
      body,
    ),
  };
}

function note(entry) {
  return { node: h("p", { class: `entry note ${entry.tone}` }, entry.text, " ", when(entry.atMs)) };
}

function fork(entry) {
  const link = h(
    "a",
    { href: `#/job/${entry.source.job}/conversation?run=${entry.source.run}` },
    `step ${entry.step} of ${entry.source.job}`,
  );
  return { node: h("p", { class: "entry note" }, "Forked after ", link, entry.text) };
}

function end(entry, job) {
  const shown = [head(h("h3", {}, "End"), chip(entry.status), when(entry.atMs))];
  if (entry.result !== undefined && !job.alreadySaid(entry)) shown.push(proseText(entry.result));
  if (entry.limit) shown.push(h("p", {}, `The limit of ${entry.limit.replace("_", " ")} was reached.`));
  if (entry.failure && !job.alreadyFailed(entry))
    shown.push(h("p", { class: "trouble" }, `${entry.failure.kind}: ${entry.failure.message}`));
  return { node: h("article", { class: `entry end ${entry.status}` }, shown) };
}

// Replies: text as it comes is plain, and becomes prose when it is the record's.

function reply(entry) {
  const facts = h("span", { class: "facts" });
  const state = h("span");
  const body = h("div", { class: "reply-body" });
  const title = entry.attempt > 1 ? `Step ${entry.step}, attempt ${entry.attempt}` : `Step ${entry.step}`;
  const node = h(
    "article",
    { class: "entry reply" },
    head(h("h3", {}, title), state, facts, when(entry.startedMs)),
    body,
  );
  const live = new Map();
  function update() {
    node.classList.toggle("open", entry.open);
    put(
      state,
      entry.open
        ? h("span", { class: "chip running" }, "writing…")
        : entry.outcome !== "completed" && chip(entry.outcome),
    );
    if (entry.open) return stream(body, live, entry.draft);
    const used = entry.usage && plural(entry.usage.input + entry.usage.output, "token");
    const cost = entry.money ? money(entry.money) : null;
    say(
      facts,
      [modelName(entry.model), used, cost, duration(entry.endedMs - entry.startedMs)]
        .filter(Boolean)
        .join(" · "),
    );
    if (entry.outcome === "completed") return put(body, entry.parts.map(replyPart));
    put(body);
    if (entry.unfinished) stream(body, new Map(), entry.unfinished);
    const why = entry.failure
      ? `${entry.failure.kind}: ${entry.failure.message}`
      : `Not finished: ${entry.reason.replace("_", " ")}`;
    return body.append(h("p", { class: "trouble" }, why));
  }
  update();
  return { node, update };
}

function replyPart(part) {
  if (part.kind === "text") return proseText(part.text);
  if (part.kind !== "thinking") return null; // calls are entries of their own
  if (isBlob(part.block)) return folded("Thinking", plainText(part.block, { json: true }));
  const text = thought(part.block);
  return text ? folded("Thinking", h("p", { class: "thought" }, text)) : null;
}

const folded = (title, ...content) => h("details", { class: "thinking" }, h("summary", {}, title), content);

/** Bring the parts of a reply in the making up to date, touching only the text that grew. */
function stream(body, live, draft) {
  const places = [...(draft?.parts ?? [])].sort(([, a], [, b]) => a.part - b.part);
  for (const [place, part] of places) {
    let text = live.get(place);
    if (!text) {
      text = h(part.kind === "arguments" ? "pre" : "p", { class: `live ${part.kind}` });
      live.set(place, text);
      if (part.kind === "thinking") body.append(folded("Thinking…", text));
      else if (part.kind === "arguments")
        body.append(h("p", { class: "hint" }, "Calls ", h("code", {}, part.tool)), text);
      else body.append(text);
    }
    say(text, part.text);
  }
}

// Tool calls: a line, and all there is to know below it when it is opened.

function call(entry, job) {
  const state = h("span", { class: "call-state" });
  const hint = h("span", { class: "call-hint" });
  const body = h("div", { class: "call-body" });
  const node = h(
    "details",
    { class: "entry call" },
    h("summary", {}, h("code", { class: "tool" }, entry.tool), hint, state),
    body,
  );
  function update() {
    say(hint, hintOf(entry));
    const time =
      entry.endedMs === null
        ? null
        : h("span", { class: "facts" }, duration(entry.endedMs - entry.startedMs));
    put(state, time, chip(entry.status));
    if (node.open) drawCall(body, entry, job);
  }
  node.addEventListener("toggle", () => (node.open ? drawCall(body, entry, job) : put(body)));
  update();
  return { node, update };
}

function hintOf(entry) {
  if (isBlob(entry.arguments)) return "";
  let value;
  try {
    value = JSON.parse(entry.arguments || "{}");
  } catch {
    return entry.arguments.slice(0, HINT_CHARS);
  }
  const words = Object.values(value ?? {}).map((one) =>
    typeof one === "string" ? one : JSON.stringify(one),
  );
  return words.join("  ").replace(/\s+/g, " ").slice(0, HINT_CHARS);
}

function drawCall(body, entry, job) {
  const facts = [entry.skill, entry.call, entry.safety.replace("_", " ")].filter(Boolean).join(" · ");
  put(
    body,
    h("p", { class: "facts" }, facts),
    h("h4", {}, "Input"),
    plainText(entry.arguments || "{}", { json: true }),
    entry.edited !== null && [
      h("h4", {}, "Input as a person changed it"),
      plainText(entry.edited, { json: true }),
    ],
    entry.waits.map(waitLine),
    entry.child !== null &&
      h(
        "p",
        {},
        h("button", { type: "button", onclick: () => job.select(entry.child) }, "Open the delegate's run"),
      ),
    outputOf(entry),
  );
}

function waitLine(wait) {
  const what = {
    approval: "Approval",
    question: "Question",
    ask: "Question of the tool",
    sampling: "Asked the model",
  }[wait.kind];
  const how = wait.verdict ?? (wait.untilMs === null ? "open" : "over");
  const who = wait.by?.name ? ` by ${wait.by.name}` : wait.byRule ? " by a rule" : "";
  const why = wait.reason ? ` (${wait.reason})` : "";
  return h("p", { class: "facts" }, `${what}: ${how}${who}${why}`);
}

function outputOf(entry) {
  if (entry.endedMs === null) {
    if (!entry.output) return null;
    return [h("h4", {}, "Output so far"), h("pre", { tabindex: "0" }, entry.output.text)];
  }
  const title = entry.isError ? "Output (an error)" : "Output";
  const whole = entry.full !== null && [h("h4", {}, "The whole output"), plainText(entry.full)];
  return [
    h("h4", {}, title),
    parts(entry.content, (text) => plainText(isBlob(text) ? text : pretty(text))),
    whole,
  ];
}
