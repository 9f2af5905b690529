/**
 * The practices that one is signed in for; with a single one, its first view.
 */

import { el, path, practice, t, who } from "./app.js";

// Each name is a request.
const NAMED = 12;

export async function show(main, parameters, context) {
  const { practices } = who();
  if (practices.length === 1) {
    location.replace(path`#/practices/${practices[0]}`);
    return;
  }
  context.heading(t("home.title"));
  if (!practices.length) {
    main.append(el("p", {}, t("home.none")));
    return;
  }
  main.append(el("ul", { class: "plain-list" }, practices.map((id, index) => el("li", {}, link(id, index < NAMED)))));
}

function link(practiceId, isNamed) {
  const shown = el("a", { href: path`#/practices/${practiceId}` }, practiceId);
  if (isNamed) practice(practiceId).then(({ name }) => shown.replaceChildren(name), () => {});
  return shown;
}
