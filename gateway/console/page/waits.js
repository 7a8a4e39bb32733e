/** What waits for a person: the panel of cards, and questions. Not decisions: `approvals.js`. */

import { get, post, seg } from "./api.js";
import { button, field, h, put } from "./dom.js";
import { approvalCard, budgetCard } from "./approvals.js";
import { ago } from "./format.js";
import { schemaForm } from "./forms.js";
import { attempt, announce, toast } from "./shell.js";
import { isForPeople } from "./fold.js";

/** The panel; `draw` is told the state as it moves, and asks the gateway when waits have changed. */
export function waitsPanel(job, mayAct) {
  const cards = new Map();
  const list = h("div", { class: "wait-cards" });
  const title = h("h2", { tabindex: "-1" });
  const node = h("section", { class: "waits", "aria-label": "Waiting for you", hidden: true }, title, list);
  let known = "";
  let asking = null;

  function draw(state) {
    const open = [];
    for (const run of state.runs.values()) {
      if (run.status !== "running") continue;
      for (const wait of run.waits.values()) if (isForPeople(wait)) open.push(`${run.name}/${wait.id}`);
    }
    const wanted = open.join(" ");
    if (wanted === known) return;
    known = wanted;
    if (open.length === 0) return show([]);
    refresh(state.root);
  }

  async function refresh(root) {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const found = await attempt(() => get(`/runs/${seg(root)}/waiting`, {}, { signal }));
    if (found) show(found.waiting);
    else if (!signal.aborted) known = ""; // asked again with the next change
  }

  function show(waiting) {
    // A card in which somebody writes stays, as long as it is about the same arguments.
    const names = new Set();
    for (const wait of waiting) {
      const name = `${wait.run}/${wait.id}@${wait.digest}`;
      names.add(name);
      if (cards.has(name)) continue;
      const card = waitCard(wait, mayAct, job);
      cards.set(name, card);
      list.append(card);
      announce(`${wait.expert} waits for you: ${summary(wait)}`);
    }
    for (const [name, card] of cards) {
      if (names.has(name)) continue;
      const focused = card.contains(document.activeElement);
      card.remove();
      cards.delete(name);
      if (focused) (list.querySelector("button") ?? job.heading)?.focus();
    }
    put(title, waiting.length === 1 ? "This waits for you" : `${waiting.length} things wait for you`);
    node.hidden = waiting.length === 0;
  }

  return { node, draw, again: (state) => ((known = ""), draw(state)) };
}

const summary = (wait) =>
  ({
    approval: `may ${wait.tool} run?`,
    question: "a question",
    ask: `${wait.tool} asks`,
    budget: "a budget",
  })[wait.kind];

function waitCard(wait, mayAct, job) {
  const make = { approval: approvalCard, budget: budgetCard, question: questionCard, ask: askCard }[
    wait.kind
  ];
  const [title, content, actions] = make(wait, (path, body) => decide(wait, path, body), job);
  const due = wait.due_ms ? `, until ${new Date(wait.due_ms).toLocaleString()}` : "";
  const who = h(
    "p",
    { class: "facts" },
    h("button", { type: "button", class: "link", onclick: () => job.select(wait.run) }, wait.expert),
    ` · since ${ago(wait.since_ms)}${due}`,
  );
  return h(
    "article",
    { class: `card wait ${wait.kind}`, "data-wait": wait.id },
    h("h3", {}, title),
    who,
    content,
    mayAct ? actions : h("p", { class: "hint" }, "Your role may look, not decide."),
  );
}

async function decide(wait, path, body) {
  const done = await attempt(async () => {
    await post(`/runs/${seg(wait.run)}/${path}`, body);
    return true;
  });
  if (done) announce("Sent");
  return done;
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

function questionCard(wait, send) {
  const given = wait.arguments;
  const text =
    typeof given === "object" && given !== null
      ? [given.question, given.text, given.message].find((one) => typeof one === "string")
      : given;
  const answer = h("textarea", { rows: "3" });
  const rest =
    typeof given === "object" &&
    h("details", {}, h("summary", {}, "As the expert asked"), h("pre", { tabindex: "0" }, shown(given)));
  return [
    h("span", {}, h("code", {}, wait.tool), " asks"),
    [text && h("p", { class: "question" }, text), rest],
    [
      field("Your answer", answer),
      h(
        "div",
        { class: "actions" },
        button("Answer", () => send("answer", { call: wait.id, answer: answer.value }), {
          class: "primary answer",
        }),
      ),
    ],
  ];
}

function askCard(wait, send) {
  const form = wait.form ? schemaForm(wait.form) : null;
  const act = (action) => send("answer", { call: wait.id, action });
  const accept = () => {
    if (!form) return act("accept");
    try {
      return send("answer", { call: wait.id, action: "accept", answer: form.value() });
    } catch (error) {
      return toast(error.message);
    }
  };
  // The address is a tool's word: it is shown in full, and opened by a person or not at all.
  const link =
    wait.url && /^https?:/.test(wait.url)
      ? h("p", {}, h("a", { href: wait.url, rel: "noopener noreferrer", target: "_blank" }, wait.url))
      : wait.url && h("p", {}, h("code", {}, wait.url));
  return [
    h("span", {}, h("code", {}, wait.tool), " asks"),
    [h("p", { class: "question" }, wait.message), link, form?.node],
    h(
      "div",
      { class: "actions" },
      button(form ? "Send" : "Yes", accept, { class: "primary answer" }),
      button("Decline", () => act("decline"), { class: "danger" }),
      button("Close without an answer", () => act("cancel")),
    ),
  ];
}
