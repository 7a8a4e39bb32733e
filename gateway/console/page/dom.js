/**
 * Builds nodes. Text becomes text nodes and nothing else: no string is ever read as markup here,
 * so what models and tools say cannot become part of the page.
 */

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: attributes, `onclick` and its like as listeners, children as nodes or text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "open") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Put these children in place of what a node has; the node is given back. */
export function put(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

/** Set a text, but leave the node alone when it says that already: selections stay. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A button that does something; it cannot be pressed twice while it does. */
export function button(label, press, attributes = {}) {
  const node = h("button", { type: "button", ...attributes }, label);
  node.addEventListener("click", async () => {
    if (node.getAttribute("aria-disabled") === "true") return;
    node.setAttribute("aria-disabled", "true");
    try {
      await press(node);
    } finally {
      node.removeAttribute("aria-disabled");
    }
  });
  return node;
}

let count = 0;

/** A label and its field, tied together. */
export function field(label, input, hint = null) {
  count += 1;
  input.id ||= `f${count}`;
  const help = hint && h("p", { class: "hint", id: `${input.id}-hint` }, hint);
  if (help) input.setAttribute("aria-describedby", help.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, help);
}

/** A table with a caption, for those who see it and those who hear it. */
export function table(caption, heads, rows, attributes = {}) {
  const head = h(
    "tr",
    {},
    heads.map((one) => h("th", { scope: "col" }, one)),
  );
  const body = rows.map((cells) =>
    h(
      "tr",
      {},
      cells.map((cell) => h("td", {}, cell)),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": `${caption}, table` },
    h(
      "table",
      attributes,
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, head),
      h("tbody", {}, body),
    ),
  );
}
