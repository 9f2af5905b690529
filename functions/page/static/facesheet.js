/**
 * The facesheet: what is on file of a patient, how staff have set that they are contacted, their SMS consent, and what they would
 * get now. What is chosen and not saved yet is shown as what it would change; what is saved, by whom else, is never overwritten
 * unseen.
 */

import {
  Problem,
  actions,
  api,
  badge,
  button,
  dialog,
  el,
  field,
  fill,
  hasText,
  invalid,
  newId,
  path,
  phone,
  practice,
  say,
  t,
  tag,
  unsaved,
  when,
  who,
} from "./app.js";

/** Show the facesheet of the patient whom the address names. */
export async function show(main, { practice_id, patient_id }, context) {
  context.heading(t("facesheet.heading", { patient_id }));
  const place = el("div", { class: "stack" });
  main.append(place);
  await fill(place, t("facesheet.loading"), () => load(practice_id, patient_id, context));
}

async function load(practiceId, patientId, context) {
  const patient = new Patient(practiceId, patientId, context);
  // Asked for at once, and needed last: where it fails, the panel says so.
  const evaluated = patient.evaluate();
  evaluated.catch(() => {});
  [patient.practice] = await Promise.all([practice(practiceId), patient.read()]);
  const preview = previewCard(patient, evaluated);
  const cards = [fileCard(patient), preferencesCard(patient), consentCard(patient)];
  const later = laterPart(patient);
  if (!context.signal.aborted) unsaved(() => patient.parts.some((part) => part.isUnsaved?.()));
  return [updated(patient), el("div", { class: "facesheet" }, el("div", { class: "stack" }, cards), preview), later];
}

/** What each preference is on a facesheet, in the form in which evaluate takes it among its `changes`. */
const STORED = {
  preferred_contact: (sheet) => sheet.preferred_contact?.number ?? null,
  do_not_contact: (sheet) => sheet.do_not_contact,
};

/**
 * The patient who is shown: the facesheet as it was read last, and the preferences that are chosen and not saved (`draft`).
 * A part of the view may `follow` what was read, have something `isUnsaved`, and be told of what is `previewed`.
 */
class Patient {
  constructor(practiceId, patientId, context) {
    this.where = path`/practices/${practiceId}/patients/${patientId}`;
    Object.assign(this, { practiceId, patientId, context, sheet: null, etag: null, line: undefined, draft: {}, parts: [] });
  }

  async read() {
    this.take(await api("GET", this.where, { signal: this.context.signal }));
  }

  /** Take what was read, or what a save of our own has answered. */
  take({ body, etag }, isOwn = false) {
    const before = this.etag;
    Object.assign(this, { sheet: body, etag });
    for (const part of this.parts) part.follow?.(isOwn ? before : null);
  }

  stored(key) {
    return STORED[key](this.sheet);
  }

  /** What the draft would change; null when it changes nothing. A phone that has left the file cannot be asked about. */
  get changes() {
    const isPossible = ([key, value]) => key !== "preferred_contact" || mayPrefer(this, value);
    const changes = Object.entries(this.draft).filter(isPossible);
    return changes.length ? Object.fromEntries(changes) : null;
  }

  async evaluate(changes, signal = this.context.signal) {
    const messages = MESSAGES.map((message) => ({ ...message, line: this.line }));
    const body = { patient_id: this.patientId, messages, changes };
    const where = path`/practices/${this.practiceId}/routing/evaluate`;
    return (await api("POST", where, { body, signal, repeatable: true })).body.decisions;
  }

  lineName(id) {
    return this.practice.lines.find((line) => line.id === id)?.name ?? id;
  }

  when(iso) {
    return when(iso, this.practice.time_zone);
  }
}

/** Show a part, now and whenever the facesheet was read again. */
function following(patient, follow, more = {}) {
  patient.parts.push({ follow, ...more });
  follow(null);
}

function updated(patient) {
  const shown = el("p", { class: "quiet small" });
  following(patient, () => {
    const { updated_by, updated_at } = patient.sheet;
    shown.replaceChildren(t("facesheet.updated", { by: updated_by }), " ", patient.when(updated_at));
  });
  return shown;
}

const named = (key, code) => (hasText(`${key}.${code}`) ? t(`${key}.${code}`) : code);

/** Say how many other patients have a phone; the API counts to a hundred. */
const shared = (key, count) =>
  count === 0 ? t(`${key}_none`) : typeof count === "number" ? t(key, { count }) : t(`${key}_many`, { count });

const card = (id, ...children) => el("section", { class: "card", "aria-labelledby": id }, ...children);

// --- on file -----------------------------------------------------------------------------------------------------------

function fileCard(patient) {
  const id = newId();
  const phones = el("ul", { class: "plain-list" });
  const emails = el("ul", { class: "plain-list" });
  following(patient, () => {
    const { sheet } = patient;
    phones.replaceChildren(...listed(sheet.phones, (each) => phoneItem(each, patient.stored("preferred_contact")), "no_phones"));
    emails.replaceChildren(...listed(sheet.emails, emailItem, "no_emails"));
  });
  return card(
    id,
    el("h2", { id }, t("facesheet.file.title")),
    el("div", {}, el("h3", {}, t("facesheet.file.phones")), phones),
    el("div", {}, el("h3", {}, t("facesheet.file.emails")), emails),
    el("p", { class: "help" }, t("facesheet.file.help")),
  );
}

const listed = (items, show, empty) =>
  items.length ? items.map(show) : [el("li", { class: "quiet" }, t(`facesheet.file.${empty}`))];

function phoneItem({ number, line_type, status, suspect, display, shared_with }, preferred) {
  const told = [named("facesheet.line_type", line_type), shared("facesheet.file.shared", shared_with)];
  return el(
    "li",
    {},
    el(
      "div",
      { class: "row" },
      el("strong", { class: digits(number) }, phone(number)),
      badge(display),
      statusTag(status),
      number === preferred && tag(t("facesheet.file.preferred")),
    ),
    el("p", { class: "quiet small" }, told.join(" · ")),
    suspect && el("p", { class: "small" }, t("facesheet.file.suspect")),
  );
}

const emailItem = ({ address, status }) => el("li", { class: "row" }, el("strong", {}, address), badge("email"), statusTag(status));

const statusTag = (status) => tag(named("facesheet.status", status), status === "valid" ? "good" : "bad");

// --- preferences -------------------------------------------------------------------------------------------------------

function preferencesCard(patient) {
  const id = newId();
  return card(id, el("h2", { id }, t("facesheet.preferences.title")), preferredPart(patient), doNotContactPart(patient));
}

/** A number is kept whole; what else is on file may be too long for that. */
const digits = (number) => (isNumber({ number }) ? "tabular whole" : "tabular");

/** Show a phone as staff know it. */
function shownPhone(patient, number) {
  if (number === null) return t("facesheet.preferred.none");
  const onFile = patient.sheet.phones.find((each) => each.number === number);
  const kind = onFile ? badge(onFile.display) : tag(t("facesheet.preferred.gone"), "warned");
  return [el("span", { class: digits(number) }, phone(number)), " ", kind];
}

function preferredPart(patient) {
  const id = newId();
  const shown = el("dd", {});
  const dormant = el("p", { class: "notice warned small" }, t("facesheet.preferred.dormant"));
  const facts = el("dl", { class: "facts preference" }, el("dt", {}, t("facesheet.preferred.label")), shown);
  const choices = el("fieldset", {});
  const edit = button(t("facesheet.preferred.edit"), open, { kind: "link", "aria-describedby": id });

  const choosing = editor(patient, "preferred_contact", {
    save: (number, headers) =>
      number === null
        ? api("DELETE", `${patient.where}/preferred-contact`, { headers })
        : api("PUT", `${patient.where}/preferred-contact`, { body: { phone_number: number }, headers }),
    shown: (number) => shownPhone(patient, number),
    freeze: (isFrozen) => (choices.disabled = isFrozen),
    refusal: (number) => (mayPrefer(patient, number) ? null : t("facesheet.preferred.not_possible")),
    close: () => {
      toggle(false);
      edit.focus();
    },
  });
  const form = choosing.form(choices);

  function toggle(isOpen) {
    form.hidden = !isOpen;
    edit.hidden = facts.hidden = isOpen;
  }
  function open() {
    choosing.begin();
    offer();
    toggle(true);
    const inputs = [...choices.querySelectorAll("input:enabled")];
    (inputs.find((each) => each.checked) ?? inputs[0]).focus();
  }
  function offer() {
    const chosen = choosing.chosen();
    const choice = (number) => preferredChoice(patient, number, number === chosen, () => choosing.choose(number));
    const numbers = patient.sheet.phones.map(({ number }) => number);
    const others = [chosen, patient.stored("preferred_contact")].filter((number) => number !== null && !numbers.includes(number));
    choices.replaceChildren(
      el("legend", {}, t("facesheet.preferred.label")),
      ...[...numbers, ...new Set(others), null].map(choice),
    );
  }
  toggle(false);
  following(patient, () => {
    shown.replaceChildren(...[shownPhone(patient, patient.stored("preferred_contact"))].flat());
    dormant.hidden = patient.sheet.preferred_contact?.on_file !== false;
    if (!form.hidden) offer();
  });
  return el(
    "section",
    { class: "stack", "aria-labelledby": id },
    el("div", { class: "row" }, el("h3", { id }, t("facesheet.preferred.title")), edit, choosing.saved),
    facts,
    dormant,
    form,
  );
}

const mayPrefer = (patient, number) =>
  number === null || patient.sheet.phones.some((each) => each.number === number && each.status === "valid");

function preferredChoice(patient, number, isChecked, choose) {
  const isPossible = mayPrefer(patient, number);
  const isOnFile = patient.sheet.phones.some((each) => each.number === number);
  const help = number === null ? "none_help" : isPossible ? null : isOnFile ? "invalid" : "not_on_file";
  const control = el("input", { type: "radio", name: "preferred", disabled: !isPossible, on: { change: choose } });
  control.checked = isChecked;
  return field(el("span", {}, shownPhone(patient, number)), control, { help: help && t(`facesheet.preferred.${help}`) });
}

function doNotContactPart(patient) {
  const control = el("input", { type: "checkbox", on: { change } });
  const note = el("input", { type: "text", maxlength: "1000", autocomplete: "off" });
  const choosing = editor(patient, "do_not_contact", {
    save: (enabled, headers) => {
      const body = { enabled, note: note.value.trim() || undefined };
      return api("PUT", `${patient.where}/do-not-contact`, { body, headers });
    },
    shown: (enabled) => t(`facesheet.do_not_contact.${enabled ? "on" : "off"}`),
    freeze: (isFrozen) => (control.disabled = note.readOnly = isFrozen),
    close: () => {
      note.value = "";
      follow();
      control.focus();
    },
  });
  const form = choosing.form(field(t("facesheet.note"), note, { help: t("facesheet.note_help") }));

  function change() {
    choosing.begin();
    choosing.choose(control.checked);
    follow();
  }
  function follow() {
    control.checked = choosing.chosen();
    form.hidden = !choosing.isChanged();
  }
  following(patient, follow);
  const label = el("strong", {}, t("facesheet.do_not_contact.label"));
  return el("div", { class: "stack" }, field(label, control, { help: t("facesheet.do_not_contact.help") }), choosing.saved, form);
}

/**
 * Choose, preview and save one preference, on top of what was seen when the choosing began and of nothing newer: when somebody
 * else was quicker, both are shown.
 * @param {Patient} patient
 * @param {"preferred_contact"|"do_not_contact"} key
 * @param {Object} options
 * @param {(value: *, headers: Object) => Promise} options.save
 * @param {(value: *) => (string|Array)} options.shown
 * @param {(isFrozen: boolean) => void} options.freeze
 * @param {() => void} options.close ends the choosing, after the draft has gone
 * @param {(value: *) => (string|null)} [options.refusal] why a value cannot be saved any more
 */
function editor(patient, key, { save, shown, freeze, close, refusal = () => null }) {
  const told = el("p", { class: "small maybe" });
  const foot = el("div", { class: "stack" });
  const saved = el("p", { class: "quiet small maybe" });
  const saving = actions(
    button(t("facesheet.save"), keep, { kind: "primary", type: "submit" }),
    button(t("dialog.cancel"), giveUp),
  );
  let seen = null;

  const isChanged = () => key in patient.draft;
  const chosen = () => (isChanged() ? patient.draft[key] : patient.stored(key));

  function begin() {
    if (seen) return;
    seen = { etag: patient.etag, value: patient.stored(key) };
    saved.replaceChildren();
    foot.replaceChildren(saving);
  }
  function choose(value) {
    if (value === patient.stored(key)) delete patient.draft[key];
    else patient.draft[key] = value;
    if (foot.firstChild !== saving) showConflict();
    patient.preview();
  }
  function end() {
    delete patient.draft[key];
    seen = null;
    told.replaceChildren();
    foot.replaceChildren();
    close();
  }
  function giveUp() {
    const wasChanged = isChanged();
    end();
    if (wasChanged) patient.preview();
  }
  async function keep() {
    if (!isChanged()) return giveUp();
    try {
      finish(await frozen(save(patient.draft[key], { "If-Match": seen.etag })));
    } catch (error) {
      if (error.status !== 412) throw error;
      // It may have been given up meanwhile.
      if (seen) await meet();
    }
  }
  /** What is chosen while it is saved would be taken for saved. */
  async function frozen(saving) {
    const focused = document.activeElement;
    freeze(true);
    try {
      return await saving;
    } finally {
      freeze(false);
      if (document.activeElement === document.body) focused.focus();
    }
  }
  function finish(answer) {
    end();
    if (answer) patient.take(answer, true);
    else patient.preview();
    saved.replaceChildren(t("facesheet.saved"));
    say(t("facesheet.saved"));
  }
  /** Somebody else was quicker; or it was ourselves, and the answer was lost. */
  async function meet() {
    await patient.read();
    seen.etag = patient.etag;
    if (patient.stored(key) === patient.draft[key] && patient.sheet.updated_by === who().sub) return finish();
    showConflict().focus();
  }
  function showConflict() {
    const why = refusal(chosen());
    const heading = el("h4", { tabindex: "-1" }, t("facesheet.conflict.title"));
    const { updated_by, updated_at } = patient.sheet;
    const fact = (name, value) => [el("dt", {}, t(`facesheet.conflict.${name}`)), el("dd", {}, value)];
    foot.replaceChildren(
      el(
        "div",
        { class: "notice warned" },
        heading,
        el("p", {}, t(`facesheet.conflict.${patient.stored(key) === seen.value ? "elsewhere" : "here"}`)),
        el(
          "dl",
          { class: "facts" },
          fact("now", shown(patient.stored(key))),
          fact("changed", [t("facesheet.conflict.by", { by: updated_by }), " ", patient.when(updated_at)]),
          fact("wanted", shown(chosen())),
        ),
        why && el("p", {}, why),
        actions(
          !why && button(t("facesheet.conflict.mine"), keep, { kind: "primary" }),
          button(t("facesheet.conflict.theirs"), giveUp),
        ),
      ),
    );
    return heading;
  }
  patient.parts.push({
    // A save of our own that was made on what was seen here, too, is no surprise.
    follow: (before) => {
      if (seen && before === seen.etag) seen = { etag: patient.etag, value: patient.stored(key) };
    },
    isUnsaved: isChanged,
    previewed: (text) => told.replaceChildren(isChanged() ? text : ""),
  });
  const form = (...fields) =>
    el("form", { class: "stack editing", novalidate: true, on: { submit: (event) => event.preventDefault() } }, fields, told, foot);
  return { begin, choose, chosen, isChanged, form, saved };
}

// --- SMS consent -------------------------------------------------------------------------------------------------------

const TONES = { opted_in: "good", opted_out: "bad", under_review: "warned" };
const EVIDENCE = ["signed_form", "recorded_call", "portal"];

function consentCard(patient) {
  const id = newId();
  const status = el("span", { class: "row" });
  const list = el("ul", { class: "plain-list maybe" });
  const outcome = el("div", { class: "maybe" });
  const place = el("div", { class: "maybe" });
  const begin = button(t("facesheet.opt_out.begin"), () => open(optOutForm(patient, { done, cancel: close })));
  const all = el("p", { class: "quiet small", tabindex: "-1" }, t("facesheet.opt_out.all"));
  const foot = el("div", {}, begin, all);
  let form = null;

  function open(opened) {
    form = opened;
    outcome.replaceChildren();
    place.replaceChildren(form.element);
    follow();
    form.element.querySelector("input, select").focus();
  }
  function close() {
    form = null;
    place.replaceChildren();
    follow();
    (begin.hidden ? all : begin).focus();
  }
  function done(answer, { phone_number, line, status: wanted }) {
    patient.take(answer);
    close();
    const now = patient.sheet.sms_consent.numbers.find((each) => each.phone_number === phone_number && each.line === line);
    say(t("facesheet.saved"));
    outcome.replaceChildren(
      now?.status === wanted
        ? el("p", { class: "quiet small" }, t("facesheet.saved"))
        : el("p", { class: "notice warned" }, t("facesheet.consent.newer")),
    );
  }
  function follow() {
    const { sms_consent, phones } = patient.sheet;
    const item = (each) => consentItem(patient, each, form ? null : open, { done, cancel: close });
    status.replaceChildren(...consentTags(sms_consent));
    list.replaceChildren(...sms_consent.numbers.map(item));
    foot.hidden = form !== null || !phones.some(isNumber);
    begin.hidden = !optOuts(patient).length;
    all.hidden = !begin.hidden;
  }
  following(patient, follow, { isUnsaved: () => form?.isUnsaved() ?? false });
  return card(
    id,
    el("div", { class: "row" }, el("h2", { id }, t("facesheet.consent.title")), status),
    list,
    el("p", { class: "help" }, t("facesheet.consent.help")),
    outcome,
    place,
    foot,
  );
}

/** Sum up the consent. The API's words leave out what is under review: to say "Opted In" alone would be wrong then. */
function consentTags({ status, numbers }) {
  const has = (wanted) => numbers.some((each) => each.status === wanted);
  const isUnderReview = has("under_review");
  return [
    ...(has("opted_out") || !isUnderReview ? [tag(status, has("opted_out") ? "warned" : "good")] : []),
    ...(isUnderReview ? [tag(t("facesheet.consent.status.under_review"), "warned")] : []),
  ];
}

/** Give each phone and line that is not opted out yet, the practice's default line first. */
function optOuts({ sheet, practice: { lines, default_line } }) {
  const isOut = (phone_number, line) =>
    sheet.sms_consent.numbers.some(
      (each) => each.phone_number === phone_number && each.line === line && each.status === "opted_out",
    );
  const ids = [default_line, ...lines.map(({ id }) => id).filter((id) => id !== default_line)];
  const pairs = sheet.phones.filter(isNumber).flatMap(({ number }) => ids.map((line) => ({ phone_number: number, line })));
  return pairs.filter(({ phone_number, line }) => !isOut(phone_number, line));
}

/** What is no number gets no texts, and has no consent. */
const isNumber = ({ number }) => number.startsWith("+");

/** One phone and line on which something was recorded. `open` is null while a form is open. */
function consentItem(patient, consent, open, ends) {
  const { phone_number, line, status, source, recorded_at } = consent;
  const described = `${phone(phone_number)}, ${patient.lineName(line)}`;
  const explained = status === "under_review" ? "under_review" : status === "opted_out" && source === "keyword" ? "own" : null;
  const from = patient.practice.lines.find((each) => each.id === line)?.phone_number ?? line;
  return el(
    "li",
    {},
    el(
      "div",
      { class: "row" },
      el("strong", { class: digits(phone_number) }, phone(phone_number)),
      el("span", {}, t("facesheet.consent.line", { line: patient.lineName(line) })),
      tag(named("facesheet.consent.status", status), TONES[status]),
    ),
    el("p", { class: "quiet small" }, named("facesheet.consent.source", source), ", ", patient.when(recorded_at)),
    explained && el("p", { class: "small" }, t(`facesheet.consent.${explained}`, { number: phone(from) })),
    open &&
      status === "opted_out" &&
      source !== "keyword" &&
      button(t("facesheet.opt_in.begin"), () => open(optInForm(patient, consent, ends)), {
        kind: "link",
        "aria-label": t("facesheet.opt_in.begin_for", { of: described }),
      }),
  );
}

const put = (patient, body) => api("PUT", `${patient.where}/sms-consent`, { body });

const option = (value, label, isSelected = false) => el("option", { value, selected: isSelected }, label);

const lineOptions = ({ practice: { lines, default_line } }, selected = default_line) =>
  lines.map(({ id, name }) => option(id, name, id === selected));

const noteField = () => el("textarea", { maxlength: "1000", class: "note", autocomplete: "off" });

const consentForm = (title, fields, save, cancel) =>
  el(
    "form",
    { class: "stack editing", novalidate: true, on: { submit: (event) => event.preventDefault() } },
    el("h3", {}, title),
    fields,
    actions(button(save.label, save.run, { kind: "primary", type: "submit" }), button(t("dialog.cancel"), cancel)),
  );

function optOutForm(patient, { done, cancel }) {
  const numbers = patient.sheet.phones.filter(isNumber);
  const [first] = optOuts(patient);
  const chosen = el("select", {}, numbers.map(({ number }) => option(number, phone(number), number === first.phone_number)));
  const line = el("select", {}, lineOptions(patient, first.line));
  const note = noteField();

  async function run() {
    const wanted = { phone_number: chosen.value, line: line.value, status: "opted_out", note: note.value.trim() || undefined };
    const answer = await confirmOptOut(patient, wanted);
    if (answer) done(answer, wanted);
  }
  const fields = [
    field(t("facesheet.opt_out.phone"), chosen),
    field(t("facesheet.opt_out.line"), line, { help: t("facesheet.opt_out.line_help") }),
    field(t("facesheet.note"), note, { help: t("facesheet.note_help") }),
  ];
  const element = consentForm(t("facesheet.opt_out.title"), fields, { label: t("facesheet.opt_out.continue"), run }, cancel);
  return { element, isUnsaved: () => note.value.trim() !== "" };
}

/** Ask once more, and save; gives what was answered, null when it is not to be. */
function confirmOptOut(patient, wanted) {
  const { phone_number, line } = wanted;
  const others = patient.sheet.phones.find((each) => each.number === phone_number)?.shared_with ?? 0;
  const values = { phone: phone(phone_number), line: patient.lineName(line) };
  return dialog({
    title: t("facesheet.opt_out.confirm_title"),
    content: [
      el("p", {}, t("facesheet.opt_out.confirm", values)),
      others !== 0 && el("p", { class: "notice warned" }, shared("facesheet.opt_out.shared", others)),
      el("p", { class: "quiet" }, t("facesheet.opt_out.undo")),
    ],
    actions: [
      { label: t("facesheet.opt_out.save"), kind: "danger", run: () => put(patient, wanted) },
      { label: t("dialog.cancel"), value: null },
    ],
  });
}

function optInForm(patient, { phone_number, line }, { done, cancel }) {
  const choices = EVIDENCE.map((value) => el("input", { type: "radio", name: "evidence", value }));
  const said = el("input", { type: "datetime-local" });
  const note = noteField();

  async function run() {
    const evidence = choices.find((each) => each.checked)?.value;
    invalid(choices.at(-1), evidence ? null : t("facesheet.opt_in.evidence_missing"));
    invalid(said, said.validity.badInput ? t("facesheet.opt_in.said_invalid") : null);
    if (!evidence || said.validity.badInput) return;
    const said_at = said.value ? moment(said.value, patient.practice.time_zone) : undefined;
    const wanted = { phone_number, line, status: "opted_in", evidence, said_at, note: note.value.trim() || undefined };
    try {
      done(await put(patient, wanted), wanted);
    } catch (error) {
      throw ownWords(patient, line, error);
    }
  }
  const others = patient.sheet.phones.find((each) => each.number === phone_number)?.shared_with ?? 0;
  const fields = [
    el("p", {}, t("facesheet.opt_in.text", { phone: phone(phone_number), line: patient.lineName(line) })),
    others !== 0 && el("p", { class: "notice" }, shared("facesheet.opt_in.shared", others)),
    el(
      "fieldset",
      {},
      el("legend", {}, t("facesheet.opt_in.evidence")),
      choices.map((each) => field(t(`facesheet.opt_in.${each.value}`), each)),
    ),
    field(t("facesheet.opt_in.said_at"), said, {
      help: t("facesheet.opt_in.said_at_help", { time_zone: patient.practice.time_zone }),
    }),
    field(t("facesheet.note"), note, { help: t("facesheet.note_help") }),
  ];
  const element = consentForm(t("facesheet.opt_in.title"), fields, { label: t("facesheet.opt_in.save"), run }, cancel);
  return { element, isUnsaved: () => note.value.trim() !== "" || said.value !== "" || choices.some((each) => each.checked) };
}

/** What the API refuses for a reason of consent says what to do about it. */
function ownWords(patient, line, error) {
  const own = error.errors?.find(({ type }) => type === "opted_out_by_the_patient");
  if (!own) return error;
  const from = patient.practice.lines.find((each) => each.id === line)?.phone_number ?? line;
  const detail = t("facesheet.consent.own_refused", { number: phone(from) });
  return new Problem({ ...error, kind: "conflict", errors: [], detail });
}

/** Give the moment, in ISO 8601 with its offset, at which clocks in a time zone show this date and time. */
function moment(local, timeZone) {
  const format = new Intl.DateTimeFormat("en-US", { timeZone, timeZoneName: "longOffset" });
  const offset = (iso) =>
    format
      .formatToParts(new Date(iso))
      .find(({ type }) => type === "timeZoneName")
      .value.slice("GMT".length) || "+00:00";
  // Twice: on the day on which clocks change, UTC's offset may not be the one that was meant.
  return local + offset(local + offset(`${local}Z`));
}

// --- what would happen -------------------------------------------------------------------------------------------------

const CLASSES = ["automation", "broadcast", "campaign"];
const CHANNELS = ["text", "call", "email"];
const CHANNEL_SETS = [["text"], ["call"], ["email"], ["text", "call"], ["text", "email"], ["call", "email"], CHANNELS];
const MESSAGES = [
  ...CHANNEL_SETS.flatMap((channels) => CLASSES.map((each) => ({ class: each, channels }))),
  ...CHANNELS.map((channel) => ({ class: "manual", channels: [channel] })),
];

function previewCard(patient, first) {
  const id = newId();
  const cells = MESSAGES.map(messageCells);
  const told = el("div", { class: "stack maybe" });
  const tables = el("div", { class: "stack" }, bulkTable(cells), manualTable(cells));
  let saved = null;
  let superseding = new AbortController();

  function remember(asked) {
    saved = asked;
    asked.catch(() => {
      if (saved === asked) saved = null;
    });
  }

  /** Show what is chosen, beside what is saved. */
  async function show() {
    superseding.abort();
    superseding = new AbortController();
    const signal = AbortSignal.any([superseding.signal, patient.context.signal]);
    const { changes } = patient;
    const isShown = await fill(told, t("preview.waiting"), async () => {
      if (!saved) remember(patient.evaluate());
      const [before, now] = await Promise.all([saved, changes ? patient.evaluate(changes, signal) : saved]);
      signal.throwIfAborted();
      return paint(now, changes ? before : null);
    });
    if (!isShown && !signal.aborted) tables.hidden = true;
  }
  /** What is saved may be something else by now. */
  function showAfresh() {
    saved = null;
    show();
  }
  function paint(decisions, before) {
    decisions.forEach((decision, index) => paintCells(cells[index], decision, before?.[index]));
    tables.hidden = false;
    const count = before ? decisions.filter((each, index) => isOther(each, before[index])).length : 0;
    const text = count ? t("preview.changed", { count, all: decisions.length }) : t("preview.unchanged");
    for (const part of patient.parts) part.previewed?.(before ? `${t("preview.unsaved")} ${text}` : "");
    if (!before) return null;
    say(`${t("preview.unsaved")} ${text}`);
    return el("p", { class: "notice warned" }, el("strong", {}, t("preview.unsaved")), text);
  }
  patient.preview = () => void (patient.changes ? show() : showAfresh());
  patient.parts.push({ follow: showAfresh });
  tables.hidden = true;
  remember(first);
  show();
  return el(
    "section",
    { class: "card would", "aria-labelledby": id },
    el("h2", { id }, t("preview.title")),
    el("p", { class: "help" }, t("preview.help")),
    lineChoice(patient, showAfresh),
    told,
    tables,
  );
}

/** The line that messages are sent from decides, too, where there are several. */
function lineChoice(patient, changed) {
  if (patient.practice.lines.length < 2) return null;
  const change = () => {
    patient.line = control.value;
    changed();
  };
  const control = el("select", { on: { change } }, lineOptions(patient));
  control.id = newId();
  return el("div", { class: "row" }, el("label", { for: control.id }, t("preview.line")), control);
}

const isOther = (decision, before) =>
  ["outcome", "channel", "destination"].some((name) => decision[name] !== before[name]);

const messageCells = (message) => ({ outcome: el("td", {}), reason: el(message.class === "manual" ? "td" : "dd", {}) });

function paintCells({ outcome, reason }, decision, before) {
  const isChanged = Boolean(before) && isOther(decision, before);
  outcome.classList.toggle("changed", isChanged);
  outcome.replaceChildren(
    ...outcomeOf(decision),
    ...(isChanged ? [el("div", { class: "was" }, el("strong", {}, t("preview.was")), " ", ...outcomeOf(before))] : []),
  );
  const isOtherwise = before && before.explanation !== decision.explanation;
  reason.replaceChildren(
    decision.explanation,
    isOtherwise ? el("p", { class: "quiet small" }, t("preview.was"), " ", before.explanation) : "",
  );
}

const outcomeOf = ({ channel, destination }) =>
  channel
    ? [badge(channel), " ", el("span", { class: "tabular" }, t("preview.to", { destination: phone(destination) }))]
    : [badge("none"), el("div", {}, t("preview.nothing"))];

/** A row for each channel set, a column for each class; opening a row shows why. */
function bulkTable(cells) {
  const id = newId();
  const of = (set) => cells.slice(set * CLASSES.length, (set + 1) * CLASSES.length);
  const rows = CHANNEL_SETS.map((channels, set) => setRows(channels, of(set)));
  const isOpen = () => rows.every((each) => each.isOpen());
  function press() {
    const wanted = !isOpen();
    for (const each of rows) each.open(wanted);
  }
  const all = button("", press, { kind: "link" });
  const relabel = () => all.replaceChildren(t(isOpen() ? "preview.hide_all" : "preview.show_all"));
  for (const each of rows) each.opened = relabel;
  relabel();
  return outcomeTable(
    el("div", { class: "row" }, el("h3", { id }, t("preview.bulk")), el("span", { class: "end" }, all)),
    id,
    ["has", ...CLASSES],
    rows.map((each) => each.elements),
  );
}

/** Make a table under its heading, which has this id. */
function outcomeTable(heading, id, columns, rows, kind = "") {
  const head = columns.map((name) => el("th", { scope: "col" }, t(`preview.${name}`)));
  const table = el("table", { "aria-labelledby": id }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  return el(
    "div",
    { class: `stack ${kind}` },
    heading,
    el("div", { class: "table", role: "region", tabindex: "0", "aria-labelledby": id }, table),
  );
}

function setRows(channels, cells) {
  const id = newId();
  const whys = CLASSES.map((name, index) => [el("dt", {}, t(`preview.${name}`)), cells[index].reason]);
  const why = el(
    "tr",
    { id, class: "why", hidden: true },
    el("td", { colspan: String(CLASSES.length + 1) }, el("dl", { class: "facts small" }, whys)),
  );
  const toggle = button(t(`preview.set.${channels.join("_")}`), () => rows.open(why.hidden), {
    kind: "link",
    class: "button link opener",
    "aria-expanded": "false",
    "aria-controls": id,
    "aria-description": t("preview.why"),
  });
  const rows = {
    elements: [el("tr", {}, el("th", { scope: "row" }, toggle), cells.map((each) => each.outcome)), why],
    isOpen: () => !why.hidden,
    open: (wanted) => {
      why.hidden = !wanted;
      toggle.setAttribute("aria-expanded", String(wanted));
      rows.opened();
    },
  };
  return rows;
}

function manualTable(cells) {
  const id = newId();
  const rows = CHANNELS.map((channel, index) => {
    const { outcome, reason } = cells[CHANNEL_SETS.length * CLASSES.length + index];
    return el("tr", {}, el("th", { scope: "row" }, t(`preview.manual.${channel}`)), outcome, reason);
  });
  const columns = ["manual.kind", "manual.outcome", "why"];
  return outcomeTable(el("h3", { id }, t("preview.manual.title")), id, columns, rows, "by-hand");
}

// --- history, and a message by hand ------------------------------------------------------------------------------------

function laterPart(patient) {
  const { practiceId, patientId, context } = patient;
  let past = null;
  const refresh = () => past?.refresh();
  const earlier = opener(t("facesheet.history"), async () => {
    const { history } = await module(() => import("./history.js"));
    past = history(practiceId, patientId, context);
    return past;
  });
  const writing = opener(t("facesheet.message"), async () => {
    const { message } = await module(() => import("./message.js"));
    const written = message(practiceId, patient.sheet, context, refresh);
    patient.parts.push({ follow: () => written.refresh(patient.sheet) });
    return written;
  });
  patient.parts.push({ follow: refresh });
  return el("div", { class: "stack" }, actions(writing.toggle, earlier.toggle), writing.place, earlier.place);
}

/** Make a button that shows something under its heading and hides it again, and the place where; it is made at the first time. */
function opener(label, make) {
  const place = el("div", { id: newId(), hidden: true });
  async function press() {
    if (!place.firstChild) place.append(await make());
    place.hidden = !place.hidden;
    toggle.setAttribute("aria-expanded", String(!place.hidden));
    if (!place.hidden) see();
  }
  /** It may be below all that is seen. */
  function see() {
    const heading = place.querySelector("h2");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    place.scrollIntoView();
  }
  const toggle = button(label, press, { class: "button plain opener", "aria-expanded": "false", "aria-controls": place.id });
  return { toggle, place };
}

/** Load a module. One that cannot be loaded is no defect of the page. */
const module = (load) =>
  load().catch((error) => {
    console.warn(error);
    throw new Problem({ kind: "offline" });
  });
