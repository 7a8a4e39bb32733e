// Shows the OpenAPI document beside it, and lets people try what it tells. Makes no other requests
// than those that are asked for, and writes text only as text: nothing of an answer becomes HTML.
"use strict";

const SHOWN_MAX = 200000;
const DEPTH_MAX = 6;
let spec = null;

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// What a description says, with what stands between backticks set as code.
function said(text) {
  return String(text || "").split("`").map((one, at) => (at % 2 ? make("code", {}, one) : one));
}

function resolved(schema) {
  const seen = new Set();
  while (schema && schema.$ref && !seen.has(schema.$ref)) {
    seen.add(schema.$ref);
    schema = schema.$ref.slice(2).split("/").reduce((at, name) => at && at[name], spec);
  }
  return schema || {};
}

function kindOf(schema) {
  const shape = resolved(schema);
  const choices = shape.anyOf || shape.oneOf;
  if (choices) return choices.map(kindOf).join(" or ");
  if (shape.const !== undefined) return JSON.stringify(shape.const);
  if (shape.enum) return shape.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (shape.type === "array") return `list of ${kindOf(shape.items || {})}`;
  if (schema && schema.$ref) return schema.$ref.split("/").pop();
  return Array.isArray(shape.type) ? shape.type.join(" or ") : shape.type || "any";
}

function boundsOf(shape) {
  const told = [];
  for (const [name, text] of [["minimum", "at least "], ["maximum", "at most "], ["maxLength", "characters ≤ "],
    ["maxItems", "items ≤ "], ["pattern", "matches "]]) {
    if (shape[name] !== undefined) told.push(text + shape[name]);
  }
  return told.join(", ");
}

function innerOf(schema) {
  let shape = resolved(schema);
  for (const one of shape.anyOf || shape.oneOf || []) {
    const inner = innerOf(one);
    if (inner) return inner;
  }
  if (shape.type === "array") return innerOf(shape.items || {});
  return shape.properties ? shape : null;
}

function fields(shape, depth) {
  const list = make("dl");
  for (const [name, one] of Object.entries(shape.properties || {})) {
    const must = (shape.required || []).includes(name) ? "" : ", may be left out";
    list.append(make("dt", {}, name, " ", make("span", { class: "kind" }, kindOf(one) + must)));
    const about = make("dd");
    const text = [one.description || resolved(one).description, boundsOf(one)].filter(Boolean).join(" — ");
    if (text) about.append(...said(text));
    const inner = innerOf(one);
    if (inner && depth < DEPTH_MAX) about.append(later(kindOf(one), () => fields(inner, depth + 1)));
    if (about.childNodes.length) list.append(about);
  }
  return list;
}

function later(title, build) {
  const node = make("details", {}, make("summary", { class: "quiet" }, ...said(title)));
  node.addEventListener("toggle", () => {
    if (node.open && node.childNodes.length === 1) node.append(build());
  });
  return node;
}

function schemaOf(content) {
  const [type, media] = Object.entries(content || {})[0] || [null, {}];
  const node = make("div", {}, make("p", { class: "quiet" }, type || "no content"));
  const shape = innerOf(media.schema || {});
  if (shape) node.append(fields(shape, 0));
  for (const [name, frame] of Object.entries(media["x-events"] || {})) {
    node.append(later(`event: ${name}`, () => fields(innerOf(frame) || {}, 0)));
  }
  return node;
}

function answersOf(operation) {
  const node = make("div");
  for (const [status, told] of Object.entries(operation.responses)) {
    const about = resolved(told);
    node.append(later(`${status} — ${about.description || ""}`, () => schemaOf(about.content)));
  }
  return node;
}

function parametersOf(operation) {
  const list = make("dl");
  for (const one of operation.parameters || []) {
    const must = one.required ? "" : ", may be left out";
    list.append(make("dt", {}, one.name, " ",
      make("span", { class: "kind" }, `${kindOf(one.schema)}, in the ${one.in}${must}`)));
    const text = [one.description, boundsOf(one.schema)].filter(Boolean).join(" — ");
    if (text) list.append(make("dd", {}, ...said(text)));
  }
  return list;
}

function requestOf(path, method, operation, form) {
  const base = new URL("..", new URL("openapi.json", location.href));
  const query = new URLSearchParams();
  const headers = new Headers();
  let target = path;
  for (const one of operation.parameters || []) {
    const value = form.elements[`p:${one.name}`].value;
    if (value === "") continue;
    if (one.in === "path") {
      const parts = one.name === "path" ? value.split("/") : [value];
      target = target.replace(`{${one.name}}`, parts.map(encodeURIComponent).join("/"));
    } else if (one.in === "query") {
      const many = resolved(one.schema).type === "array";
      for (const each of many ? value.split(",") : [value]) query.append(one.name, each);
    } else if (one.in === "header") headers.set(one.name, value);
  }
  const key = document.getElementById("key").value.trim();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const init = { method: method.toUpperCase(), headers };
  const body = form.elements.body;
  const file = form.elements.file;
  if (body) {
    headers.set("Content-Type", "application/json");
    init.body = body.value;
  } else if (file && file.files.length) {
    headers.set("Content-Type", file.files[0].type || "application/octet-stream");
    init.body = file.files[0];
  }
  const url = new URL(target.replace(/^\//, ""), base);
  url.search = query;
  return [url, init];
}

async function send(path, method, operation, form, out, stop) {
  const abort = new AbortController();
  const shown = make("pre");
  const status = make("p", { class: "status" }, "…");
  out.replaceChildren(status, shown);
  stop.hidden = false;
  stop.onclick = () => abort.abort();
  try {
    const [url, init] = requestOf(path, method, operation, form);
    const answer = await fetch(url, { ...init, signal: abort.signal, credentials: "same-origin" });
    status.textContent = `${answer.status} ${answer.statusText}`;
    status.classList.add(answer.ok ? "good" : "bad");
    await show(answer, shown);
  } catch (error) {
    if (error.name !== "AbortError") {
      status.textContent = `It could not be sent: ${error.message}`;
      status.classList.add("bad");
    }
  } finally {
    stop.hidden = true;
  }
}

async function show(answer, shown) {
  const type = answer.headers.get("content-type") || "";
  const reader = answer.body ? answer.body.getReader() : null;
  const decoder = new TextDecoder();
  let text = "";
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
    shown.textContent = text.slice(0, SHOWN_MAX);
    if (text.length > SHOWN_MAX) {
      shown.append("\n…");
      await reader.cancel();
      return;
    }
  }
  if (type.includes("json") && text) shown.textContent = JSON.stringify(JSON.parse(text), null, 2);
}

function field(one) {
  const shape = resolved(one.schema);
  const name = `p:${one.name}`;
  if (!shape.enum) return make("label", {}, one.name, make("input", { name, required: one.required }));
  const choices = ["", ...shape.enum].map((value) => make("option", { value }, String(value)));
  return make("label", {}, one.name, make("select", { name }, ...choices));
}

function trial(path, method, operation) {
  const form = make("form", { class: "try", autocomplete: "off" });
  for (const one of operation.parameters || []) form.append(field(one));
  const content = operation.requestBody ? operation.requestBody.content : {};
  const json = content["application/json"];
  if (json) {
    const examples = Object.values(json.examples || {});
    const area = make("textarea", { name: "body", spellcheck: "false" });
    area.value = JSON.stringify(examples.length ? examples[0].value : {}, null, 2);
    form.append(make("label", {}, "body", area));
  } else if (operation.requestBody) {
    form.append(make("label", {}, "file", make("input", { name: "file", type: "file" })));
  }
  const stop = make("button", { type: "button", hidden: true }, "Stop");
  const out = make("div");
  form.append(make("div", { class: "buttons" }, make("button", { type: "submit" }, "Send"), stop));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(path, method, operation, form, out, stop);
  });
  return make("div", {}, form, out);
}

function examplesOf(operation) {
  const json = operation.requestBody && operation.requestBody.content["application/json"];
  const node = make("div");
  for (const [name, one] of Object.entries((json && json.examples) || {})) {
    node.append(make("p", { class: "quiet" }, name), make("pre", {}, JSON.stringify(one.value, null, 2)));
  }
  return node;
}

function inside(path, method, operation) {
  const node = make("div", { class: "inside" });
  const who = operation.security && !operation.security.length ? "Anybody may ask this."
    : `Needs the role ${operation["x-role"]}.`;
  node.append(make("p", { class: "quiet" }, `${operation.operationId}. ${who}`));
  if (operation.description) node.append(make("p", {}, ...said(operation.description)));
  if ((operation.parameters || []).length) node.append(make("h3", {}, "Parameters"), parametersOf(operation));
  if (operation.requestBody) {
    node.append(make("h3", {}, "Body"), schemaOf(operation.requestBody.content), examplesOf(operation));
  }
  node.append(make("h3", {}, "Answers"), answersOf(operation), make("h3", {}, "Try it"), trial(path, method, operation));
  return node;
}

function entry(path, method, operation) {
  const node = make("details", { class: "operation", id: operation.operationId },
    make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("span", { class: "path" }, path), make("span", { class: "summary" }, ...said(operation.summary))));
  node.dataset.words = `${method} ${path} ${operation.operationId} ${operation.summary}`.toLowerCase();
  node.addEventListener("toggle", () => {
    if (node.open && node.childNodes.length === 1) node.append(inside(path, method, operation));
  });
  return node;
}

function list() {
  const place = document.getElementById("operations");
  place.replaceChildren();
  const about = new Map((spec.tags || []).map((tag) => [tag.name, tag.description || ""]));
  const sections = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      if (!sections.has(tag)) {
        sections.set(tag, make("section", {}, make("h2", {}, tag), make("p", { class: "quiet" }, ...said(about.get(tag)))));
        place.append(sections.get(tag));
      }
      sections.get(tag).append(entry(path, method, operation));
    }
  }
}

function find() {
  const words = document.getElementById("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("main section")) {
    let any = false;
    for (const node of section.querySelectorAll("details.operation")) {
      node.hidden = !words.every((word) => node.dataset.words.includes(word));
      any = any || !node.hidden;
    }
    section.hidden = !any;
  }
}

async function begin() {
  document.getElementById("ask").addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("find").addEventListener("input", find);
  try {
    const answer = await fetch("openapi.json", { credentials: "same-origin" });
    spec = await answer.json();
  } catch (error) {
    document.getElementById("operations").replaceChildren(`The document could not be read: ${error.message}`);
    return;
  }
  document.getElementById("about").replaceChildren(...said(spec.info.description));
  list();
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted) {
    wanted.open = true;
    wanted.scrollIntoView();
  }
}

begin();
