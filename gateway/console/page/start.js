/** Starts a job: whom, with what, how much it may use. Not what becomes of it: `job.js`. */

import { freshKey, get, post, seg, upload } from "./api.js";
import { button, field, h, put, say } from "./dom.js";
import { bytes, modelName } from "./format.js";
import { schemaForm } from "./forms.js";
import { attempt, empty, heading, loaded, toast } from "./shell.js";

const LIMITS = [
  ["maxSteps", "Steps", 1],
  ["maxTokens", "Tokens", 1],
  ["maxToolCalls", "Tool calls", 0],
  ["maxUsd", "US dollars", 0],
  ["maxMinutes", "Minutes", 1],
];

export function startPage(here, me) {
  const node = h(
    "section",
    { class: "narrow" },
    heading("Start a job"),
    me.role === "viewer"
      ? empty("Your role may look, not start.")
      : loaded(get("/experts"), (found) => form(here, me, found.experts)),
  );
  return { node };
}

function form(here, me, experts) {
  const mine = experts.filter(
    (one) => me.experts === null || me.experts === undefined || me.experts.includes(one.expert),
  );
  if (mine.length === 0) return empty("The definition has no expert that you may start.");
  const expert = h("select", { name: "expert", onchange: draw }, options(mine));
  const asked = here.query.get("expert");
  if (asked && mine.some((one) => one.expert === asked)) expert.value = asked;
  const about = h("p", { class: "hint" });
  const task = h("div");
  const query = h("textarea", { name: "query", rows: "5", required: true });
  const files = h("input", { type: "file", multiple: true, name: "attachments" });
  const chosen = h("ul", { class: "hint", "aria-live": "polite" });
  files.addEventListener("change", () =>
    put(
      chosen,
      [...files.files].map((one) => h("li", {}, `${one.name} · ${bytes(one.size)}`)),
    ),
  );
  const limits = LIMITS.map(([name, label, least]) => [
    name,
    h("input", { type: "number", min: String(least), step: name === "maxUsd" ? "any" : "1", name }),
    label,
  ]);
  const model = h("input", { type: "text", name: "model" });
  const provider = h("input", { type: "text", name: "provider" });
  const once = keeper();
  let typed = null;

  function draw() {
    const one = mine.find((other) => other.expert === expert.value);
    say(about, [one.description, `${one.provider} · ${modelName(one.model)}`].filter(Boolean).join(" — "));
    typed = one.input_schema ? schemaForm(one.input_schema) : null;
    put(task, typed ? typed.node : field("What is to be done?", query));
  }

  async function begin() {
    const body = { expert: expert.value, ...given(limits) };
    try {
      if (typed) body.input = typed.value() ?? {};
      else body.query = query.value.trim();
    } catch (error) {
      return toast(error.message);
    }
    if (!typed && !body.query) return query.focus();
    if (model.value.trim()) body.model = model.value.trim();
    if (provider.value.trim()) body.provider = provider.value.trim();
    const made = await attempt(async () => {
      if (files.files.length) body.attachments = await Promise.all([...files.files].map(upload));
      return post("/runs", body, once(body));
    });
    if (made) location.hash = `#/job/${seg(made.job)}/conversation`;
    return undefined;
  }

  draw();
  const begins = button("Start", begin, { class: "primary", id: "begin" });
  query.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) begins.click();
  });
  return h(
    "form",
    { class: "card", onsubmit: (event) => event.preventDefault() },
    field("Expert", expert),
    about,
    task,
    field("Attachments (optional)", files, "Images and PDFs as they are, text as text."),
    chosen,
    h(
      "details",
      {},
      h("summary", {}, "Limits and model"),
      h(
        "div",
        { class: "fields two" },
        limits.map(([, input, label]) => field(`${label} at most`, input)),
        field("Another provider", provider),
        field("Another model", model),
      ),
    ),
    h("div", { class: "actions" }, begins),
  );
}

/** Those to start with first; whom they delegate to have names with an `@`. */
function options(experts) {
  const group = (label, list) =>
    list.length > 0 &&
    h(
      "optgroup",
      { label },
      list.map((one) => h("option", { value: one.expert }, one.expert)),
    );
  const isDelegate = (one) => one.expert.startsWith("@");
  return [
    group(
      "Experts",
      experts.filter((one) => !isDelegate(one)),
    ),
    group("Delegates", experts.filter(isDelegate)),
  ];
}

/** Gives the same key to the same body: who presses again after a broken line starts one job. */
function keeper() {
  let [last, key] = ["", ""];
  return (body) => {
    const text = JSON.stringify(body);
    if (text !== last) [last, key] = [text, freshKey()];
    return key;
  };
}

/** The limits that were given, in the units of the gateway. */
function given(limits) {
  const found = {};
  for (const [name, input] of limits) {
    if (input.value === "") continue;
    const number = Number(input.value);
    if (name === "maxUsd") found.maxMicroUsd = Math.round(number * 1e6);
    else if (name === "maxMinutes") found.maxWallMs = Math.round(number * 60_000);
    else found[name] = number;
  }
  return found;
}
