/**
 * The job as a picture to scale: a lane a run, and in it what it did and what it waited for.
 * The same is in a table below, for those who do not see pictures. What is shown: `spans.js`.
 */

import { button, h, put, s, say, table } from "./dom.js";
import { clock, duration, shortName, STATES } from "./format.js";
import { extentOf, lanesOf, ticksOf } from "./spans.js";

const ROW_PX = 16;
const LANE_GAP_PX = 12;
const AXIS_PX = 26;
const TICK_PX = 110;
const ZOOM_MOST = 200;
const NARROW_PX = 2; // two spans closer than this are one, or 5,000 of them would be 5,000 nodes
const TABLE_ROWS_MAX = 500;
const REDRAW_MS = 500;
const KINDS = {
  generation: "Generation",
  call: "Tool call",
  child: "Delegate",
  wait: "Wait for a person",
  pause: "Pause",
};

export function timelinePart(job) {
  const names = h("div", { class: "lane-names", "aria-hidden": "true" });
  const scroller = h("div", {
    class: "lanes",
    tabindex: "0",
    role: "group",
    "aria-label": "Timeline; arrow keys go from one thing to the next",
  });
  const detail = h(
    "p",
    { class: "span-detail", role: "status" },
    "Point at something, or go through it with the arrow keys.",
  );
  const listing = h("details", { class: "as-table" }, h("summary", {}, "As a table"));
  const legend = h(
    "ul",
    { class: "legend" },
    Object.entries(KINDS).map(([kind, label]) => h("li", { class: `k-${kind}` }, label)),
  );
  const bar = h(
    "div",
    { class: "actions" },
    button("−", () => zoomBy(1 / 2), { "aria-label": "Zoom out" }),
    button("+", () => zoomBy(2), { "aria-label": "Zoom in" }),
    button("Fit", () => zoomBy(0)),
    legend,
  );
  const node = h(
    "section",
    { "aria-label": "Timeline", class: "timeline" },
    bar,
    h("div", { class: "lane-box" }, names, scroller),
    detail,
    listing,
  );
  let zoom = 1;
  let drawn = "";
  let at = null; // the span that is told of
  let marks = [];

  function zoomBy(factor) {
    const middle = (scroller.scrollLeft + scroller.clientWidth / 2) / scroller.scrollWidth;
    zoom = factor === 0 ? 1 : Math.min(ZOOM_MOST, Math.max(1, zoom * factor));
    draw();
    scroller.scrollLeft = middle * scroller.scrollWidth - scroller.clientWidth / 2;
  }

  function draw() {
    const state = job.state();
    const lanes = lanesOf(state);
    const nowMs = Math.max(Date.now(), state.lastMs);
    const width = Math.max(200, scroller.clientWidth) * zoom;
    const open = lanes.some(({ run }) => run.status === "running");
    // Pieces of text change nothing here, and what goes on grows no more often than eyes follow.
    const now = `${state.events} ${width} ${open ? Math.floor(nowMs / REDRAW_MS) : ""}`;
    if (now === drawn) return;
    drawn = now;
    const extent = extentOf(lanes, nowMs);
    const scale = width / (extent.to - extent.from);
    picture(lanes, extent, scale, width, nowMs);
    if (listing.open) drawTable(lanes, nowMs);
  }

  function picture(lanes, extent, scale, width, nowMs) {
    const x = (ms) => (ms - extent.from) * scale;
    const tops = new Map();
    let y = AXIS_PX;
    for (const lane of lanes) {
      tops.set(lane.run.name, y);
      y += lane.rows * ROW_PX + LANE_GAP_PX;
    }
    marks = [];
    const svg = s("svg", {
      width,
      height: y,
      viewBox: `0 0 ${width} ${y}`,
      role: "img",
      "aria-label": `${lanes.length} lanes, ${duration(extent.to - extent.from)} in all; as a table below`,
    });
    svg.append(axis(extent, scale, width, y));
    for (const lane of lanes) svg.append(...laneNodes(lane, tops, x, width, nowMs));
    put(scroller, svg);
    put(
      names,
      lanes.map(({ run, depth, rows }) => {
        const label = h(
          "span",
          { class: `lane-name deep${Math.min(depth, 6)}`, title: `${run.expert} (${run.name})` },
          shortName(run.expert),
        );
        label.style.height = `${rows * ROW_PX + LANE_GAP_PX}px`;
        return label;
      }),
    );
  }

  function laneNodes(lane, tops, x, width, nowMs) {
    const top = tops.get(lane.run.name);
    const found = [
      s("line", {
        x1: 0,
        x2: width,
        y1: top - LANE_GAP_PX / 2,
        y2: top - LANE_GAP_PX / 2,
        class: "lane-line",
      }),
    ];
    const last = new Map(); // by kind and row: where the last one ended
    for (const one of lane.spans) {
      const left = x(one.from);
      const right = Math.max(left + NARROW_PX, x(one.to ?? nowMs));
      const place = `${one.kind} ${one.row}`;
      if (right - left <= NARROW_PX && left < (last.get(place) ?? -1) + 1) continue;
      last.set(place, right);
      found.push(...spanNodes(lane, one, left, right, top, tops));
    }
    return found;
  }

  function spanNodes(lane, one, left, right, top, tops) {
    const y = top + one.row * ROW_PX;
    const height = one.kind === "wait" ? ROW_PX - 9 : ROW_PX - 4;
    const rect = s("rect", {
      x: left,
      y: one.kind === "wait" ? y + 3 : y,
      width: right - left,
      height,
      rx: 2,
      class: `span ${one.kind} ${one.state ?? ""}`,
    });
    const mark = { lane, one, rect };
    marks.push(mark);
    rect.addEventListener("pointerenter", () => tell(mark));
    rect.addEventListener("click", () => go(mark));
    if (at && at.one.entry === one.entry && at.one.kind === one.kind && at.one.from === one.from) {
      at = mark;
      rect.classList.add("at");
    }
    const child = one.entry?.child;
    if (one.kind !== "child" || !tops.has(child)) return [rect];
    // From the call down to the lane of the run that answers it.
    const to = tops.get(child);
    return [s("path", { d: `M${left} ${y + height} V${to - 2}`, class: "thread" }), rect];
  }

  function tell(mark) {
    at?.rect.classList.remove("at");
    at = mark;
    mark.rect.classList.add("at");
    say(detail, words(mark));
  }

  function words({ lane, one }) {
    const state = one.state ? ` · ${STATES[one.state]?.[0] ?? one.state}` : "";
    const from = one.from - job.root().startedMs;
    const time = one.to === null ? "goes on" : duration(one.to - one.from);
    return `${lane.run.expert} · ${KINDS[one.kind]} · ${one.name}${state} · at ${duration(from)} (${clock(one.from)}) · ${time}`;
  }

  const go = ({ lane, one }) => one.entry && job.show(lane.run.name, one.entry.id);

  scroller.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && at) return go(at);
    if (by === undefined || marks.length === 0) return undefined;
    event.preventDefault();
    const next = marks[Math.min(marks.length - 1, Math.max(0, marks.indexOf(at) + by))];
    tell(next);
    const x = Number(next.rect.getAttribute("x"));
    const seen = x >= scroller.scrollLeft && x <= scroller.scrollLeft + scroller.clientWidth - 40;
    if (!seen) scroller.scrollLeft = x - scroller.clientWidth / 3;
    return undefined;
  });
  scroller.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
    },
    { passive: false },
  );
  listing.addEventListener("toggle", () => {
    drawn = "";
    draw();
  });

  function drawTable(lanes, nowMs) {
    const all = lanes.flatMap((lane) => lane.spans.map((one) => ({ lane, one })));
    all.sort((a, b) => a.one.from - b.one.from);
    const rows = all
      .slice(-TABLE_ROWS_MAX)
      .map(({ lane, one }) => [
        duration(one.from - job.root().startedMs),
        lane.run.expert,
        KINDS[one.kind],
        one.name,
        STATES[one.state]?.[0] ?? one.state ?? "",
        one.to === null ? `${duration(nowMs - one.from)}, goes on` : duration(one.to - one.from),
      ]);
    const cut =
      all.length > TABLE_ROWS_MAX &&
      h("p", { class: "hint" }, `The last ${TABLE_ROWS_MAX} of ${all.length}.`);
    put(
      listing,
      h("summary", {}, "As a table"),
      cut,
      table("Timeline", ["At", "Expert", "What", "Name", "State", "Took"], rows),
    );
  }

  return { node, draw, shown: () => (drawn = "") };
}

function axis(extent, scale, width, height) {
  const ticks = ticksOf(extent.to - extent.from, Math.max(2, width / TICK_PX));
  return s(
    "g",
    { class: "axis" },
    ticks.map((ms) => {
      const x = ms * scale;
      return [
        s("line", { x1: x, x2: x, y1: AXIS_PX - 8, y2: height }),
        s("text", { x: x + 3, y: AXIS_PX - 11 }, ms === 0 ? "0" : duration(ms)),
      ];
    }),
  );
}
