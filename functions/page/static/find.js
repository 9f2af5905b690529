/**
 * Finds a patient by id or phone number. What is typed is in no address, title or storage.
 */

import { actions, api, button, el, field, invalid, more, path, say, t } from "./app.js";

export async function show(main, { practice_id }, context) {
  context.heading(t("find.title"));
  const by = { patient_id: radio("patient_id"), phone_number: radio("phone_number") };
  by.patient_id.checked = true;
  // No maxlength: what is cut off unseen could be somebody else's.
  const asked = el("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  const labelled = field(t("find.patient_id"), asked, { help: t("find.patient_id_help") });
  const results = el("div");
  let searching = new AbortController();

  /** Take back what was found, and what is still being looked for. */
  function clear() {
    searching.abort();
    searching = new AbortController();
    invalid(asked, null);
    results.replaceChildren();
  }

  function choose(kind) {
    clear();
    labelled.querySelector("label").textContent = t(`find.${kind}`);
    labelled.querySelector(".help").textContent = t(`find.${kind}_help`);
    asked.inputMode = kind === "phone_number" ? "tel" : "text";
  }
  for (const [kind, control] of Object.entries(by)) control.addEventListener("change", () => choose(kind));

  function submit(event) {
    event.preventDefault();
    clear();
    const kind = by.patient_id.checked ? "patient_id" : "phone_number";
    const value = asked.value.trim();
    if (!value) {
      invalid(asked, t(`find.${kind}_missing`));
      return;
    }
    const refuse = () => {
      clear();
      invalid(asked, t(`find.${kind}_invalid`));
    };
    const signal = AbortSignal.any([context.signal, searching.signal]);
    const list = found(practice_id, kind, value, signal, refuse);
    results.append(el("section", { class: "card" }, el("h2", {}, t("find.results")), list));
  }
  main.append(
    el(
      "form",
      { class: "card", role: "search", novalidate: true, on: { submit } },
      el(
        "fieldset",
        { class: "inline" },
        el("legend", {}, t("find.by")),
        field(t("find.by_patient_id"), by.patient_id),
        field(t("find.by_phone_number"), by.phone_number),
      ),
      labelled,
      actions(button(t("find.button"), () => {}, { kind: "primary", type: "submit" })),
    ),
    results,
  );
}

const radio = (value) => el("input", { type: "radio", name: "by", value });

/** Make the list of who is found. `refuse` is called when what was typed is no id, or no number. */
function found(practiceId, kind, value, signal, refuse) {
  const shared = el("p", { hidden: true }, t("find.shared"));
  const search = async (cursor) => {
    const where = path`/practices/${practiceId}/patients/search`;
    const { body } = await api("POST", where, { body: { [kind]: value }, query: { cursor }, signal, repeatable: true });
    if (!cursor) {
      shared.hidden = body.items.length < 2;
      say(body.items.length ? t("find.found", { count: body.items.length }) : t(`find.${kind}_nobody`));
    }
    return body;
  };
  const refusing = (cursor) =>
    search(cursor).catch((error) => {
      if (error.status !== 422) throw error;
      refuse();
      // The field says it: the list says nothing.
      throw new DOMException("", "AbortError");
    });
  const item = ({ patient_id }) =>
    el("li", {}, el("a", { href: path`#/practices/${practiceId}/patients/${patient_id}` }, patient_id));
  const list = more(refusing, item, { empty: t(`find.${kind}_nobody`), what: t("find.searching") });
  return el("div", { class: "stack" }, shared, list);
}
