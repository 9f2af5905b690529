/**
 * A message that staff write to one patient: whether it would be delivered, sending it, and what becomes of it.
 */

import { actions, api, badge, button, el, field, fill, invalid, path, pause, phone, practice, problem, say, t, unsaved, waiting } from "./app.js";
import { life, states } from "./history.js";

const CHANNELS = ["text", "call", "email"];
const LIMITS = { text: 1_600, call: 6_000, email: 32 * 1024 };
const LONGEST_SUBJECT = 250;
// Nobody has to wait for anything to change these but staff themselves.
const ENDS = new Set(["suppressed", "handed_over", "sent", "failed", "withdrawn", "unknown"]);
// After these the service may have taken the message, or not.
const UNCERTAIN = new Set(["offline", "busy", "failed", "unexpected"]);
const FIRST_LOOK = 400;
const LAST_LOOK = 15_000;

/**
 * Make what staff write a message with.
 * @param {string} practiceId
 * @param {Object} patient as the API gives it
 * @param {Context} context of the view
 * @param {(decision: Object) => void} [afterSent] called when a message was taken, and again when it has come to an end
 * @returns {HTMLElement} `refresh(patient)` of it takes the patient as they are by now
 */
export function message(practiceId, patient, context, afterSent = () => {}) {
  const content = el("div");
  const whole = el("section", { class: "card message" }, el("h2", {}, t("message.title")), content);
  const of = { practiceId, patient, signal: context.signal, afterSent };
  let form = null;

  function compose(known) {
    form = composer(of, known, (decision, body) => {
      form = null;
      const panel = sent(of, known, decision, body, () => {
        content.replaceChildren(compose(known));
        form.begin();
      });
      content.replaceChildren(panel);
      panel.querySelector("h3").focus();
    });
    return form.element;
  }

  whole.refresh = (now) => {
    of.patient = now;
    form?.refresh();
  };
  if (!context.signal.aborted) unsaved(() => form?.isUnsaved() ?? false);
  fill(content, t("list.loading"), async () => compose(await practice(practiceId)));
  return whole;
}

/** Make the form. `done` gets the decision and the body of a message that was taken. */
function composer(of, known, done) {
  const fields = fieldsOf(of, known);
  const preview = el("div", { class: "preview" });
  const outcome = el("div", { class: "stack" });
  // Once for each message: however often it is sent, it is sent once.
  let key = crypto.randomUUID();
  let isSending = false;
  let mayBeTaken = false;
  let block = null;
  let looking = new AbortController();
  let told = null;

  function look() {
    looking.abort();
    looking = new AbortController();
    const signal = AbortSignal.any([of.signal, looking.signal]);
    preview.replaceChildren();
    fields.nameUsual(null);
    fill(preview, t("message.checking"), async () => {
      const asked = fields.asked();
      const decision = await evaluated(of, asked, signal);
      if (asked.channel !== "email" && !asked.phone_number) fields.nameUsual(decision.destination);
      const text = verdict(decision, known);
      if (text !== told) say(text);
      told = text;
      return previewOf(decision, known);
    });
  }

  /** What was decided or taken under a key is so for good: what is sent next is another message. */
  function renew() {
    key = crypto.randomUUID();
    mayBeTaken = false;
  }

  function blocked(decision) {
    renew();
    block = blockedBy(decision);
    outcome.replaceChildren(block);
    block.focus();
    of.afterSent(decision);
  }

  /** The first version was taken although its answer was lost, and has been changed since. */
  async function takenBefore() {
    const { body } = await api("GET", decisionPath(of, `manual:${key}`), { signal: of.signal });
    if (body.state === "suppressed") return blocked(body);
    renew();
    of.afterSent(body);
    const followed = follow(of, known, body);
    const told = el("p", {}, t("message.taken_before"));
    outcome.replaceChildren(el("div", { class: "notice warned", tabindex: "-1" }, told, followed));
    outcome.firstElementChild.focus();
  }

  function refused(error) {
    if (error.name === "AbortError") return;
    if (error.status === 409 && error.body?.message_id) return blocked(error.body);
    if (error.errors?.some(({ type }) => type === "reused")) return takenBefore();
    const shown = problem(error);
    if (UNCERTAIN.has(error.kind)) {
      mayBeTaken = true;
      shown.append(el("p", {}, t("message.uncertain")));
    }
    outcome.replaceChildren(shown);
  }

  async function send() {
    if (fields.refuse()) return;
    const body = fields.message();
    outcome.replaceChildren();
    pressed.focus();
    fields.freeze(true);
    isSending = true;
    const where = path`/practices/${of.practiceId}/patients/${of.patient.patient_id}/messages`;
    try {
      const asked = api("POST", where, { body, headers: { "Idempotency-Key": key } });
      const { body: decision } = await waiting(outcome, asked, t("message.sending"));
      if (!of.signal.aborted) done(decision, body);
    } catch (error) {
      await refused(error);
    } finally {
      isSending = false;
      fields.freeze(false);
    }
  }

  const pressed = button(t("message.send"), send, { kind: "primary", type: "submit" });
  const submit = (event) => event.preventDefault();
  const handsOver = !known.sending && el("p", { class: "notice" }, t("message.hands_over"));
  const parts = [fields.element, handsOver, preview, actions(pressed), outcome];
  const refresh = () => {
    fields.refresh();
    look();
  };
  fields.onRoute(() => {
    // What was blocked was another way.
    block?.remove();
    look();
  });
  refresh();
  const element = el("form", { class: "stack", novalidate: true, on: { submit } }, parts);
  const isUnsaved = () => (isSending || mayBeTaken ? t("message.leave_uncertain") : fields.isTyped());
  return { element, refresh, isUnsaved, begin: fields.begin };
}

const decisionPath = ({ practiceId, patient }, messageId) =>
  path`/practices/${practiceId}/patients/${patient.patient_id}/decisions/${messageId}`;

/* What is typed */

function fieldsOf(of, known) {
  const channels = CHANNELS.map((value) => el("input", { type: "radio", name: "channel", value }));
  const line = el("select", {}, known.lines.map(({ id, name }) => option(id, name, id === known.default_line)));
  const number = el("select");
  const subject = el("input", { type: "text", autocomplete: "off" });
  const body = el("textarea", { rows: "6", autocomplete: "off" });
  const left = el("span", { class: "tabular" });
  const subjectField = field(t("message.subject"), subject);
  const phoneField = field(t("message.phone"), number);
  const bodyField = field(t("message.body"), body, { help: left });
  const element = el(
    "fieldset",
    { class: "stack" },
    el("legend", { class: "heard" }, t("message.title")),
    el(
      "fieldset",
      { class: "inline" },
      el("legend", {}, t("message.channel")),
      channels.map((each) => field(t(`message.channels.${each.value}`), each)),
    ),
    el("div", { class: "cards" }, known.lines.length > 1 && field(t("message.line"), line), phoneField),
    subjectField,
    bodyField,
  );
  const channel = () => channels.find(({ checked }) => checked).value;
  let wasOver = false;

  function count() {
    const over = used(channel(), body.value) - LIMITS[channel()];
    left.textContent = over > 0 ? t("message.over", { count: over }) : t(`message.left_${channel()}`, { count: -over });
    left.classList.toggle("error", over > 0);
    if (over > 0 && !wasOver) say(left.textContent);
    wasOver = over > 0;
  }

  function arrange() {
    subjectField.hidden = channel() !== "email";
    phoneField.hidden = channel() === "email" || !of.patient.phones.length;
    count();
  }

  /** Offer the phones that the patient has by now; the one that is chosen stays so, if they have it still. */
  function refresh() {
    const chosen = number.value;
    number.replaceChildren(...phoneOptions(of.patient));
    number.value = chosen;
    if (number.selectedIndex < 0) number.selectedIndex = 0;
    arrange();
  }

  /** Name the phone that is used where none is chosen; null where that is not known. */
  function nameUsual(destination) {
    if (preferredOf(of.patient)) return;
    const label = destination ? t("message.phone_usual_named", { phone: phone(destination) }) : t("message.phone_usual");
    number.options[0].textContent = label;
  }

  /** Say what is wrong with what is typed, at the first field where something is; give whether there is. */
  function refuse() {
    const about = channel();
    const subjectError = about === "email" && subjectProblem(subject.value);
    const over = used(about, body.value) > LIMITS[about];
    const bodyError = over ? t("message.too_long") : !body.value.trim() && t("message.body_missing");
    invalid(body, bodyError || null);
    invalid(subject, subjectError || null);
    return Boolean(subjectError || bodyError);
  }

  const asked = () => ({
    channel: channel(),
    line: line.value,
    ...(channel() !== "email" && number.value ? { phone_number: number.value } : {}),
  });
  channels.find(({ value }) => value === firstChannel(of.patient)).checked = true;
  body.addEventListener("input", count);
  for (const each of channels) each.addEventListener("change", arrange);
  return {
    element,
    refresh,
    nameUsual,
    refuse,
    asked,
    message: () => ({ ...asked(), body: body.value, ...(channel() === "email" ? { subject: subject.value.trim() } : {}) }),
    isTyped: () => Boolean(body.value || subject.value),
    begin: () => channels.find(({ checked }) => checked).focus(),
    freeze: (isFrozen) => (element.disabled = isFrozen),
    onRoute: (look) => [...channels, line, number].forEach((each) => each.addEventListener("change", look)),
  };
}

const option = (value, label, selected = false) => el("option", { value, selected }, label);

/** Where the form begins; whether that is delivered is the API's to say. */
const firstChannel = ({ preferred_contact, phones }) => (preferred_contact ?? phones[0])?.display.toLowerCase() ?? "email";

const preferredOf = ({ preferred_contact }) => (preferred_contact?.on_file ? preferred_contact.number : null);

function phoneOptions(patient) {
  const { phones } = patient;
  const preferred = preferredOf(patient);
  const first = preferred ? t("message.phone_preferred", { phone: phone(preferred) }) : t("message.phone_usual");
  const others = phones.filter(({ number }) => number !== preferred);
  return [option("", first), ...others.map((each) => option(each.number, phoneLabel(each)))];
}

const phoneLabel = ({ number, display, status }) =>
  t(status === "invalid" ? "message.phone_invalid" : "message.phone_other", {
    phone: phone(number),
    display: t(`badge.${display.toLowerCase()}`),
  });

const used = (channel, text) => (channel === "email" ? new TextEncoder().encode(text).length : [...text].length);

function subjectProblem(subject) {
  if (!subject.trim()) return t("message.subject_missing");
  return [...subject.trim()].length > LONGEST_SUBJECT && t("message.subject_too_long", { count: LONGEST_SUBJECT });
}

/* Whether it would be delivered */

async function evaluated({ practiceId, patient }, { channel, ...rest }, signal) {
  const asked = { message: { class: "manual", channels: [channel], ...rest }, patient_id: patient.patient_id };
  const { body } = await api("POST", path`/practices/${practiceId}/routing/evaluate`, { body: asked, signal, repeatable: true });
  return body;
}

function verdict({ outcome, channel, destination, message, explanation }, known) {
  if (outcome === "suppress") return `${t("message.would_block")} ${explanation}`;
  const line = known.lines.find(({ id }) => id === message.line)?.name ?? message.line;
  return t(`message.would_${channel}`, { to: channel === "email" ? destination : phone(destination), line });
}

function previewOf(decision, known) {
  const isBlocked = decision.outcome === "suppress";
  return el(
    "div",
    { class: isBlocked ? "notice warned" : "notice" },
    el("div", { class: "row" }, badge(decision.channel ?? "none"), el("span", {}, verdict(decision, known))),
  );
}

function blockedBy(decision) {
  return el(
    "div",
    { class: "notice warned", tabindex: "-1", role: "group", "aria-label": t("message.blocked_title") },
    el("p", {}, el("strong", {}, t("message.blocked_title"))),
    el("p", {}, decision.explanation),
    el("p", {}, t("message.blocked_next")),
  );
}

/* What becomes of it */

function sent(of, known, decision, body, again) {
  of.afterSent(decision);
  const written = [body.subject && el("strong", {}, body.subject), el("p", { class: "written" }, body.body)];
  return el(
    "div",
    { class: "stack" },
    el("h3", { tabindex: "-1" }, t("message.taken_title")),
    follow(of, known, decision),
    el("details", {}, el("summary", {}, t("message.written")), written),
    actions(button(t("message.another"), again)),
  );
}

/** Show where a message stands, and look again, ever less often, until that does not change by itself any more. */
function follow(of, known, first) {
  const shown = el("div", { class: "stack" });
  let told = null;

  function show(decision) {
    shown.replaceChildren(standing(decision, known));
    // The focus is on what says so already, the first time.
    if (told !== null && told !== decision.state) say(t(`message.state.${decision.state}`));
    told = decision.state;
  }

  async function look(decision) {
    let seen = decision;
    try {
      for (let wait = FIRST_LOOK; !ENDS.has(seen.state); wait = Math.min(wait * 1.5, LAST_LOOK)) {
        await pause(wait, of.signal);
        seen = (await api("GET", decisionPath(of, seen.message_id), { signal: of.signal })).body;
        show(seen);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      shown.append(el("p", {}, t("message.still_sent")), problem(error, () => look(seen)));
      return;
    }
    if (seen !== first) of.afterSent(seen);
  }

  show(first);
  look(first);
  return shown;
}

function standing(decision, known) {
  const isOver = ENDS.has(decision.state);
  const spinner = !isOver && el("span", { class: "spinner", "aria-hidden": "true" });
  const to = decision.destination && (decision.channel === "email" ? decision.destination : phone(decision.destination));
  return el(
    "div",
    { class: "stack" },
    el("div", { class: "row" }, spinner, badge(decision.channel ?? "none"), to && el("span", {}, to), states(decision)),
    el("p", {}, t(`message.state.${decision.state}`)),
    ["withdrawn", "failed"].includes(decision.state) && el("p", {}, decision.explanation),
    life(decision, known),
  );
}
