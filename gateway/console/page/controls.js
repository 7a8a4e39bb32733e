/** What a person does to a run: hold it, stop it, speak to it. Not what waits: `waits.js`. */

import { post, seg } from "./api.js";
import { button, field, h, put, say } from "./dom.js";
import { attempt, announce, confirmed } from "./shell.js";

/** Pause, resume and cancel for the run in view; drawn again only when it stands otherwise. */
export function controls(job) {
  const node = h("div", { class: "actions controls" });
  let drawn = "";
  function draw(run) {
    const root = run.parent === null;
    const now = `${run.name} ${run.status} ${run.pausedMs !== null} ${run.cancelling}`;
    if (now === drawn) return;
    drawn = now;
    const what = root ? "job" : "run";
    const running = run.status === "running";
    put(
      node,
      running &&
        (run.pausedMs === null
          ? button("Pause", () => act(run, "pause"), { class: "pause" })
          : button("Resume", () => act(run, "resume"), { class: "primary resume" })),
      running &&
        !run.cancelling &&
        button(`Cancel ${what}…`, () => askCancel(run, what), { class: "danger cancel" }),
    );
  }
  const toggle = () =>
    job.act && attempt(() => act(job.root(), job.root().pausedMs === null ? "pause" : "resume"));
  return { node, draw, toggle, cancel: () => askCancel(job.root(), "job") };
}

async function act(run, verb, body = {}) {
  const done = await attempt(() => post(`/runs/${seg(run.name)}/${verb}`, body));
  if (done) announce(`${verb} was sent`);
  return done;
}

function askCancel(run, what) {
  if (run?.status !== "running") return;
  const reason = h("input", { type: "text", maxlength: "200" });
  const text = `Nothing new begins, and what is at work in this ${what} and under it is stopped. This cannot be undone.`;
  confirmed(
    `Cancel this ${what}?`,
    text,
    `Cancel the ${what}`,
    () => act(run, "cancel", { reason: reason.value }),
    field("Reason (optional)", reason),
  );
}

/** The field at the end of a conversation: steers a run at work, continues a root run at rest. */
export function speaker(job) {
  const text = h("textarea", { rows: "2", id: "speak" });
  const now = h("input", { type: "checkbox", id: "now" });
  const steps = h("input", { type: "number", min: "1", id: "more-steps" });
  const label = h("label", { for: "speak" });
  const interrupt = h(
    "div",
    { class: "check" },
    now,
    h("label", { for: "now" }, "Interrupt what is being written"),
  );
  const allowing = h(
    "div",
    { class: "check" },
    h("label", { for: "more-steps" }, "Steps it may take (optional)"),
    steps,
  );
  const send = button("Send", speak, { class: "primary", id: "send" });
  const node = h(
    "form",
    { class: "speaker", "aria-label": "Speak to the run" },
    label,
    text,
    h("div", { class: "actions" }, send, interrupt, allowing),
  );
  let run = null;

  node.addEventListener("submit", (event) => event.preventDefault());
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send.click();
  });

  async function speak() {
    const said = text.value.trim();
    if (!run || !said) return text.focus();
    const atWork = run.status === "running";
    const limits = steps.value ? { maxSteps: Number(steps.value) } : {};
    const done = await (atWork
      ? act(run, "steer", { text: said, now: now.checked })
      : act(run, "continue", { query: said, ...limits }));
    if (!done) return undefined;
    text.value = "";
    now.checked = false;
    return undefined;
  }

  function draw(next) {
    run = next;
    const atWork = run.status === "running";
    const may = job.act && run.status !== "deleted" && !run.cancelling && (atWork || run.parent === null);
    node.hidden = !may;
    if (!may) return;
    say(label, atWork ? `Steer ${run.expert}` : `Continue with ${run.expert}`);
    say(send, atWork ? "Steer" : "Continue");
    interrupt.hidden = !atWork;
    allowing.hidden = atWork;
  }
  return { node, draw, focus: () => text.focus() };
}
