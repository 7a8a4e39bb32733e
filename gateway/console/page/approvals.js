/**
 * What is decided about: calls, with their exact arguments, and soft limits. Not questions.
 * The digest that was shown goes back with the decision: nobody approves what they have not seen.
 */

import { button, field, h, put } from "./dom.js";
import { count, isBlob, money, pretty } from "./format.js";
import { jsonForm } from "./forms.js";
import { toast } from "./shell.js";

const DIGEST_CHARS = 12;

/** The arguments as the model wrote them; large ones as the gateway read them for us. */
function argumentsOf(wait, job) {
  const written = job.state().runs.get(wait.run)?.calls.get(wait.id)?.arguments;
  if (written !== undefined && !isBlob(written)) return pretty(written || "{}");
  return pretty(typeof wait.arguments === "string" ? wait.arguments : JSON.stringify(wait.arguments));
}

const digestOf = (wait) =>
  h("code", { title: wait.digest, "data-digest": wait.digest }, wait.digest.slice(0, DIGEST_CHARS));

/** What the digest stands for, now that the arguments are as they were, or are being changed. */
const digestLine = (wait, changed) =>
  changed
    ? ["You were shown the call with the digest ", digestOf(wait), ": what you make of it runs in its place."]
    : ["Digest ", digestOf(wait), ": what runs is this, and nothing else."];

/** May a call run? With its arguments as they were written, and the digest that goes back. */
export function approvalCard(wait, send, job) {
  const text = argumentsOf(wait, job);
  const reason = h("input", { type: "text", maxlength: "2000" });
  const remember = h(
    "select",
    {},
    h("option", { value: "no" }, "only this call"),
    h("option", { value: "exact" }, "these exact arguments, in this job"),
    h("option", { value: "tool" }, "this tool, in this job"),
  );
  const exact = h("pre", { class: "arguments", tabindex: "0", "aria-label": "Exact arguments" }, text);
  const place = h("div", {}, exact);
  const digest = h("p", { class: "facts" }, digestLine(wait, false));
  let edit = null;
  const base = () => ({
    approval: wait.id,
    digest: wait.digest,
    reason: reason.value,
    remember: remember.value,
  });
  const approve = () => {
    if (!edit) return send("approve", { ...base(), verdict: "approve" });
    try {
      return send("approve", { ...base(), verdict: "approve", arguments: edit.value() });
    } catch (error) {
      return toast(error.message);
    }
  };
  const editing = button(
    "Edit",
    (node) => {
      edit = edit
        ? null
        : jsonForm("Arguments to run instead", text, "The change is recorded, with a digest of its own.");
      put(place, edit ? edit.node : exact);
      put(digest, digestLine(wait, edit !== null));
      put(node, edit ? "Discard changes" : "Edit");
      put(yes, edit ? "Approve changed" : "Approve");
      if (edit) place.querySelector("textarea").focus();
    },
    { class: "edit" },
  );
  const yes = button("Approve", approve, { class: "primary approve" });
  const no = button("Deny", () => send("approve", { ...base(), verdict: "deny" }), { class: "danger deny" });
  const why = wait.reason && h("p", {}, wait.reason);
  const more = h(
    "div",
    { class: "fields two" },
    field("It holds for", remember),
    field("Reason (optional)", reason),
  );
  return [
    h("span", {}, "May ", h("code", {}, wait.tool), " run?"),
    [why, place, digest],
    [more, h("div", { class: "actions" }, yes, no, editing)],
  ];
}

/** May it use more than was meant? */
export function budgetCard(wait, send) {
  const figure = (number) => (wait.unit === "micro_usd" ? money(number) : `${count(number)} tokens`);
  const most = wait.most == null ? "There is no hard limit." : `The hard limit is ${figure(wait.most)}.`;
  const say = (verdict) => send("approve", { approval: wait.id, digest: wait.digest, verdict });
  return [
    `Go on beyond ${figure(wait.soft)}?`,
    h("p", {}, `${figure(wait.used)} are used. ${most} ${wait.reason}`),
    h(
      "div",
      { class: "actions" },
      button("Go on", () => say("approve"), { class: "primary approve" }),
      button("Stop here", () => say("deny"), { class: "danger deny" }),
    ),
  ];
}
