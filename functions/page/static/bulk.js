/**
 * Broadcasts and campaigns: composed, tried, started, and followed to their end.
 *
 * What is composed goes out under one Idempotency-Key however often it is sent: a lost answer never starts it twice.
 */

import {
  actions,
  api,
  button,
  dialog,
  el,
  field,
  fill,
  hasText,
  invalid,
  more,
  newId,
  path,
  practice,
  Problem,
  problem,
  row,
  say,
  t,
  table,
  tag,
  token,
  unsaved,
  waiting,
  when,
} from "./app.js";

const KINDS = ["broadcasts", "campaigns", "dry-runs"];
const CHANNELS = ["text", "call", "email"];
const PARTS = [...CHANNELS, "suppressed", "refused"];
const ID = /^[A-Za-z0-9._~-]{1,128}$/;
const MOST_PATIENTS = 3_000;

export async function show(main, { practice_id, kind, bulk_id }, context) {
  if (kind && !KINDS.includes(kind)) throw new Problem({ kind: "unknown", status: 404 });
  context.heading(t(kind ? `bulk.kind.${kind}` : "bulk.title"));
  if (!maySend()) {
    main.append(el("p", { class: "notice warned" }, t("bulk.no_scope")));
    return;
  }
  const place = el("div", { class: "stack" });
  main.append(place);
  if (kind) await showOne(place, practice_id, kind, bulk_id, context.signal);
  else await showStart(place, practice_id, context.signal);
}

/** Say whether the token allows to send, as far as it can be read: the API has the last word. */
function maySend() {
  try {
    const claims = JSON.parse(atob(token().split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    const scopes = claims.scope ?? claims.scp;
    return scopes === undefined || [scopes].flat().join(" ").split(" ").includes("messages/send");
  } catch {
    return true;
  }
}

async function showOne(place, practiceId, kind, bulkId, signal) {
  const where = path`/practices/${practiceId}/${kind}/${bulkId}`;
  await fill(place, t("bulk.loading"), async () => {
    const [{ body }, known] = await Promise.all([api("GET", where, { signal }), practice(practiceId)]);
    return followed(body, { practiceId, known, where, signal });
  });
  place.after(el("p", {}, el("a", { href: path`#/practices/${practiceId}/bulk` }, t("bulk.to_start"))));
}

// --- composing -------------------------------------------------------------------------------------------------------

async function showStart(place, practiceId, signal) {
  await fill(place, t("list.loading"), async () => {
    const known = await practice(practiceId);
    return [opener(practiceId), composer(practiceId, known, signal)];
  });
}

/** Open an earlier one: nobody can be asked for a list of them. */
function opener(practiceId) {
  const kind = el("select", {}, KINDS.map((each) => el("option", { value: each }, t(`bulk.kind.${each}`))));
  const id = el("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  function submit(event) {
    event.preventDefault();
    const wanted = id.value.trim();
    const isId = ID.test(wanted) && !/^\.{1,2}$/.test(wanted);
    invalid(id, isId ? null : t("bulk.open_invalid"));
    if (isId) location.hash = path`#/practices/${practiceId}/bulk/${kind.value}/${wanted}`;
  }
  const form = el(
    "form",
    { class: "stack", novalidate: true, on: { submit } },
    field(t("bulk.open_kind"), kind),
    field(t("bulk.open_id"), id, { help: t("bulk.open_id_help") }),
    actions(button(t("bulk.open"), () => {}, { type: "submit" })),
  );
  return el("details", {}, el("summary", {}, t("bulk.open_title")), el("div", { class: "card" }, form));
}

/** The form, and under it the result of its dry run, from which it is started. */
function composer(practiceId, known, signal) {
  const form = formOf(practiceId, known);
  const result = el("div", { class: "stack" });
  const keys = { dry: keyring(), start: keyring() };
  // What was tried; the attempt to start it that is under way; and whether one, this or an earlier, has had no answer.
  let tried = null;
  let starting = null;
  let isUncertain = false;
  let isStarted = false;
  let trying = new AbortController();

  unsaved(() => {
    if (isStarted) return false;
    return starting || isUncertain ? t("bulk.leave_uncertain") : form.isTouched();
  });

  async function send(what, { isDry }) {
    const asked = JSON.stringify(what);
    const ring = isDry ? keys.dry : keys.start;
    const { body } = await api("POST", path`/practices/${practiceId}/${what.kind}`, {
      body: what.body,
      query: { dry_run: isDry ? true : null },
      headers: { "Idempotency-Key": ring.of(asked) },
      signal: isDry ? signal : undefined,
    });
    ring.forget();
    return body;
  }

  async function tryIt() {
    const what = form.composed();
    if (!what) return;
    let bulk;
    try {
      bulk = await waiting(form.element, send(what, { isDry: true }), t("bulk.trying"));
    } catch (error) {
      if (!form.refuse(error)) throw error;
      return;
    }
    trying.abort();
    trying = new AbortController();
    tried = what;
    showResult(bulk, AbortSignal.any([signal, trying.signal]));
  }

  const isOutdated = () => JSON.stringify(form.draft()) !== JSON.stringify(tried);

  function showResult(bulk, until) {
    const heading = el("h2", { tabindex: "-1" }, t("bulk.result"));
    const start = el("section", { class: "card", hidden: true });
    const where = path`/practices/${practiceId}/dry-runs/${bulk.id}`;
    const changed = (now) => {
      start.hidden = now.state !== "completed";
      if (!start.hidden) start.replaceChildren(...startOf(now));
    };
    const shown = followed(bulk, { practiceId, known, where, signal: until, level: "h3", changed, start });
    result.replaceChildren(heading, ...shown);
    heading.focus();
    heading.scrollIntoView();
  }

  function startOf(bulk) {
    const title = el("h3", {}, t("bulk.start_title"));
    if (!bulk.routed) return [title, el("p", {}, t("bulk.nobody"))];
    const outdated = el("p", { class: "notice warned", hidden: true }, t("bulk.outdated"));
    const trouble = el("div", { class: "stack" });
    const start = button(t(`bulk.start.${tried.kind}`), () => confirm(bulk, trouble), { kind: "primary" });
    const update = () => {
      outdated.hidden = !isOutdated();
      start.disabled = !outdated.hidden;
    };
    form.element.oninput = update;
    update();
    const text = el("p", {}, t("bulk.start_text", { count: bulk.routed }));
    return [title, text, countedOf(tried), outdated, trouble, actions(start)].filter(Boolean);
  }

  const confirm = (bulk, trouble) =>
    dialog({
      title: t(`bulk.confirm.${tried.kind}`),
      content: confirmation(bulk, tried, known),
      actions: [
        { label: t("bulk.confirm_not"), value: null },
        { label: t("bulk.confirm_start", { count: bulk.routed }), kind: "primary", run: () => start(trouble) },
      ],
    });

  const start = (trouble) => (starting ??= attempt(trouble).finally(() => (starting = null)));

  async function attempt(trouble) {
    freeze(true);
    trouble.replaceChildren();
    try {
      const bulk = await send(tried, { isDry: false });
      isStarted = true;
      if (signal.aborted) return;
      location.hash = path`#/practices/${practiceId}/bulk/${tried.kind}/${bulk.id}`;
      say(t("bulk.started"));
    } catch (error) {
      // Without an answer it may have been started: what is composed, and its key, stay until one has come that knows.
      isUncertain = isUncertain ? !isDefinite(error) : UNCERTAIN.has(error.kind);
      freeze(isUncertain);
      if (isUncertain) trouble.append(el("p", { class: "notice warned" }, t("bulk.uncertain")));
      // The dialog shows it, unless it was closed meanwhile.
      if (!document.querySelector("dialog[open]")) trouble.append(problem(error));
      throw error;
    }
  }

  const dryRun = button(t("bulk.dry_run"), tryIt, { kind: "primary", type: "submit" });

  function freeze(isFrozen) {
    form.freeze(isFrozen);
    dryRun.disabled = isFrozen;
  }

  form.element.append(
    actions(dryRun),
    el("p", { class: "help" }, t("bulk.dry_run_help")),
  );
  return el("div", { class: "stack" }, form.element, result);
}

const UNCERTAIN = new Set(["offline", "busy", "failed", "unexpected", undefined]);
const DEFINITE = new Set([404, 409, 413, 422]);

/**
 * Say whether an answer says that no earlier attempt has started it: the API looks for one with the same key before it refuses.
 * What refuses before it is asked, such as a token or the gateway (whose answers have no type), does not know; and a key that
 * was used before has started something.
 */
const isDefinite = ({ status, type, errors = [] }) =>
  DEFINITE.has(status) && Boolean(type) && !errors.some((each) => each.type === "reused");

/** Keeps the key of what is sent, which is the same until an answer has come. */
function keyring() {
  let kept = {};
  return {
    of: (what) => {
      if (kept.what !== what) kept = { what, key: crypto.randomUUID() };
      return kept.key;
    },
    forget: () => (kept = {}),
  };
}

function confirmation(bulk, what, { sending, time_zone: timeZone }) {
  const { body } = what;
  const counts = CHANNELS.map((part) => [t(`bulk.confirm_part.${part}`), t("bulk.number", { number: countsOf(bulk)[part] })]);
  const starts = body.starts_at ? when(body.starts_at, timeZone) : t("bulk.now");
  return [
    facts([...counts, [t("bulk.confirm_part.nothing"), nothingOf(bulk)], [t("bulk.starts_at"), starts]]),
    countedOf(what),
    body.send_before && el("p", {}, t("bulk.confirm_before"), " ", when(body.send_before, timeZone)),
    el("p", {}, t("bulk.confirm_text")),
    !sending && el("p", { class: "notice" }, t("bulk.hands_over")),
  ].filter(Boolean);
}

function nothingOf({ suppressed, refused }) {
  const number = suppressed + refused;
  return refused ? t("bulk.nothing_refused", { number, count: refused }) : t("bulk.number", { number });
}

/** Say how many a broadcast takes of the day's texts: all of its list, whoever of them is texted; null when it takes none. */
function countedOf({ kind, body }) {
  if (kind !== "broadcasts" || !body.messages.text) return null;
  return el("p", {}, t("bulk.counts_towards", { count: body.patient_ids.length }));
}

const facts = (pairs) =>
  el("dl", { class: "facts" }, pairs.filter(Boolean).map(([term, what]) => [el("dt", {}, term), el("dd", {}, what)]));

/* The form */

function formOf(practiceId, known) {
  const broadcast = el("input", { type: "radio", name: "kind", value: "broadcasts", checked: true });
  const campaign = el("input", { type: "radio", name: "kind", value: "campaigns" });
  const lineOf = ({ id, name }) => el("option", { value: id, selected: id === known.default_line }, name);
  const line = el("select", {}, known.lines.map(lineOf));
  const inputs = {
    ids: area({ spellcheck: "false", autocapitalize: "off", rows: "6" }),
    key: el("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" }),
    name: el("input", { type: "text", autocomplete: "off", maxlength: "200" }),
    text: area(),
    call: area(),
    subject: el("input", { type: "text", autocomplete: "off", maxlength: "250" }),
    email: area(),
    starts: timeOf(),
    before: timeOf(),
  };
  const counted = el("p", { class: "help tabular", id: newId() }, t("bulk.counted", { count: 0 }));
  const idsField = el("div", {}, field(t("bulk.ids"), inputs.ids, { help: t("bulk.ids_help") }), counted);
  const keyField = field(t("bulk.key"), inputs.key, { help: t("bulk.key_help", { practice_id: practiceId }) });
  describeBy(inputs.ids, counted);
  keyField.hidden = true;
  const kind = () => (broadcast.checked ? "broadcasts" : "campaigns");

  function choose() {
    idsField.hidden = kind() !== "broadcasts";
    keyField.hidden = !idsField.hidden;
    help.textContent = t(`bulk.message_help.${kind()}`);
  }
  const help = el("p", { class: "quiet" }, t("bulk.message_help.broadcasts"));
  for (const each of [broadcast, campaign]) each.addEventListener("change", choose);
  inputs.ids.addEventListener("input", () => counted.replaceChildren(countOf(inputs.ids.value)));

  const all = el(
    "fieldset",
    { class: "stack" },
    section(
      t("bulk.whom"),
      el(
        "fieldset",
        { class: "inline" },
        el("legend", {}, t("bulk.whom_from")),
        field(t("bulk.from_ids"), broadcast),
        field(t("bulk.from_list"), campaign),
      ),
      idsField,
      keyField,
    ),
    section(
      t("bulk.message"),
      help,
      field(t("bulk.name"), inputs.name, { help: t("bulk.name_help") }),
      field(t("bulk.line"), line),
      el("div", { class: "cards" }, field(t("bulk.text"), inputs.text), field(t("bulk.call"), inputs.call)),
      el("div", { class: "cards" }, field(t("bulk.subject"), inputs.subject), field(t("bulk.email"), inputs.email)),
    ),
    section(
      t("bulk.times"),
      el("p", { class: "quiet" }, t("bulk.times_help", { time_zone: known.time_zone })),
      el(
        "div",
        { class: "cards" },
        timeField(t("bulk.starts_at"), t("bulk.starts_at_help"), inputs.starts, known.time_zone),
        timeField(t("bulk.send_before"), t("bulk.send_before_help"), inputs.before, known.time_zone),
      ),
    ),
  );
  const element = el(
    "form",
    { class: "stack", novalidate: true, on: { submit: (event) => event.preventDefault() } },
    el("p", {}, t("bulk.intro")),
    !known.sending && el("p", { class: "notice" }, t("bulk.hands_over")),
    all,
  );
  const controls = { ...inputs, line, kind, timeZone: known.time_zone };
  return {
    element,
    draft: () => draftOf(controls),
    composed: () => (isComplete(controls) ? draftOf(controls) : null),
    refuse: (error) => refuse(controls, error),
    isTouched: () => Object.values(inputs).some(({ value }) => value.trim() !== ""),
    freeze: (isFrozen) => (all.disabled = isFrozen),
  };
}

const area = (attributes = {}) => el("textarea", { rows: "4", autocomplete: "off", ...attributes });
const timeOf = () => el("input", { type: "datetime-local" });
const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);
const describeBy = (control, { id }) =>
  control.setAttribute("aria-describedby", `${control.getAttribute("aria-describedby")} ${id}`);

function timeField(label, help, control, timeZone) {
  const understood = el("p", { class: "help", id: newId() });
  const whole = el("div", {}, field(label, control, { help }), understood);
  describeBy(control, understood);
  control.addEventListener("input", () => {
    const iso = control.value && utcOf(control.value, timeZone);
    understood.replaceChildren(...(iso ? [t("bulk.understood"), " ", when(iso, timeZone)] : []));
  });
  return whole;
}

/** Give the time in UTC at which clocks of this zone show that; null when they never do. */
function utcOf(local, timeZone) {
  const wanted = Date.parse(`${local}Z`);
  // Swedes write times as ISO 8601 does.
  const shownAt = (at) => Date.parse(`${new Date(at).toLocaleString("sv-SE", { timeZone }).replace(" ", "T")}Z`);
  let at = wanted;
  for (let round = 0; round < 2; round++) at += wanted - shownAt(at);
  return shownAt(at) === wanted ? new Date(at).toISOString() : null;
}

function idsIn(text) {
  const every = text.split(/[\s,;]+/).filter(Boolean);
  const ids = [...new Set(every)];
  const seen = new Set();
  const repeated = new Set(every.filter((id) => seen.has(id) || !seen.add(id)));
  return { ids, repeated: [...repeated], wrong: ids.filter((id) => !ID.test(id)) };
}

function countOf(text) {
  const { ids, repeated } = idsIn(text);
  const counted = t("bulk.counted", { count: ids.length });
  return repeated.length ? `${counted} ${t("bulk.repeated", { count: repeated.length, ids: some(repeated) })}` : counted;
}

/** Name the first of them. */
const some = (ids) =>
  ids.length > 5 ? t("bulk.some", { ids: ids.slice(0, 5).join(", "), count: ids.length - 5 }) : ids.join(", ");

/** Give what the form holds as the API takes it, whether it is complete or not. */
function draftOf({ kind, ids, key, name, line, text, call, subject, email, starts, before, timeZone }) {
  const messages = {
    ...(text.value.trim() && { text: { body: text.value } }),
    ...(call.value.trim() && { call: { body: call.value } }),
    ...(email.value.trim() && { email: { subject: subject.value, body: email.value } }),
  };
  const times = Object.entries({ starts_at: starts, send_before: before }).filter(([, { value }]) => value);
  const body = {
    name: name.value.trim(),
    line: line.value,
    messages,
    ...(kind() === "broadcasts" ? { patient_ids: idsIn(ids.value).ids } : { list: { key: key.value.trim() } }),
    ...Object.fromEntries(times.map(([field, { value }]) => [field, utcOf(value, timeZone)])),
  };
  return { kind: kind(), body };
}

/** Say what is missing, at each control; the first of them gets the focus. */
function isComplete(controls) {
  const { ids, key, name, text, call, subject, email, starts, before, kind, timeZone } = controls;
  const isBroadcast = kind() === "broadcasts";
  const isFilled = (control) => control.value.trim() !== "";
  const hasNoMessage = ![text, call, email].some(isFilled);
  const isNoTime = ({ value, validity }) => (value || validity.badInput) && !utcOf(value, timeZone);
  const time = (control) => isNoTime(control) && t("bulk.time_invalid");
  const isEarly = starts.value && before.value && before.value <= starts.value;
  const errors = [
    [ids, isBroadcast && wrongIds(ids.value)],
    [key, !isBroadcast && !isFilled(key) && t("bulk.key_missing")],
    [name, !isFilled(name) && t("bulk.name_missing")],
    [text, hasNoMessage && t("bulk.message_missing")],
    [subject, isFilled(email) && !isFilled(subject) && t("bulk.subject_missing")],
    [email, isFilled(subject) && !isFilled(email) && t("bulk.email_missing")],
    [starts, time(starts)],
    [before, time(before) || (isEarly && t("bulk.send_before_early"))],
  ];
  return !mark(errors);
}

/** Mark controls as wrong, or right; say whether any is wrong. */
function mark(errors) {
  for (const [control, error] of errors.toReversed()) invalid(control, error || null);
  return errors.some(([, error]) => error);
}

function wrongIds(text) {
  const { ids, wrong } = idsIn(text);
  if (!ids.length) return t("bulk.ids_missing");
  if (wrong.length) return t("bulk.ids_invalid", { count: wrong.length, ids: some(wrong) });
  return ids.length > MOST_PATIENTS && t("bulk.ids_many", { count: ids.length, most: MOST_PATIENTS });
}

/** Say what the API has refused at the control that it is about; say whether there is one for all of it. */
function refuse({ ids, key, name, line, text, call, subject, email, starts, before }, { status, errors = [] }) {
  const message = [text, call, email].find(({ value }) => value.trim()) ?? text;
  const places = [
    ["patient_ids", ids],
    ["list", key],
    ["name", name],
    ["line", line],
    ["messages.text", text],
    ["messages.call", call],
    ["messages.email.subject", subject],
    ["messages.email", email],
    ["messages", message],
    ["starts_at", starts],
    ["send_before", before],
  ];
  const found = errors.map(({ loc, msg, type }) => {
    const at = loc.slice(1).join(".");
    const why = type === "placeholder" ? t("bulk.placeholder") : t("bulk.refused", { why: msg });
    return [places.find(([name]) => at === name || at.startsWith(`${name}.`))?.[1], why];
  });
  return status === 422 && found.length > 0 && found.every(([control]) => control) && mark(found);
}

// --- following -------------------------------------------------------------------------------------------------------

const FIRST_WAIT = 500;
const GROWTH = 1.5;
const LONGEST_WAIT = 30_000;

/**
 * Ask again and again, ever more seldom, while it moves and somebody looks at the page.
 * @param {{read: () => Promise<Object>, shown: (bulk: Object) => void, failed: (error: Error|null) => void, signal: AbortSignal}} what
 * @returns {() => void} asks now, and often again
 */
function poll({ read, shown, failed, signal }) {
  let timer = 0;
  let wait = FIRST_WAIT;
  let asked = 0;
  let isOver = false;

  async function ask() {
    clearTimeout(timer);
    const mine = ++asked;
    try {
      const bulk = await read();
      if (mine !== asked || signal.aborted) return;
      failed(null);
      isOver = hasEnded(bulk);
      shown(bulk);
      later();
    } catch (error) {
      if (mine === asked && error.name !== "AbortError") failed(error);
    }
  }
  function later() {
    clearTimeout(timer);
    if (isOver || document.hidden || signal.aborted) return;
    timer = setTimeout(ask, wait);
    wait = Math.min(wait * GROWTH, LONGEST_WAIT);
  }
  function soon() {
    wait = FIRST_WAIT;
    isOver = false;
    if (!document.hidden) ask();
  }
  function look() {
    clearTimeout(timer);
    if (!document.hidden && !isOver) soon();
  }
  document.addEventListener("visibilitychange", look, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  later();
  return soon;
}

/** Say how many that were routed have not come to their end yet. */
const underWay = (bulk) =>
  bulk.dry_run ? 0 : bulk.routed - bulk.sent - bulk.failed - bulk.unknown - bulk.withdrawn - bulk.handed_over;

/** Say whether nothing of it will change by itself. */
const hasEnded = (bulk) => bulk.state === "completed" || (["cancelled", "failed"].includes(bulk.state) && underWay(bulk) <= 0);

/** Show one, and follow it: `changed` hears of each new answer, and `start` is put under its numbers. */
function followed(first, { practiceId, known, where, signal, level = "h2", changed = () => {}, start = null }) {
  const name = el(level, { tabindex: "-1" }, first.name);
  const state = el("span", {});
  const told = el("p", {});
  const failure = el("p", { class: "notice warned", hidden: true });
  const trouble = el("div");
  const bar = progressBar();
  const counts = el("dl", { class: "bulk-counts" });
  const about = el("div");
  const outcome = el("section", { class: "card", hidden: true });
  const missed = el("div", { hidden: true });
  const steering = steeringOf({ bulk: first, where, heading: name, shown, again: () => again() });
  let before = null;

  function shown(bulk, said) {
    const isNews = before && before.state !== bulk.state;
    if (said || isNews) say(said ?? `${t(`bulk.state.${bulk.state}`)}. ${sentenceOf(bulk)}`);
    changed(bulk);
    state.replaceChildren(tag(t(`bulk.state.${bulk.state}`), TONES[bulk.state]));
    told.textContent = sentenceOf(bulk);
    failure.hidden = !bulk.failure;
    failure.textContent = bulk.failure ?? "";
    bar.update(bulk);
    counts.replaceChildren(...countTiles(bulk));
    about.replaceChildren(aboutOf(bulk, known));
    outcome.hidden = !bulk.done;
    if (bulk.done && before?.done !== bulk.done) outcome.replaceChildren(...outcomeOf(bulk, level));
    steering.offer(bulk);
    before = bulk;
    showMissed(bulk);
  }

  function showMissed(bulk) {
    const isRead = hasEnded(bulk) || bulk.state === "paused" || bulk.done === bulk.total;
    if (!missed.hidden || !isRead || !(bulk.suppressed + bulk.refused)) return;
    missed.hidden = false;
    missed.append(unreachable(bulk, { practiceId, where, signal, level }));
  }

  function failed(error) {
    trouble.replaceChildren(...(error ? [problem(error, () => again())] : []));
  }

  shown(first);
  const read = () => api("GET", where, { signal }).then(({ body }) => body);
  const again = hasEnded(first) ? () => {} : poll({ read, shown, failed, signal });
  return [
    el(
      "section",
      { class: "card" },
      el("div", { class: "row" }, name, state),
      told,
      failure,
      bar.element,
      first.dry_run ? null : counts,
      steering.element,
      trouble,
      about,
    ),
    outcome,
    start,
    missed,
  ].filter(Boolean);
}

const TONES = { completed: "good", paused: "warned", failed: "bad" };

function sentenceOf(bulk) {
  const key = bulk.dry_run ? `bulk.told_dry.${bulk.state}` : `bulk.told.${bulk.state}`;
  return hasText(key) ? t(key) : "";
}

function progressBar() {
  const bar = el("progress", { id: newId() });
  const text = el("span", { class: "tabular" });
  const element = el("div", { class: "bulk-progress" }, el("label", { for: bar.id }, t("bulk.progress")), bar, text);
  function update(bulk) {
    const over = bulk.done - underWay(bulk);
    element.hidden = bulk.total === null && !["queued", "running"].includes(bulk.state);
    if (bulk.total === null) {
      bar.removeAttribute("value");
      text.textContent = bulk.done ? t("bulk.so_far", { count: bulk.done }) : t("bulk.reading");
      return;
    }
    bar.max = Math.max(bulk.total, 1);
    bar.value = bulk.total ? over : 1;
    text.textContent = t("bulk.of", { over, count: bulk.total });
  }
  return { element, update };
}

function countTiles(bulk) {
  const names = ["routed", "sent", "failed", "unknown", "withdrawn", "suppressed", "refused"];
  if (bulk.sender === "practice" || bulk.handed_over) names.splice(2, 0, "handed_over");
  return names.map((name) =>
    el(
      "div",
      { class: `bulk-count${["failed", "unknown"].includes(name) && bulk[name] ? " warned" : ""}` },
      el("dt", {}, t(`bulk.count.${name}`)),
      el("dd", { class: "tabular" }, t("bulk.number", { number: bulk[name] })),
      el("dd", { class: "help" }, t(`bulk.count_help.${name}`)),
    ),
  );
}

function aboutOf(bulk, { time_zone: timeZone, lines }) {
  const isMoving = ["queued", "running"].includes(bulk.state);
  return facts([
    bulk.estimated_end && [t("bulk.estimated_end"), when(bulk.estimated_end, timeZone)],
    isMoving && bulk.rate && [t("bulk.rate"), t("bulk.per_second", { rate: bulk.rate })],
    bulk.starts_at && [t("bulk.starts_at"), when(bulk.starts_at, timeZone)],
    bulk.send_before && [t("bulk.send_before"), when(bulk.send_before, timeZone)],
    [t("bulk.channels"), bulk.channels.map((channel) => t(`bulk.channel.${channel}`)).join(", ")],
    [t("bulk.line"), lines.find(({ id }) => id === bulk.line)?.name ?? bulk.line],
    [t("bulk.made"), [when(bulk.created_at, timeZone), " ", t("bulk.made_by", { who: bulk.created_by })]],
    [t("bulk.id"), el("code", {}, bulk.id)],
  ]);
}

/* Pause, resume, cancel */

function steeringOf({ bulk: first, where, heading, shown, again }) {
  const act = (action) => async () => {
    try {
      const { body } = await api("POST", `${where}/${action}`, { repeatable: true });
      shown(body, t(`bulk.did.${action}`));
    } finally {
      // What is refused is so because it has gone on meanwhile.
      again();
    }
  };
  async function cancel() {
    await dialog({
      title: t("bulk.cancel_title"),
      content: el("p", {}, t(first.dry_run ? "bulk.cancel_text_dry" : "bulk.cancel_text")),
      actions: [
        { label: t("bulk.cancel_not"), value: null },
        { label: t("bulk.cancel_do"), kind: "danger", run: act("cancel") },
      ],
    });
    // The button that opened the dialog may be gone.
    if (buttons.cancel.hidden) heading.focus();
  }
  const buttons = {
    pause: button(t("bulk.pause"), act("pause")),
    resume: button(t("bulk.resume"), act("resume"), { kind: "primary" }),
    cancel: button(t("bulk.cancel"), cancel, { kind: "danger" }),
  };
  const element = actions(...Object.values(buttons));

  function offer(bulk) {
    const focused = Object.values(buttons).find((each) => each === document.activeElement);
    const isMoving = ["pending", "queued", "running"].includes(bulk.state);
    buttons.pause.hidden = bulk.dry_run || !isMoving;
    buttons.resume.hidden = bulk.dry_run || bulk.state !== "paused";
    buttons.cancel.hidden = !(isMoving || bulk.state === "paused" || (bulk.state === "failed" && underWay(bulk) > 0));
    const offered = Object.values(buttons).filter(({ hidden }) => !hidden);
    element.hidden = !offered.length;
    if (focused?.hidden) (offered[0] ?? heading).focus();
  }
  return { element, offer };
}

/* Who gets what */

const countsOf = (bulk) => ({
  ...Object.fromEntries(CHANNELS.map((channel) => [channel, bulk.by_channel[channel] ?? 0])),
  suppressed: bulk.suppressed,
  refused: bulk.refused,
});

function outcomeOf(bulk, level) {
  const counts = countsOf(bulk);
  const tense = bulk.dry_run ? "would" : "is";
  const swatch = (part) => el("span", { class: `bulk-part ${part}`, "aria-hidden": "true" });
  const percent = (count) => shareOf(count, bulk.done);
  const reasons = Object.entries(bulk.by_reason).sort(([, one], [, other]) => other - one);
  return [
    el(level, {}, t(`bulk.outcome.${tense}`, { count: bulk.done })),
    stackedBar(counts, bulk.done),
    small(
      t("bulk.outcome_caption"),
      [t("bulk.outcome_head"), t("bulk.patients"), t("bulk.share")],
      PARTS.filter((part) => counts[part] || CHANNELS.includes(part)).map((part) => [
        [swatch(part), t(`bulk.part.${tense}.${part}`)],
        t("bulk.number", { number: counts[part] }),
        percent(counts[part]),
      ]),
    ),
    small(
      t("bulk.reasons_caption"),
      [t("bulk.reasons_head"), t("bulk.patients"), t("bulk.share")],
      reasons.map(([reason, count]) => [reasonOf(reason), t("bulk.number", { number: count }), percent(count)]),
    ),
  ];
}

function shareOf(count, total) {
  const percent = Math.round((1000 * count) / total) / 10;
  return count && !percent ? t("bulk.percent_least", { percent: 0.1 }) : t("bulk.percent", { percent });
}

const reasonOf = (reason) => (hasText(`bulk.reason.${reason}`) ? t(`bulk.reason.${reason}`) : reason);

/** The table under it says the same to those who do not see it. */
function stackedBar(counts, total) {
  const parts = PARTS.filter((part) => counts[part]).map((part) => {
    const segment = el("span", { class: `bulk-part ${part}` });
    segment.style.flexGrow = counts[part] / total;
    return segment;
  });
  return el("div", { class: "bulk-bar", "aria-hidden": "true" }, parts);
}

/** Make a table that is never wider than the page. */
function small(caption, heads, rows) {
  const number = (at) => at > 0 && "number";
  const head = heads.map((each, at) => el("th", { scope: "col", class: number(at) }, each));
  const body = rows.map((cells) =>
    el("tr", {}, cells.map((each, at) => (at ? el("td", { class: number(at) }, each) : el("th", { scope: "row" }, each)))),
  );
  return el(
    "table",
    { class: "bulk-small" },
    el("caption", { class: "heard" }, caption),
    el("thead", {}, el("tr", {}, head)),
    el("tbody", {}, body),
  );
}

/* Who gets nothing */

function unreachable(bulk, { practiceId, where, signal, level }) {
  const columns = [
    { label: t("bulk.patient"), kind: "head", cell: (item) => patientOf(item, practiceId) },
    { label: t("bulk.why"), cell: ({ explanation }) => [labelOf("why"), explanation] },
    { label: t("bulk.remedy"), cell: (item) => [labelOf("remedy"), remedyOf(item)] },
  ];
  const around = table(t("bulk.unreachable"), columns, [], { hideCaption: true });
  const load = async (cursor) => (await api("GET", `${where}/unreachable`, { query: { limit: 50, cursor }, signal })).body;
  const list = more(load, (item) => row(columns, item), {
    around,
    list: around.querySelector("tbody"),
    empty: t("bulk.all_reached"),
    what: t("bulk.unreachable_loading"),
  });
  const result = el("section", { class: "card bulk-missed" });
  const save = () => {
    const saved = downloaded(`${where}/unreachable`, `unreachable-${bulk.id}.csv`, signal);
    return waiting(result, saved, t("bulk.downloading"));
  };
  result.append(
    el(level, {}, t("bulk.unreachable")),
    el("p", { class: "quiet" }, t("bulk.unreachable_text")),
    list,
    actions(button(t("bulk.download"), save)),
  );
  return result;
}

/** Name the column in each cell, which is seen where the rows are stacked. */
const labelOf = (column) => el("span", { class: "bulk-label" }, t(`bulk.${column}`));

const remedyOf = ({ remedy, outcome }) => remedy?.message ?? t(`bulk.no_remedy.${outcome}`);

/** A row that was refused may name a patient that there is not. */
function patientOf({ patient_id, row, outcome }, practiceId) {
  if (!patient_id) return t("bulk.row", { row });
  if (outcome === "refused" || /^\.{1,2}$/.test(patient_id)) return patient_id;
  return el("a", { href: path`#/practices/${practiceId}/patients/${patient_id}` }, patient_id);
}

/** Load a list as CSV, page by page, and have the browser save it as one file. */
async function downloaded(where, name, signal) {
  const pages = [];
  let cursor;
  do {
    const { body, headers } = await api("GET", where, { query: { limit: 1000, cursor }, accept: "text/csv", signal });
    pages.push(cursor ? body.slice(body.indexOf("\n") + 1) : body);
    cursor = nextOf(headers.get("link"));
  } while (cursor);
  const url = URL.createObjectURL(new Blob(pages, { type: "text/csv" }));
  el("a", { href: url, download: name }).click();
  // Not at once: the browser has not read it yet.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(t("bulk.downloaded"));
}

const nextOf = (link) => new URLSearchParams(/<\?([^>]*)>; rel="next"/.exec(link ?? "")?.[1]).get("cursor");
