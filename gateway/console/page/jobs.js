/** The jobs, newest first, kept up to date by the tenant's event feed. Not one job: `job.js`. */

import { look, seg } from "./api.js";
import { button, h, put } from "./dom.js";
import { chip } from "./entries.js";
import { ago, money, moment, plural } from "./format.js";
import { attempt, busy, empty, heading } from "./shell.js";
import { follow } from "./sse.js";

const STATUSES = ["running", "waiting", "paused", "completed", "stopped", "failed", "cancelled"];
const LOOK_MS = 400; // how long news are gathered before the list is asked for again
const TYPES =
  "run.,generation.completed.,approval.,question.,tool_call.asked.,tool_call.answered.,delegation.";
const QUERY_CHARS = 160;

export function jobsPage(here) {
  const closing = new AbortController();
  const list = h("div", {}, busy());
  const pages = h("div", { class: "actions" });
  const status = h(
    "select",
    { id: "status", onchange: filter },
    h("option", { value: "" }, "any"),
    STATUSES.map((one) => h("option", { value: one }, one)),
  );
  const expert = h("input", { type: "search", id: "expert", placeholder: "any", onchange: filter });
  status.value = here.query.get("status") ?? "";
  expert.value = here.query.get("expert") ?? "";
  const link = h("span", { class: "connection", "data-state": "connecting" });
  const node = h(
    "section",
    {},
    heading("Jobs", h("a", { class: "button primary", href: "#/start" }, "Start a job")),
    h(
      "div",
      { class: "filters" },
      h("div", {}, h("label", { for: "status" }, "Status"), status),
      h("div", {}, h("label", { for: "expert" }, "Expert"), expert),
      h(
        "form",
        { role: "search", onsubmit: search },
        h("label", { for: "find" }, "Search in histories"),
        h("input", { type: "search", id: "find", placeholder: "words" }),
      ),
      link,
    ),
    list,
    pages,
  );
  const trail = [null]; // the cursors of the pages up to this one
  let asking = null;
  let timer = null;

  function search(event) {
    event.preventDefault();
    location.hash = `#/search?q=${seg(event.target.querySelector("input").value)}`;
  }

  function filter() {
    const query = new URLSearchParams(
      Object.entries({ status: status.value, expert: expert.value.trim() }).filter(([, value]) => value),
    );
    location.hash = `#/jobs${query.size ? `?${query}` : ""}`;
  }

  async function load(position = null) {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    const query = {
      status: status.value,
      expert: expert.value.trim(),
      limit: 50,
      cursor: trail.at(-1),
      min_position: position,
    };
    const found = await attempt(() => look("/jobs", query, { signal }));
    if (found && !signal.aborted && !closing.signal.aborted) show(found);
    return found;
  }

  function show(found) {
    const filtered = status.value || expert.value;
    if (found.jobs.length === 0) {
      put(
        list,
        filtered
          ? empty("No job is like that.")
          : empty(
              "There are no jobs yet.",
              h("a", { class: "button primary", href: "#/start" }, "Start the first one"),
            ),
      );
    } else {
      const focused = document.activeElement?.dataset?.job;
      put(list, h("ul", { class: "job-list", "aria-label": "Jobs" }, found.jobs.map(row)));
      if (focused) list.querySelector(`[data-job="${CSS.escape(focused)}"]`)?.focus();
    }
    put(
      pages,
      trail.length > 1 && button("‹ Newer", () => (trail.pop(), load())),
      found.next_cursor && button("Older ›", () => (trail.push(found.next_cursor), load())),
    );
  }

  /** Ask again soon after news: once for many of them, and no older than the last of them. */
  function news(cursor) {
    if (timer !== null || document.hidden) return;
    timer = setTimeout(() => {
      timer = null;
      if (!closing.signal.aborted) load(cursor);
    }, LOOK_MS);
  }

  load().then((found) => {
    if (closing.signal.aborted) return;
    follow({
      url: `/v1/events?types=${TYPES}`,
      after: found?.position ?? null,
      hear: (frame) => frame.data?.event && news(frame.id),
      told: (what) => {
        link.dataset.state = what;
        link.textContent =
          { live: "Live", waiting: "Connection lost, trying again…", gone: "Not live" }[what] ?? "";
      },
      signal: closing.signal,
    });
  });
  const looking = () => document.hidden || load();
  document.addEventListener("visibilitychange", looking);

  return {
    node,
    close() {
      closing.abort();
      asking?.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", looking);
    },
  };
}

function standingOf(job) {
  if (job.status !== "running") return job.status;
  if (job.paused) return "paused";
  return job.waiting ? "waiting" : "running";
}

function row(job) {
  const used = [
    plural(job.runs, "run"),
    plural(job.steps, "step"),
    plural(job.tokens_charged, "token"),
    money(job.micro_usd_charged),
  ];
  return h(
    "li",
    {},
    h(
      "a",
      { href: `#/job/${seg(job.job)}/conversation`, "data-job": job.job, class: "job-row" },
      h("span", { class: "job-query" }, job.query.slice(0, QUERY_CHARS) || job.job),
      chip(standingOf(job)),
      h("span", { class: "facts" }, `${job.expert} · ${used.join(" · ")}`),
      h(
        "time",
        {
          class: "facts",
          datetime: new Date(job.started_at_ms).toISOString(),
          title: moment(job.started_at_ms),
        },
        ago(job.started_at_ms),
      ),
    ),
  );
}
