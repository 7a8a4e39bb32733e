/** The ends of a run's steps: two of them compared, and a fork from one. Not how forks work. */

import { get, post, seg } from "./api.js";
import { button, field, h, put, table } from "./dom.js";
import { diffView } from "./diff.js";
import { count, moment } from "./format.js";
import { attempt, dialog, empty, toast } from "./shell.js";

export function checkpointsPart(job) {
  const list = h("div");
  const result = h("div", { class: "diff" });
  const node = h(
    "section",
    { "aria-label": "Checkpoints", class: "checkpoints" },
    h(
      "p",
      { class: "hint" },
      "The end of each step is a checkpoint: look at what changed between two, or go on from one in a job of its own.",
    ),
    list,
    result,
  );
  let drawn = "";
  let asking = null;

  async function draw(run) {
    const steps = run.entries.filter(
      (entry) => entry.kind === "reply" && entry.outcome === "completed",
    ).length;
    const now = `${run.name} ${steps} ${run.status}`;
    if (now === drawn) return;
    if (!drawn.startsWith(run.name)) put(result);
    drawn = now;
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    // The view may be a moment behind the stream that told of the step.
    const position = job.state().cursor;
    const query = position ? { min_position: position } : {};
    const found = await attempt(() => get(`/runs/${seg(run.name)}/checkpoints`, query, { signal }));
    if (found && !signal.aborted) show(run, found.checkpoints);
  }

  function show(run, points) {
    if (points.length === 0) return put(list, empty("No step has ended yet."));
    const radio = (name, point, checked) =>
      h("input", {
        type: "radio",
        name,
        value: String(point.step),
        checked,
        "aria-label": `${name === "a" ? "From" : "To"} step ${point.step}`,
      });
    const rows = points.map((point, index) => [
      radio("a", point, index === Math.max(0, points.length - 2)),
      radio("b", point, index === points.length - 1),
      String(point.step),
      moment(point.at_ms),
      count(point.tokens),
      job.act
        ? button("Fork…", () => askFork(run, point), { "aria-label": `Fork from step ${point.step}` })
        : "",
    ]);
    const form = h(
      "div",
      {},
      table("Checkpoints", ["From", "To", "Step", "When", "Tokens", "Go on"], rows),
      h(
        "div",
        { class: "actions" },
        button("Compare", () => compare(run, form), { class: "primary" }),
        job.act && run.parent === null && button("Fork from the beginning…", () => askFork(run, { step: 0 })),
      ),
    );
    return put(list, form);
  }

  async function compare(run, form) {
    const chosen = (name) => form.querySelector(`input[name=${name}]:checked`)?.value;
    const [a, b] = [chosen("a"), chosen("b")];
    if (a === b) return toast("Choose two different steps.", "plain");
    const ask = (path) => attempt(() => get(`/runs/${seg(run.name)}/diff`, { a, b, path }));
    const diff = await ask(null);
    if (!diff) return undefined;
    const title = h("h2", { tabindex: "-1" }, `From step ${a} to step ${b}`);
    put(
      result,
      title,
      diffView(diff, async (path) => (await ask(path))?.files?.find((one) => one.path === path)?.diff),
    );
    return title.focus();
  }

  return { node, draw };
}

function askFork(run, point) {
  const query = h("textarea", { rows: "4" });
  const model = h("input", { type: "text" });
  const steps = h("input", { type: "number", min: "1" });
  const start = button(
    "Fork",
    async () => {
      const body = { fromStep: point.step };
      if (query.value.trim()) body.query = query.value.trim();
      if (model.value.trim()) body.model = model.value.trim();
      if (steps.value) body.maxSteps = Number(steps.value);
      const made = await attempt(() => post(`/runs/${seg(run.name)}/fork`, body));
      if (!made) return;
      box.close();
      location.hash = `#/job/${seg(made.job)}/conversation`;
    },
    { class: "primary" },
  );
  const from = point.step === 0 ? "the beginning" : `the end of step ${point.step}`;
  const box = dialog(
    `Fork ${run.expert}`,
    h("p", {}, `A job of its own goes on from ${from}. This one stays as it is.`),
    field(
      "New query",
      query,
      point.step === 0
        ? "In place of the first one."
        : "Said to the expert there; empty: it goes on as it was.",
    ),
    h(
      "div",
      { class: "fields two" },
      field("Model (optional)", model),
      field("Steps at most (optional)", steps),
    ),
    h("div", { class: "actions" }, start),
  );
  query.focus();
}
