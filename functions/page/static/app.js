/**
 * The page's core: elements, sign-in, the API, and the shell: who is signed in, which view is shown, and what is above it.
 *
 * A view is a module that exports `show(main, parameters, context)`, and imports all it needs from here:
 *
 *     import { api, el, fill, path, t } from "./app.js";
 *
 *     export async function show(main, { practice_id, patient_id }, context) {
 *       context.heading(t("facesheet.title"));
 *       const sheet = el("div");
 *       main.append(sheet);
 *       await fill(sheet, t("list.loading"), async () => {
 *         const { body, etag } = await api("GET", path`/practices/${practice_id}/patients/${patient_id}`, { signal: context.signal });
 *         return …;
 *       });
 *       return () => clearInterval(timer);  // if there is something to stop
 *     }
 *
 * The view's name is its module's, and its text `<name>.title` the window's title, in which no patient is named.
 */

// --- elements, texts, waiting, dialogs -------------------------------------------------------------------------------
//
// What the page is made of: its texts, elements, forms, lists, dialogs, and what is said to those who listen to it.
// Data only ever becomes text nodes and attributes, never HTML.

/* Texts */

const texts = JSON.parse(document.getElementById("text").textContent);
const plurals = new Intl.PluralRules(texts.locale);
const numbers = new Intl.NumberFormat(texts.locale);

const found = (key) => key.split(".").reduce((part, name) => part?.[name], texts);

/**
 * Give a text. `count` among the values chooses between `key_one` and `key_other` where the text has these forms.
 * @param {string} key such as "facesheet.title"
 * @param {Object<string, string|number>} [values] for the text's `{name}` placeholders; numbers are formatted
 * @returns {string}
 * @throws {Error} when there is no such text, or no value for one of its placeholders
 */
export function t(key, values = {}) {
  const text = found(key) ?? (typeof values.count === "number" ? plural(key, values.count) : undefined);
  if (typeof text !== "string") throw new Error(`There is no text ${key}.`);
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    if (values[name] === undefined || values[name] === null) throw new Error(`The text ${key} needs a value for ${name}.`);
    return typeof values[name] === "number" ? numbers.format(values[name]) : values[name];
  });
}

const plural = (key, count) => found(`${key}_${plurals.select(count)}`) ?? found(`${key}_other`);

/**
 * Say whether there is a text: for codes of the API, of which a newer one may not be known here yet.
 * @param {string} key
 * @returns {boolean}
 */
export const hasText = (key) => typeof found(key) === "string";

const formats = new Map();

/**
 * Give a date and time as a clock at the practice shows it.
 * @param {string} iso a time in UTC, as the API gives it
 * @param {string} timeZone the practice's
 * @returns {HTMLTimeElement}
 */
export function when(iso, timeZone) {
  if (!formats.has(timeZone)) {
    const style = { year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short" };
    formats.set(timeZone, new Intl.DateTimeFormat(texts.locale, { ...style, timeZone }));
  }
  return el("time", { datetime: iso }, formats.get(timeZone).format(new Date(iso)));
}

/**
 * Give a phone number as the API's explanations write it: +1 503-555-0111. Others, and what is no number, stay as they are.
 * @param {string} number
 * @returns {string}
 */
export const phone = (number) => number.replace(/^\+1(\d{3})(\d{3})(\d{4})$/, "+1\u00a0$1\u2011$2\u2011$3");

/* Elements */

/**
 * Make an element.
 * @param {string} tag
 * @param {Object} [attributes] `on: {event: listener}`, `dataset: {name: value}`; true sets an attribute without a value;
 *   false, null and undefined leave it out; all else is set as it is
 * @param {...(string|number|Node|Array|null|undefined|false)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let made = 0;

/**
 * Give an id that no other element has.
 * @returns {string}
 */
export const newId = () => `e${++made}`;

/**
 * Make a button. While a promise that `onclick` returns is pending the button does nothing; when it is rejected, the problem
 * is shown after the button (and removed at the next click), so that no failure goes unseen.
 * @param {string|Node} label
 * @param {(event: MouseEvent) => (void|Promise)} onclick
 * @param {{kind?: "primary"|"danger"|"plain"|"link", disabled?: boolean}} [options] and any attributes
 * @returns {HTMLButtonElement}
 */
export function button(label, onclick, { kind = "plain", disabled = false, ...attributes } = {}) {
  let shown = null;
  async function click(event) {
    // Not `disabled`, which would take the focus away from who pressed it.
    if (pressed.getAttribute("aria-disabled") === "true") return;
    shown?.remove();
    const pending = onclick(event);
    if (!(pending instanceof Promise)) return;
    pressed.setAttribute("aria-disabled", "true");
    try {
      await pending;
    } catch (error) {
      if (error.name === "AbortError") return;
      shown = problem(error);
      (pressed.closest(".actions") ?? pressed).after(shown);
    } finally {
      pressed.removeAttribute("aria-disabled");
    }
  }
  const pressed = el("button", { type: "button", class: `button ${kind}`, disabled, ...attributes, on: { click } }, label);
  return pressed;
}

/**
 * Make a row of buttons; what a button's failure says is shown under it.
 * @param {...Node} buttons
 * @returns {HTMLElement}
 */
export const actions = (...buttons) => el("div", { class: "actions" }, ...buttons);

/**
 * Label a control. A checkbox or radio button has its label beside it, all others above.
 * @param {string|Node} label
 * @param {HTMLElement} control an input, select or textarea
 * @param {{help?: string|Node, error?: string}} [options]
 * @returns {HTMLElement}
 */
export function field(label, control, { help, error } = {}) {
  control.id ||= newId();
  const labelled = el("label", { for: control.id }, label);
  const helped = help ? el("p", { class: "help", id: `${control.id}-help` }, help) : null;
  const refused = el("p", { class: "error", id: `${control.id}-error`, hidden: true });
  if (helped) control.setAttribute("aria-describedby", helped.id);
  const isChoice = control.type === "checkbox" || control.type === "radio";
  const parts = isChoice ? [el("div", { class: "choice" }, control, labelled), helped, refused] : [labelled, helped, control, refused];
  const whole = el("div", { class: "field" }, parts);
  if (error) mark(control, refused, error);
  return whole;
}

function mark(control, refused, error) {
  refused.hidden = !error;
  refused.textContent = error ?? "";
  const described = (control.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id && id !== refused.id);
  if (error) described.push(refused.id);
  if (described.length) control.setAttribute("aria-describedby", described.join(" "));
  else control.removeAttribute("aria-describedby");
  if (error) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
}

/**
 * Say what is wrong with a control that `field` has labelled, and move the focus to it; null takes it back.
 * @param {HTMLElement} control
 * @param {string|null} error
 */
export function invalid(control, error) {
  mark(control, document.getElementById(`${control.id}-error`), error);
  if (error) control.focus();
}

/**
 * Make the badge of a channel: TEXT, CALL, EMAIL or NONE (nothing is sent).
 * @param {string} display
 * @returns {HTMLElement}
 */
export const badge = (display) => el("span", { class: `badge ${display.toLowerCase()}` }, t(`badge.${display.toLowerCase()}`));

/**
 * Make a label of a state, such as "Sent".
 * @param {string} text
 * @param {"good"|"bad"|"warned"|"neutral"} [tone]
 * @returns {HTMLElement}
 */
export const tag = (text, tone = "neutral") => el("span", { class: `tag ${tone}` }, text);

/**
 * Make a table in a region that scrolls by itself where the table is wider than the page.
 * @param {string} caption
 * @param {Array<{label: string, cell: (row: *, index: number) => (string|Node|null), kind?: "number"|"head"}>} columns `head`: the
 *   cell names its row
 * @param {Array} rows
 * @param {{hideCaption?: boolean}} [options] `hideCaption` where a heading above says the same
 * @returns {HTMLElement} the region; `region.querySelector("tbody")` takes more rows, made by `row(columns, item)`
 */
export function table(caption, columns, rows, { hideCaption = false } = {}) {
  const id = newId();
  const head = columns.map(({ label, kind }) => el("th", { scope: "col", class: kind === "number" && kind }, label));
  return el(
    "div",
    { class: "table", role: "region", tabindex: "0", "aria-labelledby": id },
    el(
      "table",
      {},
      el("caption", { id, class: hideCaption && "heard" }, caption),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, rows.map((item, index) => row(columns, item, index))),
    ),
  );
}

/**
 * Make one more row for a table with these columns.
 * @returns {HTMLTableRowElement}
 */
export const row = (columns, item, index = 0) =>
  el(
    "tr",
    {},
    columns.map(({ cell, kind }) =>
      el(kind === "head" ? "th" : "td", { scope: kind === "head" && "row", class: kind === "number" && kind }, cell(item, index)),
    ),
  );

/* Waiting, and what goes wrong */

/**
 * Show that it is being waited, when it takes longer than 300 ms.
 * @template T
 * @param {HTMLElement} where
 * @param {Promise<T>} promise
 * @param {string} what such as "Loading the patient …"
 * @returns {Promise<T>} the same
 */
export function waiting(where, promise, what) {
  const shown = el("p", { class: "waiting" }, el("span", { class: "spinner", "aria-hidden": "true" }), what);
  const timer = setTimeout(() => {
    where.setAttribute("aria-busy", "true");
    where.append(shown);
    say(what);
  }, 300);
  const end = () => {
    clearTimeout(timer);
    shown.remove();
    where.removeAttribute("aria-busy");
  };
  promise.then(end, end);
  return promise;
}

/**
 * Fill an element with what is loaded, showing that it is being waited; where that fails, with the problem and "Try again".
 * @param {HTMLElement} where
 * @param {string} what such as "Loading the patient …"
 * @param {() => Promise<Node|Node[]|string|null>} load
 * @returns {Promise<boolean>} whether it was filled; an aborted load leaves all as it was
 */
export async function fill(where, what, load) {
  try {
    const content = await waiting(where, load(), what);
    where.replaceChildren(...[content].flat(Infinity).filter((part) => part !== null && part !== undefined && part !== false));
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    where.replaceChildren(problem(error, () => fill(where, what, load)));
    return false;
  }
}

// Where trying the same again may help.
const PASSING = new Set(["offline", "busy", "failed", "unexpected", "signed_out", "other_person", "stale"]);
// Where the API's own words say more than ours.
const TOLD = new Set(["conflict", "invalid", "too_large", "unexpected"]);

/**
 * Say what went wrong and what to do, for any error: a `Problem` of the API, of signing in, or a defect of the page.
 * @param {Error} error
 * @param {() => *} [again] what "Try again" does, which is offered where it may help
 * @returns {HTMLElement} with role alert
 */
export function problem(error, again) {
  const kind = error.kind ?? "defect";
  if (kind === "defect") console.error(error);
  const errors = error.errors ?? [];
  const about = `problem.about.${error.type?.split(":").at(-1)}`;
  const told = TOLD.has(kind) && !hasText(about) && errors.length < 2 && error.detail;
  const listed = errors.length > 1 && errors.map(({ loc, msg }) => el("li", {}, `${loc.slice(1).join(" ")}: ${msg}`));
  return el(
    "div",
    { class: "problem", role: "alert" },
    el("p", {}, t(hasText(about) ? about : `problem.${kind}`)),
    told && el("p", {}, error.detail),
    listed && el("ul", {}, listed),
    again && PASSING.has(kind) && button(t("problem.again"), again),
  );
}

/**
 * Make a list that is loaded page by page: the first at once, each other by the button "Show more".
 * @param {(cursor: string|undefined) => Promise<{items: Array, next: string|null}>} load
 * @param {(item: *) => HTMLElement} show makes an item's element, as a child of `list`
 * @param {{list?: HTMLElement, around?: HTMLElement, empty?: string|Node, what?: string}} [options] `list` takes the items (a
 *   `ul`, if none is given) and `around` has it in it, as a table has its `tbody`; `empty` is said when there is no item
 * @returns {HTMLElement}
 */
export function more(load, show, options = {}) {
  const { list = el("ul", { class: "plain-list" }), empty = t("list.empty"), what = t("list.loading") } = options;
  const { around = list } = options;
  const foot = el("div", { class: "more" });
  const whole = el("div", {}, around, foot);
  around.hidden = true;
  async function next(cursor) {
    foot.replaceChildren();
    try {
      const page = await waiting(whole, load(cursor), what);
      const shown = page.items.map(show);
      list.append(...shown);
      around.hidden = !list.childElementCount;
      if (around.hidden) foot.append(el("p", { class: "quiet" }, empty));
      if (page.next) foot.append(button(t("list.more"), () => void next(page.next)));
      if (cursor && shown.length) {
        // The button that had the focus is gone.
        shown[0].tabIndex = -1;
        shown[0].focus();
        say(t("list.shown", { count: shown.length }));
      }
    } catch (error) {
      if (error.name !== "AbortError") foot.replaceChildren(problem(error, () => void next(cursor)));
    }
  }
  next();
  return whole;
}

/* What is said */

function speak(id, text) {
  const region = document.getElementById(id);
  region.textContent = "";
  // The same words again are only heard if they were gone for a moment.
  setTimeout(() => (region.textContent = text), 50);
}

/**
 * Say something to those who listen to the page, once they are free to hear it.
 * @param {string} text
 */
export const say = (text) => speak("polite", text);

/**
 * Say something to those who listen to the page, at once.
 * @param {string} text
 */
export const warn = (text) => speak("assertive", text);

/* Dialogs */

/**
 * Show a modal dialog. Escape closes it, and the focus goes back to where it was.
 * @param {Object} options
 * @param {string} options.title
 * @param {Node|string|Array|((close: (value: *) => void) => (Node|Array))} options.content
 * @param {Array<{label: string, value?: *, kind?: string, run?: () => *}>} [options.actions] Enter in a field presses the first that
 *   is primary or danger. `run` may be asynchronous: the dialog waits for it, closes with what it returns (else with `value`),
 *   stays open when it returns false, and shows what it throws
 * @returns {Promise<*>} what it was closed with; null after Escape
 */
export function dialog({ title, content, actions: choices = [{ label: t("dialog.close"), value: null }] }) {
  return new Promise((resolve) => {
    const opener = document.activeElement;
    const id = newId();
    let value = null;
    const close = (chosen = null) => {
      value = chosen;
      shown.close();
    };
    const buttons = choices.map((choice) =>
      button(
        choice.label,
        async () => {
          const result = choice.run ? await choice.run() : undefined;
          if (result !== false) close(result ?? choice.value ?? null);
        },
        { kind: choice.kind },
      ),
    );
    const main = buttons[choices.findIndex((choice) => choice.kind === "primary" || choice.kind === "danger")];
    const submit = (event) => {
      event.preventDefault();
      main?.click();
    };
    const parts = typeof content === "function" ? content(close) : content;
    const shown = el(
      "dialog",
      { "aria-labelledby": id },
      el(
        "form",
        { on: { submit }, novalidate: true },
        el("h2", { id }, title),
        el("div", { class: "dialog-content" }, parts),
        // Without one, Enter does nothing where there are several fields.
        main && el("button", { type: "submit", hidden: true }),
        actions(...buttons),
      ),
    );
    shown.addEventListener("close", () => {
      shown.remove();
      if (opener?.isConnected) opener.focus();
      resolve(value);
    });
    document.body.append(shown);
    shown.showModal();
  });
}

// --- sign-in ---------------------------------------------------------------------------------------------------------
//
// Signs staff in at the practice's OpenID provider: authorization code with PKCE (RFC 7636), in a window of its own, so that
// nothing typed on the page is lost. Token, state and verifier live in this module's memory and nowhere else; what is stored is
// that somebody has signed out, so that whoever comes next is asked who they are. The event "signed-in" of the window says that
// somebody has, in the midst of a view.

const config = JSON.parse(document.getElementById("config").textContent);
const CHANNEL = "sign-in";
const REDIRECT = `${location.origin}/`;

const SIGNED_OUT = "signed-out";

let session = null;

/** Why nobody was signed in; `kind` is the last part of the text's key that says what to do. */
class SignInProblem extends Error {
  constructor(reason) {
    super(reason);
    this.kind = `sign_in_${reason}`;
  }
}

/**
 * Give the access token, or null when nobody is signed in.
 * @returns {string|null}
 */
export const token = () => session?.token ?? null;

/**
 * Say who is signed in and for which practices, as the token says: for display only, since only the API checks it.
 * @returns {{sub: string, practices: string[]}}
 */
export const who = () => session?.who ?? { sub: "", practices: [] };

/** Forget the token. The next sign-in, in whatever tab, asks the provider to ask again who it is. */
export function forget() {
  session = null;
  stored((storage) => storage.setItem(SIGNED_OUT, ""));
}

/** Use what is stored, where that is not forbidden. */
function stored(use) {
  try {
    return use(localStorage);
  } catch {
    return null;
  }
}

/**
 * In the window that the provider sends back here: hand its answer to the page that waits for it, and close.
 * @returns {boolean} whether this is such a window
 */
export function handBack() {
  const answer = Object.fromEntries(new URLSearchParams(location.search));
  if (!answer.state || !(answer.code || answer.error)) return false;
  const { code, state, error, iss } = answer;
  history.replaceState(null, "", REDIRECT);
  new BroadcastChannel(CHANNEL).postMessage({ code, state, error, iss });
  window.close();
  document.title = t("sign_in.done_title");
  const text = el("p", {}, t("sign_in.done"));
  document.getElementById("main").append(el("div", { class: "alone" }, el("h1", {}, t("sign_in.done_title")), text));
  return true;
}

/**
 * Make what one signs in with: a button, and what is said meanwhile.
 * @param {() => void} done called once, when somebody is signed in
 * @returns {{panel: HTMLElement, stop: () => void}}
 */
export function signInPanel(done) {
  const stopping = new AbortController();
  const told = el("div", { role: "status" });
  let attempt = 0;

  // No `async` here: a window that is opened in a later turn than the click's is blocked.
  function start() {
    const current = ++attempt;
    const tell = (key) => current === attempt && told.replaceChildren(el("p", {}, t(key)));
    const popup = window.open("", "", "popup,width=500,height=700");
    if (!popup) return tell("problem.sign_in_blocked");
    // Wherever the provider leads from there, it cannot lead this page.
    popup.opener = null;
    tell("sign_in.continue");
    signIn(popup, stopping.signal, () => tell("problem.sign_in_closed")).then(
      () => {
        if (stopping.signal.aborted) return;
        stopping.abort();
        done();
      },
      (error) => {
        popup.close();
        if (error.name === "AbortError") return;
        if (!error.kind) console.error(error);
        tell(`problem.${error.kind ?? "defect"}`);
      },
    );
  }

  const panel = el("div", { class: "stack" }, button(t("sign_in.button"), start, { kind: "primary" }), told);
  return { panel, stop: () => stopping.abort() };
}

let asking = null;

/**
 * Ask in a dialog to sign in again; whatever needs it meanwhile shares the one dialog.
 * @returns {Promise<boolean>} whether somebody is signed in now
 */
export function signInAgain() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

async function ask() {
  let stop;
  // Who has gone away leaves nothing to be read; it is all there when they come back.
  document.documentElement.classList.add("locked");
  const isIn = await dialog({
    title: t("sign_in.again_title"),
    content: (close) => {
      const made = signInPanel(() => close(true));
      stop = made.stop;
      return [el("p", {}, t("sign_in.again")), made.panel];
    },
    actions: [{ label: t("dialog.cancel"), value: false }],
  });
  stop();
  document.documentElement.classList.remove("locked");
  if (isIn) window.dispatchEvent(new Event("signed-in"));
  return isIn === true;
}

async function signIn(popup, signal, closed) {
  const provider = await discover();
  signal.throwIfAborted();
  const state = random();
  const verifier = random();
  const challenge = encoded(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
  const answered = answerFor(state, popup, signal, closed);
  const url = new URL(provider.authorization_endpoint);
  const asked = {
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: REDIRECT,
    scope: config.scope,
    state,
    code_challenge: challenge,
    code_challenge_method: "S256",
    ...(stored((storage) => storage.getItem(SIGNED_OUT)) === null ? {} : { prompt: "login" }),
  };
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
  popup.location.replace(url);
  const { code, error, iss } = await answered;
  // RFC 9207: an answer that names another provider is not ours.
  if (iss && iss !== config.issuer) throw new SignInProblem("provider");
  if (!code) throw new SignInProblem(error === "access_denied" ? "denied" : "refused");
  const got = await exchanged(provider, code, verifier);
  // Given up meanwhile: nobody would know who is signed in.
  signal.throwIfAborted();
  session = sessionOf(got);
  stored((storage) => storage.removeItem(SIGNED_OUT));
}

/** Give the window's answer to this state. A window seems closed, too, where the provider cuts it off from its opener. */
function answerFor(state, popup, signal, closed) {
  return new Promise((resolve, reject) => {
    const channel = new BroadcastChannel(CHANNEL);
    let closedFor = 0;
    const timer = setInterval(() => {
      closedFor = popup.closed ? closedFor + 1 : 0;
      if (closedFor === 3) closed();
    }, 500);
    const end = () => {
      clearInterval(timer);
      channel.close();
    };
    channel.addEventListener("message", ({ data }) => {
      if (data?.state !== state) return;
      end();
      resolve(data);
    });
    signal.addEventListener("abort", () => {
      end();
      reject(signal.reason);
    });
  });
}

async function discover() {
  const provider = await fetched(`${config.issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (provider.issuer !== config.issuer) throw new SignInProblem("provider");
  return provider;
}

async function exchanged(provider, code, verifier) {
  const form = {
    grant_type: "authorization_code",
    code,
    redirect_uri: REDIRECT,
    client_id: config.client_id,
    code_verifier: verifier,
  };
  const answer = await fetched(provider.token_endpoint, { method: "POST", body: new URLSearchParams(form) });
  if (typeof answer.access_token !== "string") throw new SignInProblem("refused");
  return answer.access_token;
}

async function fetched(url, options) {
  let response;
  try {
    response = await fetch(url, { ...options, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch {
    throw new SignInProblem("unreachable");
  }
  if (!response.ok) throw new SignInProblem("refused");
  return response.json();
}

function sessionOf(accessToken) {
  let claims = {};
  try {
    const part = accessToken.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(part), (character) => character.charCodeAt(0))));
  } catch {
    // Not a JWT that can be read here: the API will say what it thinks of it.
  }
  const listed = [claims.practice_ids ?? ""].flat().join(" ").replace(/^\[|\]$/g, "");
  return { token: accessToken, who: { sub: String(claims.sub ?? ""), practices: listed.split(/\s+/).filter(Boolean) } };
}

const random = () => encoded(crypto.getRandomValues(new Uint8Array(32)));

const encoded = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// --- the API ---------------------------------------------------------------------------------------------------------
//
// Speaks with the API: tokens, problems, and trying again where that is safe.

const KINDS = {
  400: "invalid",
  401: "signed_out",
  403: "forbidden",
  404: "unknown",
  409: "conflict",
  412: "stale",
  413: "too_large",
  422: "invalid",
  429: "busy",
  500: "failed",
  502: "failed",
  503: "busy",
  504: "failed",
};
const TRIES = 3;
// The API answers within 30 seconds, or not at all.
const PATIENCE = 35_000;

/**
 * Why a request did not succeed. `kind` is the key under "problem" of the sentence that says what to do: offline, signed_out,
 * other_person, forbidden, unknown, conflict, stale, too_large, invalid, busy, failed or unexpected. Where the API says more (the
 * end of its `type`, such as unknown-patient), a sentence under "problem.about" goes before it.
 */
export class Problem extends Error {
  /** @param {{kind: string, status?: number, type?: string, title?: string, detail?: string, errors?: Array, retryAfter?: number, body?: *}} parts */
  constructor({ kind, status = 0, type = "", title = "", detail = "", errors = [], retryAfter = null, body = null }) {
    super(kind);
    Object.assign(this, { name: "Problem", kind, status, type, title, detail, errors, retryAfter, body });
  }
}

/**
 * Make a path, or an address of this page, from ids: path`/practices/${practice_id}/patients/${patient_id}`.
 * @throws {Problem} for an id of dots alone, which would be another path
 * @returns {string}
 */
export function path(strings, ...ids) {
  if (ids.some((id) => id === "." || id === "..")) throw new Problem({ kind: "unknown", status: 404 });
  return String.raw({ raw: strings }, ...ids.map((id) => encodeURIComponent(id)));
}

/**
 * Ask the API. Who is not signed in any more is asked to sign in, and the request is repeated. A request that may be repeated is,
 * twice at most, when the API is busy.
 * @param {"GET"|"PUT"|"POST"|"DELETE"} method
 * @param {string} where the path after /v1, made by `path`
 * @param {Object} [options]
 * @param {Object|string} [options.body] an object is sent as JSON, text as `headers` say
 * @param {Object<string, string>} [options.headers] such as If-Match, Idempotency-Key
 * @param {Object<string, *>} [options.query] null and undefined are left out. Never a phone number
 * @param {string} [options.accept] such as text/csv; an answer of another type is a Problem "unexpected"
 * @param {AbortSignal} [options.signal] `context.signal` for what is read: it ends when the view is left
 * @param {boolean} [options.repeatable] whether it does no harm twice; all but a POST without Idempotency-Key, if not given
 * @returns {Promise<{status: number, etag: string|null, headers: Headers, body: *}>} the body of JSON parsed, else as text
 * @throws {Problem} for whatever is not 2xx; DOMException AbortError when the signal says so
 */
export async function api(method, where, { body, headers = {}, query = {}, accept = "application/json", signal, repeatable } = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null && value !== undefined));
  const url = `/v1${where}${asked.size ? `?${asked}` : ""}`;
  const isText = typeof body === "string";
  const request = {
    method,
    body: body === undefined || isText ? body : JSON.stringify(body),
    headers: { accept, ...(body === undefined || isText ? {} : { "content-type": "application/json" }), ...headers },
  };
  const mayRepeat = repeatable ?? (method !== "POST" || "Idempotency-Key" in headers);
  const asker = who().sub;
  let hasAsked = false;
  for (let attempt = 1; ; attempt++) {
    if (!token()) throw new Problem({ kind: "signed_out" });
    // What one person has pressed is not done in another's name, however long it has waited.
    if (who().sub !== asker) throw new Problem({ kind: "other_person" });
    const answer = await send(url, request, signal);
    if (answer.status >= 200 && answer.status < 300) return answer;
    const problem = problemOf(answer);
    if (answer.status === 401 && !hasAsked && token()) {
      hasAsked = true;
      if (!(await signInAgain())) throw problem;
      signal?.throwIfAborted();
    } else if (problem.kind === "busy" && mayRepeat && attempt < TRIES) {
      await pause((problem.retryAfter ?? attempt) * 1000 + Math.random() * 300, signal);
    } else {
      throw problem;
    }
  }
}

async function send(url, request, signal) {
  const patience = AbortSignal.timeout(PATIENCE);
  let response, text;
  try {
    response = await fetch(url, {
      ...request,
      headers: { ...request.headers, authorization: `Bearer ${token()}` },
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    text = await response.text();
  } catch {
    signal?.throwIfAborted();
    throw new Problem({ kind: "offline" });
  }
  const { status, headers } = response;
  return { status, etag: headers.get("etag"), headers, body: bodyOf(text, headers, status, request.headers.accept) };
}

function bodyOf(text, headers, status, accept) {
  const type = headers.get("content-type") ?? "";
  if (/\bjson\b/.test(type) && text) return JSON.parse(text);
  // Something between here and the API has answered, such as the sign-in page of a network.
  if (text && status < 300 && !type.startsWith(accept)) throw new Problem({ kind: "unexpected", status });
  return text;
}

function problemOf({ status, headers, body }) {
  // API Gateway's own answers are {"message"}, and a message that was blocked is answered with its decision.
  const { type = "", title = "", detail = "", errors = [] } = typeof body === "object" ? (body ?? {}) : {};
  const kind = KINDS[status] ?? "unexpected";
  const seconds = Number.parseInt(headers.get("retry-after"), 10);
  const retryAfter = Number.isNaN(seconds) ? null : Math.min(seconds, 10);
  return new Problem({ kind, status, type, title, detail, errors: errors ?? [], retryAfter, body });
}

/**
 * Wait; the signal's reason is thrown when it ends that.
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 */
export const pause = (milliseconds, signal) =>
  new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", end, { once: true });
  });

// --- the shell ----------------------------------------------------------------------------------------------------

const ROUTES = [
  ["/", "home"],
  ["/practices/{practice_id}", "find"],
  ["/practices/{practice_id}/patients/{patient_id}", "facesheet"],
  ["/practices/{practice_id}/truth-table", "truth_table"],
  ["/practices/{practice_id}/bulk", "bulk"],
  ["/practices/{practice_id}/bulk/{kind}/{bulk_id}", "bulk"],
].map(([pattern, name]) => [new RegExp(`^${pattern.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}/?$`), name]);

const VIEWS = {
  home: () => import("./home.js"),
  find: () => import("./find.js"),
  facesheet: () => import("./facesheet.js"),
  truth_table: () => import("./truth_table.js"),
  bulk: () => import("./bulk.js"),
};

const part = (id) => document.getElementById(id);

/** The view that is shown: its address, and how to end it. */
let current = null;

/**
 * Say how to know whether a part of the view has something typed that is not saved. Whoever leaves then is asked.
 * @param {() => boolean|string} isUnsaved a text where leaving means something else than that what was typed is lost
 */
export function unsaved(isUnsaved) {
  current.unsaved.push(isUnsaved);
}

const isUnsaved = () => current.unsaved.some((isSo) => isSo());

/** Give what is said to who leaves: the gravest of what the parts of the view say. */
const leaving = () => current.unsaved.map((isSo) => isSo()).find((text) => typeof text === "string") ?? t("leave.text");

let practices = new Map();

/**
 * Give the practice, which is read once for a view.
 * @param {string} practiceId
 * @returns {Promise<Object>} as the API answers it: name, time_zone, lines, default_line, policy, …
 */
export function practice(practiceId) {
  if (!practices.has(practiceId)) {
    const known = practices;
    const read = api("GET", path`/practices/${practiceId}`).then(({ body }) => body);
    read.catch(() => known.delete(practiceId));
    practices.set(practiceId, read);
  }
  return practices.get(practiceId);
}

/* Views */

/** Give the route of an address: the view's name and its parameters; null where there is none. */
function routeOf(hash) {
  const address = hash.replace(/^#/, "") || "/";
  for (const [pattern, name] of ROUTES) {
    const match = pattern.exec(address);
    if (!match) continue;
    try {
      const parameters = Object.entries(match.groups ?? {}).map(([key, value]) => [key, decodeURIComponent(value)]);
      return { name, parameters: Object.fromEntries(parameters) };
    } catch {
      return null;
    }
  }
  return null;
}

/** End what is shown, and give an empty place and a context for what comes. */
function begin(title, hash) {
  current?.end();
  for (const open of document.querySelectorAll("dialog[open]")) open.close();
  practices = new Map();
  // What was said of the view before may name a number.
  for (const id of ["polite", "assertive"]) part(id).textContent = "";
  const ending = new AbortController();
  const place = el("div", { class: "view" });
  let stop = null;
  current = {
    hash,
    place,
    sub: who().sub,
    signal: ending.signal,
    unsaved: [],
    end: () => {
      ending.abort();
      stop?.();
    },
    stopWith: (stopping) => {
      if (typeof stopping !== "function") return;
      if (ending.signal.aborted) stopping();
      else stop = stopping;
    },
  };
  document.title = t("shell.window_title", { title });
  part("main").replaceChildren(place);
  window.scrollTo(0, 0);
  return current;
}

/**
 * What a view is given besides its place and parameters.
 * @typedef {Object} Context
 * @property {AbortSignal} signal ends when the view is left
 * @property {(...children: Array) => HTMLHeadingElement} heading begins the view with its h1, and moves the focus there; call it
 *   before waiting for anything
 */
const contextOf = (view) => ({
  signal: view.signal,
  heading: (...children) => {
    const heading = el("h1", { tabindex: "-1" }, ...children);
    view.place.prepend(heading);
    heading.focus({ preventScroll: true });
    return heading;
  },
});

async function showRoute() {
  const route = routeOf(location.hash);
  const view = begin(t(route ? `${route.name}.title` : "shell.lost_title"), location.hash);
  const context = contextOf(view);
  showTop(route);
  if (!token()) return showSignIn(view, context);
  if (!route) return showLost(view, context);
  let module;
  try {
    module = await VIEWS[route.name]();
  } catch (error) {
    console.error(error);
    if (!view.signal.aborted) showMissing(view, context);
    return;
  }
  if (view.signal.aborted) return;
  try {
    view.stopWith(await module.show(view.place, route.parameters, context));
  } catch (error) {
    if (view.signal.aborted || error.name === "AbortError") return;
    view.place.replaceChildren();
    context.heading(t(`${route.name}.title`));
    view.place.append(problem(error, showRoute));
  }
}

function showSignIn(view, context) {
  context.heading(t("sign_in.title"));
  const { panel, stop } = signInPanel(showRoute);
  view.stopWith(stop);
  view.place.classList.add("alone");
  view.place.append(el("p", {}, t("sign_in.intro")), panel);
}

function showLost(view, context) {
  context.heading(t("shell.lost_title"));
  view.place.append(el("p", {}, t("shell.lost")), el("p", {}, el("a", { href: "#/" }, t("shell.lost_link"))));
}

/** A view that cannot be loaded: most likely a newer version was deployed since this page was opened. */
function showMissing(view, context) {
  context.heading(t("shell.missing_title"));
  view.place.append(el("p", {}, t("shell.missing")), button(t("shell.reload"), () => location.reload(), { kind: "primary" }));
}

/* Above the view */

function showTop(route) {
  const practiceId = route?.parameters.practice_id;
  part("top").hidden = !token();
  part("practice").replaceChildren();
  part("nav").replaceChildren();
  part("who").replaceChildren();
  if (!token()) return;
  const { sub, practices: own } = who();
  part("who").append(el("span", { class: "quiet" }, t("shell.who", { sub })));
  if (own.length > 1) part("who").append(el("a", { href: "#/" }, t("shell.practices")));
  part("who").append(button(t("shell.sign_out"), signOut, { kind: "link" }));
  if (!practiceId) {
    part("practice").append(t("shell.name"));
    return;
  }
  const links = [
    ["find", path`#/practices/${practiceId}`],
    ["truth_table", path`#/practices/${practiceId}/truth-table`],
    ["bulk", path`#/practices/${practiceId}/bulk`],
  ];
  part("nav").append(
    ...links.map(([name, href]) => el("a", { href, "aria-current": name === route.name && "page" }, t(`shell.${name}`))),
  );
  const name = part("practice");
  name.append(practiceId);
  practice(practiceId).then(
    (known) => name.textContent === practiceId && name.replaceChildren(known.name),
    () => {}, // The view says what is wrong; the id stands for the name.
  );
}

async function signOut() {
  if (await mayLeave()) await endSession();
}

/** Forget who was signed in, here and in the other tabs. */
async function endSession() {
  tabs.postMessage("signed-out");
  await forgetAll();
}

async function forgetAll() {
  forget();
  history.replaceState(null, "", "#/");
  await showRoute();
  say(t("sign_in.signed_out"));
}

const tabs = new BroadcastChannel("tabs");

/** Somebody has signed in in the midst of a view: perhaps somebody else, for whom it is not. */
function greet() {
  const route = routeOf(current.hash);
  const practiceId = route?.parameters.practice_id;
  const { sub, practices: own } = who();
  // Of a token that cannot be read here, nothing is known but what the API says.
  const isOther = sub !== current.sub || (sub && practiceId && !own.includes(practiceId));
  if (isOther) showRoute();
  else showTop(route);
  awake();
}

/* Going away */

// So long nobody does anything here, then whoever comes is asked who they are; what was typed is there for who it was.
const IDLE = 15 * 60_000;
let idle = 0;

function awake() {
  clearTimeout(idle);
  idle = setTimeout(lock, IDLE);
}

async function lock() {
  if (token() && !(await signInAgain())) await endSession();
  awake();
}

/* Leaving */

let isAsking = null;

/** Say whether to leave the view; who has typed something is asked, once at a time. */
async function mayLeave() {
  if (!isUnsaved()) return true;
  isAsking ??= dialog({
    title: t("leave.title"),
    content: el("p", {}, leaving()),
    actions: [
      { label: t("leave.stay"), value: false },
      { label: t("leave.leave"), value: true, kind: "danger" },
    ],
  }).finally(() => (isAsking = null));
  return (await isAsking) === true;
}

async function navigate() {
  const wanted = location.hash;
  if (isUnsaved()) {
    // The address has changed already, and cannot be kept: it is put back until it is known whether to leave.
    history.pushState(null, "", current.hash || "#/");
    if (!(await mayLeave())) return;
    history.replaceState(null, "", wanted);
  }
  await showRoute();
}

function start() {
  document.documentElement.lang = t("locale");
  part("skip").textContent = t("shell.skip");
  part("nav").setAttribute("aria-label", t("shell.nav"));
  part("skip").addEventListener("click", (event) => {
    // The address's fragment is the router's.
    event.preventDefault();
    part("main").querySelector("h1")?.focus();
  });
  // A sign-in's answer that is none.
  if (location.search) history.replaceState(null, "", location.pathname + location.hash);
  window.addEventListener("hashchange", navigate);
  for (const each of ["pointerdown", "keydown", "wheel"]) window.addEventListener(each, awake, { capture: true, passive: true });
  tabs.addEventListener("message", () => token() && forgetAll());
  awake();
  window.addEventListener("signed-in", greet);
  window.addEventListener("beforeunload", (event) => {
    if (isUnsaved()) event.preventDefault();
  });
  // Not awaited: views import this module, and would wait for it.
  showRoute();
}

if (!handBack()) start();
