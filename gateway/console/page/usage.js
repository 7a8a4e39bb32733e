/** What was used and what it cost: by day, by expert, by model; pictures with a table each. */

import { look } from "./api.js";
import { field, h, put, table } from "./dom.js";
import { barsAcross, columns } from "./charts.js";
import { count, modelName, money } from "./format.js";
import { empty, heading, loaded } from "./shell.js";

const DAY_MS = 86_400_000;
const RANGES = [
  ["7", "7 days"],
  ["30", "30 days"],
  ["90", "90 days"],
];

const dayOf = (ms) => new Date(ms).toISOString().slice(0, 10);

export function usagePage() {
  const range = h(
    "select",
    { onchange: load },
    RANGES.map(([value, label]) => h("option", { value }, label)),
  );
  range.value = "30";
  const measure = h(
    "select",
    { onchange: load },
    h("option", { value: "money" }, "Cost"),
    h("option", { value: "tokens" }, "Tokens"),
  );
  const body = h("div");
  const node = h(
    "section",
    {},
    heading("Usage"),
    h("div", { class: "filters" }, field("Time", range), field("Measure", measure)),
    body,
  );

  function load() {
    const days = Number(range.value);
    const query = { from: dayOf(Date.now() - (days - 1) * DAY_MS), to: dayOf(Date.now()) };
    const asked = Promise.all(["day", "expert", "model"].map((by) => look("/usage", { ...query, by })));
    put(
      body,
      loaded(asked, ([byDay, byExpert, byModel]) => {
        if (byDay.rows.length === 0) return empty("Nothing was used in this time.");
        return [
          summary(byDay.rows),
          daily(byDay.rows, days),
          part("By expert", byExpert.rows, (row) => row.expert),
          part("By model", byModel.rows, (row) =>
            [row.provider, row.model && modelName(row.model)].filter(Boolean).join(" · "),
          ),
        ];
      }),
    );
  }

  const sizeOf = (row) =>
    measure.value === "money" ? row.micro_usd_charged : row.usage.input + row.usage.output;
  const shown = (number) => (measure.value === "money" ? money(number) : count(number));

  function daily(rows, days) {
    const found = new Map(rows.map((row) => [row.day, row]));
    const all = Array.from({ length: days }, (_, index) => dayOf(Date.now() - (days - 1 - index) * DAY_MS));
    const bars = all.map((day) => ({ name: day, size: found.has(day) ? sizeOf(found.get(day)) : 0 }));
    return h(
      "section",
      { class: "card chart" },
      h("h2", {}, "By day"),
      columns(bars, shown, "Usage by day"),
      asTable("By day", rows, (row) => row.day),
    );
  }

  function part(title, rows, nameOf) {
    const bars = rows
      .map((row) => ({ name: nameOf(row) || "unknown", size: sizeOf(row) }))
      .sort((a, b) => b.size - a.size);
    return h(
      "section",
      { class: "card chart" },
      h("h2", {}, title),
      barsAcross(bars, shown, title),
      asTable(title, rows, nameOf),
    );
  }

  load();
  return { node };
}

function summary(rows) {
  const sum = (of) => rows.reduce((total, row) => total + of(row), 0);
  const facts = [
    ["Cost", money(sum((row) => row.micro_usd_charged))],
    ["Tokens", count(sum((row) => row.usage.input + row.usage.output))],
    ["Replies", count(sum((row) => row.generations))],
    ["Tool calls", count(sum((row) => row.tool_calls))],
    ["Runs", count(sum((row) => row.runs))],
  ];
  return h(
    "dl",
    { class: "figures" },
    facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

function asTable(title, rows, nameOf) {
  const heads = [
    title.replace("By ", ""),
    "Cost",
    "Input",
    "Cached",
    "Output",
    "Replies",
    "Failed",
    "Calls",
    "Runs",
  ];
  const cells = rows.map((row) => [
    nameOf(row) ?? "unknown",
    money(row.micro_usd_charged),
    count(row.usage.input),
    count(row.usage.cached),
    count(row.usage.output),
    count(row.generations),
    count(row.failures),
    count(row.tool_calls),
    count(row.runs),
  ]);
  return h("details", {}, h("summary", {}, "As a table"), table(title, heads, cells));
}
