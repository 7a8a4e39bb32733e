/** Takes an API key once and makes a session of it. The page keeps nothing: the cookie is not its own. */

import { post } from "./api.js";
import { field, h, say } from "./dom.js";
import { heading } from "./shell.js";

export function loginPage(signedIn) {
  const key = h("input", { type: "password", name: "key", autocomplete: "current-password", required: true });
  const trouble = h("p", { class: "trouble", role: "alert" });
  const enter = async () => {
    say(trouble, "");
    try {
      await post("/session", { key: key.value.trim() });
      key.value = "";
      await signedIn();
    } catch (error) {
      say(trouble, error.status === 401 ? "This key is not known here, or is over." : error.message);
      key.select();
    }
  };
  const submit = (event) => {
    event.preventDefault();
    enter();
  };
  const node = h(
    "section",
    { class: "narrow" },
    heading("Sign in"),
    h(
      "form",
      { onsubmit: submit, class: "card" },
      field("API key", key, "Made with “peritus keys”, or the content of gateway.key in the state folder."),
      trouble,
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Sign in")),
    ),
  );
  return { node };
}
