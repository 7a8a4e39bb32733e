/**
 * A form for a JSON schema, as far as forms go: texts, numbers, choices, yes and no. What is
 * nested is given as JSON. Not what is asked, nor the check: the gateway checks.
 */

import { field, h } from "./dom.js";
import { isExact } from "./format.js";

const NO_CHOICE = "—";
const PLAIN = new Set(["string", "number", "integer", "boolean"]);

/** Whether a form can ask for it field by field. */
export const isFlat = (schema) =>
  schema?.type === "object" && schema.properties !== undefined && Object.keys(schema.properties).length > 0;

/** `{node, value}`: the fields, and what they say; `value` throws when JSON cannot be read. */
export function schemaForm(schema) {
  if (!isFlat(schema)) return jsonForm("Answer, as JSON", "{}");
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties).map(([name, property]) => ({
    name,
    ...propertyField(name, property, required.has(name)),
  }));
  return {
    node: h(
      "div",
      { class: "fields" },
      fields.map((one) => one.node),
    ),
    value() {
      const found = {};
      for (const one of fields) {
        const value = one.value();
        if (value !== undefined) found[one.name] = value;
      }
      return found;
    },
  };
}

function propertyField(name, property, required) {
  const label = `${property.title ?? name}${required ? "" : " (optional)"}`;
  const hint = property.description ?? null;
  const choices = choicesOf(property);
  if (choices) return choiceField(label, hint, choices, property.default, required);
  const several = property.type === "array" && choicesOf(property.items ?? {});
  if (several) return choicesField(label, hint, several, property.default ?? []);
  if (property.type === "boolean") {
    const box = h("input", { type: "checkbox", checked: property.default === true });
    return { node: field(label, box, hint), value: () => box.checked };
  }
  if (!PLAIN.has(property.type)) {
    return jsonForm(label, property.default === undefined ? "" : JSON.stringify(property.default), hint);
  }
  const numeric = property.type !== "string";
  const input = h("input", {
    type: numeric ? "number" : ({ email: "email", date: "date", uri: "url" }[property.format] ?? "text"),
    step: property.type === "number" ? "any" : null,
    required,
    value: property.default ?? "",
  });
  const value = () => {
    if (input.value === "") return undefined;
    return numeric ? Number(input.value) : input.value;
  };
  return { node: field(label, input, hint), value };
}

/** What there is to choose from, as values with names; null where anything may be said. */
function choicesOf(schema) {
  const titled = schema.oneOf ?? schema.anyOf;
  if (titled?.every((one) => "const" in one))
    return titled.map((one) => [one.const, one.title ?? String(one.const)]);
  return schema.enum?.map((value, index) => [value, schema.enumNames?.[index] ?? String(value)]) ?? null;
}

function choiceField(label, hint, choices, preset, required) {
  const options = choices.map(([, name], index) => h("option", { value: String(index) }, name));
  const select = h("select", { required }, required ? [] : h("option", { value: "" }, NO_CHOICE), options);
  const chosen = choices.findIndex(([value]) => value === preset);
  if (chosen >= 0) select.value = String(chosen);
  const value = () => (select.value === "" ? undefined : choices[Number(select.value)][0]);
  return { node: field(label, select, hint), value };
}

function choicesField(label, hint, choices, preset) {
  const boxes = choices.map(([value]) => h("input", { type: "checkbox", checked: preset.includes(value) }));
  const lines = choices.map(([, name], index) => h("label", { class: "choice" }, boxes[index], " ", name));
  const node = h("fieldset", {}, h("legend", {}, label), hint && h("p", { class: "hint" }, hint), lines);
  return { node, value: () => choices.filter((_, index) => boxes[index].checked).map(([value]) => value) };
}

/** A field for any JSON. */
export function jsonForm(label, text, hint = null) {
  const area = h("textarea", {
    class: "code",
    rows: String(Math.min(14, text.split("\n").length + 1)),
    spellcheck: "false",
    value: text,
  });
  const value = () => {
    if (area.value.trim() === "") return undefined;
    try {
      // What is sent has to be what is seen.
      if (!isExact(area.value)) throw new SyntaxError("a page rounds numbers of more than 15 digits");
      return JSON.parse(area.value);
    } catch (error) {
      area.setAttribute("aria-invalid", "true");
      area.focus();
      throw new SyntaxError(`${label}: ${error.message}`);
    }
  };
  area.addEventListener("input", () => area.removeAttribute("aria-invalid"));
  return { node: field(label, area, hint), value };
}
