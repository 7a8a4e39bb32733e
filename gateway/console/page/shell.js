/** What all pages share: announcements, trouble, dialogs, themes, and who is signed in. */

import { h, button, put, say } from "./dom.js";

const ANNOUNCE_MS = 1_500;
const TOAST_MS = 8_000;

let pending = null;

/** Say something to people who listen; at most one in a while, and then the newest. */
export function announce(text) {
  if (pending === null) {
    setTimeout(() => {
      say(document.getElementById("announcer"), pending);
      pending = null;
    }, ANNOUNCE_MS);
  }
  pending = text;
}

/** Show what went wrong, or that something was done, where it can be read and put away. */
export function toast(text, tone = "bad") {
  const node = h("div", { class: `toast ${tone}` }, h("p", {}, text));
  const away = () => node.remove();
  node.append(h("button", { type: "button", class: "plain", "aria-label": "Put away", onclick: away }, "×"));
  document.getElementById("toasts").append(node);
  if (tone !== "bad") setTimeout(away, TOAST_MS);
}

/** Do something, and tell of what goes wrong in the words of the gateway. */
export async function attempt(what) {
  try {
    return await what();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (error.status !== 401) toast(error.message);
    if (error.status === undefined) throw error; // a mistake of the page itself
    return undefined;
  }
}

/** A dialog over the page; it is gone when it closes, and the focus is back where it was. */
export function dialog(title, ...content) {
  const node = h(
    "dialog",
    { "aria-label": title },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", {}, title),
      h(
        "button",
        { type: "button", class: "plain", "aria-label": "Close", onclick: () => node.close() },
        "×",
      ),
    ),
    content,
  );
  const back = document.activeElement;
  node.addEventListener("close", () => {
    node.remove();
    if (back instanceof HTMLElement && back.isConnected) back.focus();
  });
  document.body.append(node);
  node.showModal();
  return node;
}

/** Ask before something that cannot be taken back; `act` is done when it is confirmed. */
export function confirmed(title, text, label, act, ...fields) {
  const box = dialog(
    title,
    h("p", {}, text),
    fields,
    h(
      "div",
      { class: "actions" },
      button(
        label,
        async () => {
          await act();
          box.close();
        },
        { class: "danger" },
      ),
      button("Go back", () => box.close()),
    ),
  );
  return box;
}

/** The page's own title and heading; the heading gets the focus when the page changes. */
export function heading(text, ...more) {
  document.title = `${text} · Peritus`;
  return h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, text), more);
}

export const empty = (text, ...more) => h("div", { class: "empty" }, h("p", {}, text), more);

export const busy = () => h("p", { class: "hint", role: "status" }, "Loading…");

/** Something that is fetched once, in place of a note that says so. */
export function loaded(fetching, show) {
  const node = h("div", {}, busy());
  fetching.then(
    (found) => put(node, show(found)),
    (error) => {
      if (error.name !== "AbortError") put(node, empty(error.message));
    },
  );
  return node;
}

// The theme: what the system says, unless a person chose.

const THEMES = ["system", "light", "dark"];

export function themeSwitch() {
  const stored = () => localStorage.getItem("peritus-theme") ?? "system";
  const apply = () => {
    const theme = stored();
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    say(node, { system: "◐", light: "○", dark: "●" }[theme]);
    node.setAttribute("aria-label", `Colours: ${theme}`);
    node.setAttribute("title", `Colours: ${theme}`);
  };
  const next = () => {
    localStorage.setItem("peritus-theme", THEMES[(THEMES.indexOf(stored()) + 1) % THEMES.length]);
    apply();
  };
  const node = h("button", { type: "button", class: "plain", id: "theme", onclick: next }, "");
  apply();
  return node;
}
