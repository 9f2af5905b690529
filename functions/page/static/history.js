/**
 * A patient's history: what was changed, and what was decided and sent, together and newest first. A decision opens to how it was
 * taken and what became of the message; where nobody knows whether that was sent, staff can say so.
 */

import { actions, api, badge, button, dialog, el, field, fill, hasText, more, path, phone, practice, say, t, tag, when } from "./app.js";

const PAGE = 25;
const LOADED = 50;
const CLASSES = ["automation", "campaign", "broadcast", "manual"];
const KINDS = ["all", "changes", "messages", ...CLASSES];

const TONES = { sent: "good", failed: "bad", unknown: "warned" };
const DELIVERY_TONES = { delivered: "good", not_delivered: "bad" };
// What may still become of these is up to the service, or to staff.
const OPEN_STATES = new Set(["routed", "sending", "unknown"]);

/**
 * Make the history, which loads itself.
 * @param {string} practiceId
 * @param {string} patientId
 * @param {Context} context of the view
 * @returns {HTMLElement} `refresh()` of it loads it again
 */
export function history(practiceId, patientId, context) {
  const kind = el(
    "select",
    { on: { change: () => refresh() } },
    KINDS.map((value) => el("option", { value }, t(`history.kinds.${value}`))),
  );
  const list = el("div");
  const title = el("h2", {}, t("history.title"));
  let loading = new AbortController();

  function refresh() {
    loading.abort();
    loading = new AbortController();
    const signal = AbortSignal.any([context.signal, loading.signal]);
    list.replaceChildren(timeline({ practiceId, patientId, signal }, kind.value));
  }

  refresh();
  const parts = [title, field(t("history.show"), kind), el("p", { class: "quiet small" }, t("history.consent_is_elsewhere")), list];
  return Object.assign(el("section", { class: "card history" }, parts), { refresh });
}

function timeline(of, kind) {
  const merge = merged(listsOf(of, kind), PAGE);
  let known;
  const load = async () => {
    known ??= await practice(of.practiceId);
    return merge();
  };
  const show = ({ change, decision }) => (change ? changeItem(change, known) : decisionItem(of, decision, known));
  return more(load, show, {
    list: el("ol", { class: "plain-list events" }),
    empty: t(`history.empty.${kind}`),
    what: t("history.loading"),
  });
}

/** Give what loads a page of each list that has something of this kind. */
function listsOf({ practiceId, patientId, signal }, kind) {
  const patient = path`/practices/${practiceId}/patients/${patientId}`;
  const read = async (name, cursor) => (await api("GET", `${patient}/${name}`, { query: { limit: LOADED, cursor }, signal })).body;
  const changes = async (cursor) => {
    const { items, next } = await read("changes", cursor);
    return { items: items.map((change) => ({ at: change.at, change })), next };
  };
  const decisions = async (cursor) => {
    const { items, next } = await read("decisions", cursor);
    const wanted = CLASSES.includes(kind) ? items.filter(({ message }) => message.class === kind) : items;
    return { items: wanted.map((decision) => ({ at: decision.decided_at, decision })), next };
  };
  if (kind === "all") return [changes, decisions];
  return kind === "changes" ? [changes] : [decisions];
}

/**
 * Merge lists, each newest first, into one. An item is given only when nothing newer can be left in another list.
 * @param {Array<(cursor: string|undefined) => Promise<{items: Array<{at: string}>, next: string|null}>>} loads
 * @param {number} size of a page
 * @returns {() => Promise<{items: Array, next: true|null}>} gives the next page; after a failure the same again
 */
function merged(loads, size) {
  const lists = loads.map((load) => ({ load, items: [], cursor: undefined, isOver: false }));
  const ready = [];

  async function look(list) {
    while (!list.items.length && !list.isOver) {
      const { items, next } = await list.load(list.cursor);
      Object.assign(list, { items, cursor: next, isOver: next === null });
    }
  }

  return async () => {
    // One more than the page has, to know whether another follows.
    while (ready.length <= size) {
      // All are waited for: what is still loading when another fails would be loaded twice.
      const looked = await Promise.allSettled(lists.map(look));
      const failed = looked.find(({ status }) => status === "rejected");
      if (failed) throw failed.reason;
      const left = lists.filter(({ items }) => items.length);
      if (!left.length) break;
      // All times are written alike, to the microsecond: the order of their text is theirs.
      ready.push(left.reduce((newest, list) => (list.items[0].at > newest.items[0].at ? list : newest)).items.shift());
    }
    return { items: ready.splice(0, size), next: ready.length ? true : null };
  };
}

/* Changes */

function changeItem(change, known) {
  return el(
    "li",
    { class: "event" },
    el("p", { class: "quiet small tabular" }, when(change.at, known.time_zone)),
    el(
      "div",
      {},
      el(
        "p",
        {},
        el("strong", {}, t(`history.what.${change.what}`)),
        " ",
        el("span", { class: "quiet" }, t("history.by", { by: change.by })),
      ),
      linesOf(change).map((line) => el("p", {}, line)),
      change.note && el("p", { class: "quiet" }, t("history.note", { note: change.note })),
    ),
  );
}

function linesOf({ what, old, new: now }) {
  if (what === "contact_info") return contactLines(old ?? { phones: [], emails: [] }, now);
  const shown =
    what === "do_not_contact"
      ? (value) => t(value ? "history.on" : "history.off")
      : (value) => (value ? phone(value) : t("history.not_set"));
  return [t("history.from_to", { old: shown(old), new: shown(now) })];
}

function contactLines(old, now) {
  const lines = [
    ...differences(old.phones, now.phones, ({ number }) => number, phoneText),
    ...differences(old.emails, now.emails, ({ address }) => address, emailText),
  ];
  return lines.length ? lines : [t("history.reordered")];
}

function differences(old, now, key, text) {
  const before = new Map(old.map((each) => [key(each), text(each)]));
  const after = new Map(now.map((each) => [key(each), text(each)]));
  return [
    ...[...before].filter(([id]) => !after.has(id)).map(([, gone]) => t("history.removed", { what: gone })),
    ...[...after].filter(([id]) => !before.has(id)).map(([, came]) => t("history.added", { what: came })),
    ...[...after]
      .filter(([id, text]) => before.has(id) && before.get(id) !== text)
      .map(([id, text]) => t("history.from_to", { old: before.get(id), new: text })),
  ];
}

const phoneText = ({ number, line_type, status }) =>
  [phone(number), t(`history.line_type.${line_type}`), ...(status === "invalid" ? [t("history.invalid_phone")] : [])].join(", ");

const emailText = ({ address, status }) => (status === "invalid" ? `${address}, ${t("history.invalid_email")}` : address);

/* Decisions */

function decisionItem(of, listed, known) {
  const summary = el("summary", {}, headOf(listed, known));
  const content = el("div", { class: "event-more" });
  const details = el("details", {}, summary, content);
  let isLoaded = false;

  const load = async () => {
    isLoaded = await fill(content, t("history.loading_decision"), async () => {
      const { body } = await api("GET", decisionPath(of, listed.message_id), { signal: of.signal });
      summary.replaceChildren(headOf(body, known));
      return whole(body);
    });
  };
  const again = async () => {
    await load();
    summary.focus();
  };
  const whole = (decision) => [
    decision.state === "unknown" && resolving(of, decision, again),
    ...decided(decision, known),
    OPEN_STATES.has(decision.state) && actions(button(t("history.look_again"), again)),
  ];
  details.addEventListener("toggle", () => details.open && !isLoaded && load());
  return el("li", {}, details);
}

const decisionPath = ({ practiceId, patientId }, messageId) =>
  path`/practices/${practiceId}/patients/${patientId}/decisions/${messageId}`;

const headOf = (decision, known) =>
  el(
    "span",
    { class: "event" },
    el("span", { class: "quiet small tabular" }, when(decision.decided_at, known.time_zone)),
    el("span", { class: "row" }, badge(decision.channel ?? "none"), el("strong", {}, nameOf(decision)), states(decision)),
  );

function nameOf({ message, message_id }) {
  const [, id = ""] = message_id.split(":");
  return t(`history.class.${message.class}`, { id });
}

/**
 * Make the labels of where a message stands, and of what its receipts say.
 * @param {Object} decision as the API gives it
 * @returns {HTMLElement[]}
 */
export const states = ({ state, delivery }) => [
  tag(t(`history.state.${state}`), TONES[state]),
  ...(delivery ? [tag(t(`history.delivery.${delivery.status}`), DELIVERY_TONES[delivery.status])] : []),
];

/** Show how a decision was taken, on what, and what became of it. */
function decided(decision, known) {
  const { previous } = decision;
  return [
    el("p", {}, el("strong", {}, decision.explanation)),
    el(
      "div",
      { class: "cards" },
      el(
        "div",
        { class: "stack" },
        section("history.how", steps(decision, known)),
        section("history.happened", life(decision, known)),
      ),
      el(
        "div",
        { class: "stack" },
        section("history.message", messageOf(decision, known)),
        section("history.seen", factsOf(decision, known)),
        section("history.policy_then", policyOf(decision)),
      ),
    ),
    previous && el("details", {}, el("summary", {}, t("history.previous")), earlier(previous, known)),
    el("p", { class: "quiet small" }, idsOf(decision)),
  ];
}

const section = (title, ...content) => el("section", { class: "stack" }, el("h3", {}, t(title)), content);

const earlier = (decision, known) =>
  el(
    "div",
    { class: "stack" },
    el("p", {}, t("history.previous_text")),
    el("p", {}, el("strong", {}, decision.explanation)),
    steps(decision, known),
    messageOf(decision, known),
    factsOf(decision, known),
  );

const idsOf = ({ message_id, provider_message_id }) =>
  [
    t("history.message_id", { id: message_id }),
    ...(provider_message_id ? [t("history.provider_id", { id: provider_message_id })] : []),
  ].join(" ");

/** Make the list of the rules that were tried, each with why it decided or did not. */
function steps(decision, known) {
  if (!decision.steps.length) return el("p", {}, t("history.no_steps"));
  const items = decision.steps.map((step) =>
    el("li", {}, stepText(step, decision, known), step.fired && [" ", tag(t("history.fired"), "good")]),
  );
  const hasFired = decision.steps.some(({ fired }) => fired);
  return el("div", { class: "stack" }, el("ol", { class: "steps" }, items), !hasFired && el("p", {}, t("history.none_fired")));
}

function stepText({ rule, channel, phone: number, fired, reason }, { message }, known) {
  const why = clause(reason, { number, message }, known);
  const values = { why, channel: channel ? t(`history.channel.${channel}`) : "" };
  const key = `history.step.${rule}${fired ? "_fired" : ""}`;
  return hasText(key) ? t(key, values) : `${rule}: ${why}`;
}

/** Say a reason as a clause, as the API's explanations do. */
function clause(reason, { number, message }, known) {
  const isChosen = reason === "NO_VALID_PHONE" && message.phone_number;
  const key = isChosen ? "history.chosen_invalid" : `history.reason.${reason}`;
  const of = number ?? message.phone_number;
  return hasText(key) ? t(key, { phone: of ? phone(of) : t("history.the_phone"), line: lineName(message.line, known) }) : reason;
}

const lineName = (id, known) => known.lines.find((line) => line.id === id)?.name ?? id;

/* What was known */

function messageOf({ message, destination, channel }, known) {
  const to = destination && (channel === "email" ? destination : phone(destination));
  return pairs([
    ["to", to ?? t("history.nowhere")],
    ["channels", message.channels.map((each) => t(`history.channel.${each}`)).join(", ")],
    ["line", lineName(message.line, known)],
    message.phone_number && ["chosen_phone", phone(message.phone_number)],
  ]);
}

function factsOf({ facts }, known) {
  const preferred = facts.preferred_contact;
  return pairs([
    ["phones", listed(facts.phones.map(phoneText))],
    ["emails", listed(facts.emails.map(emailText))],
    ["preferred", preferred ? phone(preferred) : t("history.not_set")],
    ["do_not_contact", t(facts.do_not_contact ? "history.on" : "history.off")],
    ["consent", listed(facts.sms_consent.map((each) => consentText(each, known)), "history.no_consent")],
  ]);
}

const consentText = ({ phone_number, line, status }, known) =>
  t(`history.consent_status.${status}`, { phone: phone(phone_number), line: lineName(line, known) });

const pairs = (rows) =>
  el(
    "dl",
    { class: "facts" },
    rows.filter(Boolean).map(([name, value]) => [el("dt", {}, t(`history.facts.${name}`)), el("dd", {}, value)]),
  );

const listed = (texts, none = "history.none_on_file") => (texts.length ? texts.map((text) => el("div", {}, text)) : t(none));

function policyOf({ policy }) {
  const on = Object.keys(policy).filter((flag) => policy[flag]);
  if (!on.length) return el("p", {}, t("history.policy_standard"));
  return el("ul", {}, on.map((flag) => el("li", {}, hasText(`history.policy.${flag}`) ? t(`history.policy.${flag}`) : flag)));
}

/* What became of it */

/**
 * Make the list of the states that a message was in, and of its receipt, each with its time.
 * @param {Object} decision as the API gives it
 * @param {Object} known the practice
 * @returns {HTMLElement}
 */
export function life(decision, known) {
  const { delivery } = decision;
  const entries = decision.life.map((entry) => ({ ...entry, text: lifeText(entry, decision, known) }));
  // Its time is by the provider's clock, and may seem to be before what it follows.
  if (delivery) entries.push({ at: delivery.at, text: t(`history.receipt.${delivery.status}`, { code: delivery.code }) });
  const item = ({ at, text, note }) =>
    el(
      "li",
      {},
      el("span", { class: "quiet small tabular" }, when(at, known.time_zone)),
      el("span", {}, text, note && [" ", t("history.note", { note })]),
    );
  return el("ol", { class: "plain-list life" }, entries.map(item));
}

function lifeText(entry, decision, known) {
  const { state, by, code, times, reason } = entry;
  if (state === "routed" && code) return t("history.life.refused", { code, count: times ?? 1 });
  if (state === "routed" && by) return t("history.life.not_sent", { by });
  if (state === "sent" && by) return t(hasText(`history.life.sent_by_${by}`) ? `history.life.sent_by_${by}` : "history.life.sent_said", { by });
  if (state === "withdrawn") return t("history.life.withdrawn", { why: withdrawal(reason, decision, known) });
  if (state === "sending") return t("history.life.sending", { channel: t(`history.channel.${entry.channel}`) });
  if (state === "failed" || state === "unknown") return t(`history.life.${state}`, { code: code ?? "" });
  return t(`history.life.${state}`);
}

function withdrawal(reason, decision, known) {
  const key = `history.withdrawn.${reason}`;
  if (hasText(key)) return t(key);
  const step = decision.steps.find((each) => each.phone && each.reason === reason);
  return clause(reason, { number: step?.phone, message: decision.message }, known);
}

/* What nobody knows */

/** Let staff say what became of a message whose outcome is unknown. */
function resolving(of, decision, done) {
  const choice = (outcome) => button(t(`history.resolve.${outcome}`), () => resolve(of, decision, outcome, done));
  return el(
    "div",
    { class: "notice warned" },
    el("p", {}, el("strong", {}, t("history.resolve.title"))),
    el("p", {}, t("history.resolve.text")),
    actions(choice("sent"), choice("not_sent")),
  );
}

async function resolve(of, { message_id, attempt }, outcome, done) {
  const note = el("textarea", { rows: "2", autocomplete: "off" });
  const run = async () => {
    const body = { outcome, attempt, note: note.value.trim() || null };
    try {
      await api("POST", `${decisionPath(of, message_id)}/resolve`, { body, repeatable: true });
    } catch (error) {
      // Somebody else has said so, or a receipt has come.
      if (error.status === 409) return "known";
      throw error;
    }
    return "resolved";
  };
  const result = await dialog({
    title: t(`history.resolve.${outcome}_title`),
    content: [
      el("p", {}, t(`history.resolve.${outcome}_text`)),
      field(t("history.resolve.note"), note, { help: t("history.resolve.note_help") }),
    ],
    actions: [
      { label: t("dialog.cancel") },
      { label: t(`history.resolve.${outcome}_button`), kind: outcome === "sent" ? "primary" : "danger", run },
    ],
  });
  if (!result) return;
  say(t(`history.resolve.${result}`));
  await done();
}
