/**
 * The truth table of the practice's policy: what each shape of patient gets from each set of channels, and what would change
 * under another policy. Nothing is saved here.
 */

import { actions, api, badge, button, el, field, fill, hasText, newId, path, say, t } from "./app.js";

const INITIALS = { T: "text", C: "call", E: "email" };

export async function show(main, { practice_id }, context) {
  context.heading(t("truth_table.title"));
  const place = el("div", { class: "stack truth-table" });
  main.append(el("p", { class: "no-print" }, t("truth_table.intro")), place);
  await fill(place, t("list.loading"), async () => {
    const own = await read(practice_id, {}, context.signal);
    return comparison(practice_id, own, context.signal);
  });
}

/** Read the table of the practice's policy, with these flags in the place of its own. */
async function read(practiceId, flags, signal) {
  const { body } = await api("GET", path`/practices/${practiceId}/routing/truth-table`, { query: flags, signal });
  return body;
}

function comparison(practiceId, own, signal) {
  const flags = Object.keys(own.policy);
  const boxes = new Map(flags.map((flag) => [flag, el("input", { type: "checkbox", on: { change: update } })]));
  const shown = el("div", { class: "stack" });
  let asking = new AbortController();

  function preset() {
    for (const [flag, box] of boxes) box.checked = own.policy[flag];
  }

  async function update() {
    asking.abort();
    asking = new AbortController();
    const until = AbortSignal.any([signal, asking.signal]);
    const chosen = Object.fromEntries(flags.map((flag) => [flag, boxes.get(flag).checked]));
    const isOwn = flags.every((flag) => chosen[flag] === own.policy[flag]);
    const isFilled = await fill(shown, t("truth_table.asking"), async () => {
      const table = isOwn ? own : await read(practiceId, chosen, until);
      until.throwIfAborted();
      return content(isOwn, compared(table.rows, own.rows), table.policy);
    });
    if (isFilled) say(shown.firstChild.textContent);
  }

  function reset() {
    preset();
    return update();
  }

  preset();
  shown.append(...content(true, own.rows, own.policy));
  return [
    el(
      "section",
      { class: "card no-print" },
      el("fieldset", {}, el("legend", {}, t("truth_table.policy")), [...boxes].map(([flag, box]) => choice(flag, box))),
      el("p", { class: "quiet" }, t("truth_table.not_saved")),
      actions(button(t("truth_table.reset"), reset), button(t("truth_table.print"), () => window.print())),
    ),
    shown,
  ];
}

const content = (isOwn, rows, policy) => [
  el("p", { class: "truth-table-summary" }, summary(isOwn, rows)),
  tableOf(rows, policy),
];

const choice = (flag, box) => field(nameOf(flag), box, { help: hasText(`truth_table.does.${flag}`) && t(`truth_table.does.${flag}`) });

const nameOf = (flag) => (hasText(`truth_table.flag.${flag}`) ? t(`truth_table.flag.${flag}`) : flag);

function summary(isOwn, rows) {
  if (isOwn) return t("truth_table.own");
  return t("truth_table.changed", { count: rows.flatMap(({ cells }) => cells).filter(({ was }) => was !== undefined).length });
}

/**
 * Put the cells of a table beside the practice's own: one that changes has what it `was`, null being nothing.
 *
 * A row for both consents stands for the two that the other table may have.
 */
function compared(rows, own) {
  const patients = [...new Set(rows.map(({ patient }) => patient))];
  return patients.flatMap((patient) => {
    const [now, before] = [rows, own].map((table) => table.filter((row) => row.patient === patient));
    const longer = now.length >= before.length ? now : before;
    return longer.map(({ consent }) => {
      const [here, there] = [now, before].map((found) => found.find((row) => row.consent === consent) ?? found[0]);
      const cells = here.cells.map(({ channels, channel }, at) => {
        const was = there.cells[at].channel;
        return { channels, channel, was: was === channel ? undefined : was };
      });
      return { patient, consent, cells };
    });
  });
}

function tableOf(rows, policy) {
  const id = newId();
  const channel = (initial) => t(`truth_table.${INITIALS[initial]}`);
  const sets = rows[0].cells.map(({ channels }) => channels.split(" ").map(channel).join(", "));
  const head = (text, attributes) => el("th", { scope: "col", ...attributes }, text);
  return el(
    "div",
    { class: "table", role: "region", tabindex: "0", "aria-labelledby": id },
    el(
      "table",
      {},
      el(
        "caption",
        {},
        el(
          "div",
          { class: "truth-table-caption" },
          el("span", { id }, t("truth_table.caption")),
          " ",
          el("span", { class: "quiet" }, departures(policy)),
        ),
      ),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head(t("truth_table.patient"), { rowspan: 2 }),
          head(t("truth_table.consent"), { rowspan: 2 }),
          head(t("truth_table.message"), { colspan: sets.length, scope: "colgroup" }),
        ),
        el("tr", {}, sets.map((set) => head(set))),
      ),
      Object.values(Object.groupBy(rows, ({ patient }) => patient)).map(bodyOf),
    ),
  );
}

function departures(policy) {
  const on = Object.keys(policy).filter((flag) => policy[flag]);
  return on.length ? t("truth_table.flags_on", { flags: on.map(nameOf).join("; ") }) : t("truth_table.flags_off");
}

const bodyOf = (rows) =>
  el(
    "tbody",
    {},
    rows.map(({ patient, consent, cells }, at) =>
      el(
        "tr",
        {},
        at === 0 && el("th", { scope: "rowgroup", rowspan: rows.length }, patient),
        el("th", { scope: "row", class: "truth-table-consent" }, consentOf(consent)),
        cells.map(cell),
      ),
    ),
  );

const CONSENTS = { in: "in", out: "out", any: "any", "–": "none" };

const consentOf = (consent) => (CONSENTS[consent] ? t(`truth_table.consents.${CONSENTS[consent]}`) : consent);

function cell({ channel, was }) {
  if (was === undefined) return el("td", {}, sent(channel));
  const before = was === null ? t("truth_table.nothing") : t(`badge.${was}`);
  return el("td", { class: "changed" }, sent(channel), el("span", { class: "was" }, t("truth_table.was", { before })));
}

const sent = (channel) => (channel ? badge(channel) : el("span", { class: "quiet" }, t("truth_table.nothing")));
