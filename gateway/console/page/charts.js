/** Bars, upright and across, as pictures with words. Not the figures. */

import { h, s } from "./dom.js";

const WIDTH = 720;
const HEIGHT = 160;

/** Upright bars in the order they are given, such as days. Words are beside the picture: it stretches. */
export function columns(bars, shown, label) {
  const most = Math.max(...bars.map((bar) => bar.size));
  const each = WIDTH / bars.length;
  const nodes = bars.map((bar, index) => {
    const height = bar.size === 0 ? 0 : Math.max(2, (bar.size / most) * (HEIGHT - 4));
    return s(
      "g",
      {},
      s("title", {}, `${bar.name}: ${shown(bar.size)}`),
      s("rect", { x: index * each, y: 0, width: each, height: HEIGHT, class: "hit" }),
      s("rect", {
        x: index * each + each * 0.12,
        y: HEIGHT - height,
        width: each * 0.76,
        height,
        class: "bar",
      }),
    );
  });
  const base = s("line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT, class: "base" });
  const picture = s(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      class: "columns",
      role: "img",
      "aria-label": `${label}; as a table below`,
    },
    nodes,
    base,
  );
  const foot = h(
    "p",
    { class: "columns-foot", "aria-hidden": "true" },
    h("span", {}, bars[0].name),
    h("span", {}, bars.at(-1).name),
  );
  return h("div", {}, h("p", { class: "hint" }, `At most ${shown(most)} in a day`), picture, foot);
}

/** Bars across, a line each, with their names and figures in words. */
export function barsAcross(bars, shown, label) {
  const most = Math.max(1, ...bars.map((bar) => bar.size));
  return h(
    "ul",
    { class: "across", "aria-label": label },
    bars.map((bar) => {
      const line = s(
        "svg",
        { viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
        s("rect", { x: 0, y: 0, width: 100, height: 4, class: "hit" }),
        s("rect", {
          x: 0,
          y: 0,
          width: bar.size === 0 ? 0 : Math.max(0.6, (bar.size / most) * 100),
          height: 4,
          class: "bar",
        }),
      );
      return h(
        "li",
        {},
        h("span", { class: "name" }, bar.name),
        h("span", { class: "figure" }, shown(bar.size)),
        line,
      );
    }),
  );
}
