"""Broadcasts and campaigns on the page: tried, started once, followed, paused, resumed, cancelled, accounted for."""

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.browser.harness import NARROW, WIDE, Watch, check_accessibility, shots, sign_in, sign_in_again
from tests.local.demo_data import PATIENTS, PRACTICE
from tests.local.stack import LocalStack

pytestmark = pytest.mark.desk

START = "/#/practices/demo/bulk"
LIST = "lists/demo/flu.csv"
ONE = re.compile(r"/v1/practices/demo/broadcasts/[^/]+$")
STARTED = re.compile(r"/v1/practices/demo/broadcasts$")


@pytest.fixture
def form(page: Page) -> Page:
    """The page on which a broadcast or campaign is composed."""
    page.goto(START)
    sign_in(page)
    expect(page.get_by_role("button", name="Dry run first")).to_be_visible()
    return page


@pytest.fixture
def uploaded(stack: LocalStack) -> str:
    """A list in the bucket, and its key."""
    rows = "".join(f"{patient_id},Pat\n" for patient_id in [*PATIENTS, "p-gone"])
    stack.client("s3").put_object(
        Bucket=stack.environment["LISTS_BUCKET"], Key=LIST, Body=f"patient_id,first_name\n{rows}".encode()
    )
    return LIST


@pytest.fixture
def few_texts(stack: LocalStack) -> Iterator[None]:
    """Let broadcasts text two patients a day, during a test."""
    put_practice(stack, PRACTICE | {"broadcast_texts_per_day": 2})
    yield
    put_practice(stack, PRACTICE)


@pytest.fixture
def own_sending(stack: LocalStack) -> Iterator[None]:
    """Let the practice send itself, during a test."""
    put_practice(stack, PRACTICE | {"sending": False})
    yield
    put_practice(stack, PRACTICE)


@pytest.fixture
def narrow(page: Page) -> Iterator[None]:
    """Make the window as narrow as a phone, during a test."""
    page.set_viewport_size(NARROW)
    yield
    page.set_viewport_size(WIDE)


def put_practice(stack: LocalStack, body: object) -> None:
    request(stack, "PUT", "", body)


def request(stack: LocalStack, method: str, path: str, body: object = None) -> Any:
    """Ask the API as an administrator."""
    token = stack.token("admin", ["demo"], "practice/admin messages/send")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    with closing(http.client.HTTPConnection(urlsplit(stack.api_url).netloc)) as connection:
        connection.request(method, f"/v1/practices/demo{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        told = json.load(answer)
    assert answer.status < 300, told
    return told


def compose(page: Page, patient_ids: list[str] | None = None, text: str = "We are closed today.") -> None:
    """Type a broadcast with a text and a call."""
    page.get_by_label("Patient IDs").fill("\n".join(PATIENTS if patient_ids is None else patient_ids))
    page.get_by_label("Name", exact=True).fill("Closed today")
    page.get_by_label("Text message").fill(text)
    page.get_by_label("What is said in a call").fill("We are closed today.")


def try_it(page: Page) -> Locator:
    """Do the dry run, and give the button that starts what was tried."""
    page.get_by_role("button", name="Dry run first").click()
    start = page.get_by_role("button", name=re.compile("^Start the "))
    expect(start).to_be_visible(timeout=20_000)
    return start


def count(page: Page, name: str) -> Locator:
    """Give the number of a count, by its name."""
    return page.locator(".bulk-count").filter(has_text=re.compile(f"^{name}")).locator(".tabular")


def state(page: Page, name: str) -> Locator:
    """Give the tag of a state."""
    return page.locator(".tag", has_text=re.compile(f"^{name}$"))


def expect_completed(page: Page) -> None:
    """Wait for the page of a broadcast, and its end: its dry run's end is on the page before."""
    expect(page.get_by_role("heading", name="Broadcast", level=1)).to_be_visible()
    expect(state(page, "Completed")).to_be_visible(timeout=30_000)


def test_a_dry_run_says_who_would_get_what_and_who_nothing(form: Page) -> None:
    compose(form, [*PATIENTS, "p-text", "p-gone"])
    expect(form.get_by_text("7 patients. Named more than once, and counted once: p-text.")).to_be_visible()
    check_accessibility(form)
    shots(form, "bulk-start")

    for control in form.locator("textarea").all():
        expect(control).to_have_attribute("autocomplete", "off")

    start = try_it(form)

    expect(form.get_by_role("heading", name="Result of the dry run")).to_be_focused()
    expect(form.get_by_text("these counts may change when a patient’s details do")).to_be_visible()
    expect(form.get_by_text("This list counts 7 patients towards the day’s limit of broadcast texts.")).to_be_visible()
    expect(state(form, "Completed")).to_be_visible()
    rows = form.get_by_role("table", name="By channel").get_by_role("row")
    assert [row.replace("\t", " ") for row in rows.all_inner_texts()] == [
        "Outcome Patients Share",
        "Would be texted 3 42.9 %",
        "Would be called 2 28.6 %",
        "Would be emailed 0 0 %",
        "Would get nothing 1 14.3 %",
        "Refused: no such patient, or no good row 1 14.3 %",
    ]
    widths = [box["width"] for each in form.locator(".bulk-bar > *").all() if (box := each.bounding_box())]
    assert len(widths) == 4
    assert widths[0] / widths[2] == pytest.approx(3, rel=0.02)
    reasons = form.get_by_role("table", name="By reason")
    expect(reasons.get_by_role("row", name="No valid phone on file 1 14.3 %")).to_be_visible()
    nothing = form.get_by_role("region", name="Who gets nothing")
    expect(nothing.get_by_role("row").filter(has_text="p-email")).to_contain_text("No valid phone is on file: add one")
    expect(nothing.get_by_role("row").filter(has_text="p-gone")).to_contain_text("no such patient")
    expect(nothing.get_by_role("link", name="p-email")).to_have_attribute("href", "#/practices/demo/patients/p-email")
    expect(nothing.get_by_role("link", name="p-gone")).to_have_count(0)
    expect(start).to_be_enabled()
    check_accessibility(form)
    shots(form, "bulk-dry-run")


def test_a_broadcast_runs_to_its_end_after_its_dry_run_and_its_page_opens_again(form: Page) -> None:
    compose(form)
    try_it(form).click()
    asked = form.get_by_role("dialog", name="Start this broadcast?")
    expect(asked.get_by_role("definition")).to_have_text(["3", "2", "0", "1", "now"])
    check_accessibility(form)
    asked.get_by_role("button", name="Not now").click()
    expect(form.get_by_role("button", name="Start the broadcast")).to_be_focused()
    form.get_by_role("button", name="Start the broadcast").click()

    asked.get_by_role("button", name="Send to 5 patients").click()

    expect_completed(form)
    expect(form.get_by_role("status")).to_contain_text("Completed.")
    expect(form.get_by_text("6 of 6 patients")).to_be_visible()
    expect(form.get_by_role("progressbar", name="Progress")).to_have_js_property("position", 1)
    for name, number in {"Sent": "5", "Failed": "0", "Unknown": "0", "Withdrawn": "0", "Get nothing": "1"}.items():
        expect(count(form, name)).to_have_text(number)
    expect(form.get_by_role("region", name="Who gets nothing").get_by_role("link", name="p-email")).to_be_visible()
    expect(form.get_by_role("button", name=re.compile("Pause|Resume|Cancel"))).to_have_count(0)
    check_accessibility(form)
    shots(form, "bulk-progress")

    address = form.url
    assert not any(patient_id in address for patient_id in PATIENTS)
    form.goto("/")
    form.goto(address)
    sign_in(form)
    expect(state(form, "Completed")).to_be_visible()


def test_what_the_practice_sends_itself_is_handed_over(page: Page, own_sending: None) -> None:
    page.goto(START)
    sign_in(page)
    expect(page.get_by_text("This practice sends its messages itself")).to_be_visible()
    compose(page, ["p-text", "p-landline"])
    try_it(page).click()
    page.get_by_role("button", name="Send to 2 patients").click()

    expect_completed(page)
    expect(count(page, "Handed over")).to_have_text("2")
    expect(count(page, "Sent")).to_have_text("0")


def test_an_answer_that_is_lost_never_starts_it_twice_whatever_comes_after_it(form: Page, watch: Watch) -> None:
    watch.expects("net::ERR_FAILED", 403)
    compose(form, ["p-text"])
    start = try_it(form)
    keys: list[str] = []
    begun: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        begun.append(route.fetch().json()["id"])
        route.abort()

    def forbid(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.fulfill(status=403, json={"message": "Forbidden"})

    form.route(STARTED, lose, times=1)
    start.click()
    asked = form.get_by_role("dialog")
    asked.get_by_role("button", name="Send to 1 patient").click()
    expect(asked.get_by_role("alert")).to_contain_text("did not answer")
    asked.get_by_role("button", name="Not now").click()
    expect(form.get_by_text("It is not known whether this was started")).to_be_visible()
    expect(form.get_by_label("Text message")).to_be_disabled()
    check_accessibility(form)
    form.get_by_role("link", name="Find a patient").click()
    expect(asked).to_contain_text("It may have been started already.")
    expect(asked).not_to_contain_text("will be lost")
    asked.get_by_role("button", name="Stay here").click()

    # What refuses before the start is looked for does not know of it.
    form.route(STARTED, forbid, times=1)
    start.click()
    asked.get_by_role("button", name="Send to 1 patient").click()
    expect(asked.get_by_role("alert")).to_be_visible()
    asked.get_by_role("button", name="Not now").click()
    expect(form.get_by_text("It is not known whether this was started")).to_be_visible()
    expect(form.get_by_label("Text message")).to_be_disabled()
    expect(form.get_by_role("button", name="Dry run first")).to_be_disabled()

    start.click()
    with form.expect_request(lambda each: bool(STARTED.search(each.url))) as again:
        asked.get_by_role("button", name="Send to 1 patient").click()

    expect_completed(form)
    assert [*keys, again.value.headers["idempotency-key"]] == [keys[0]] * 3
    assert form.url.endswith(f"/broadcasts/{begun[0]}")
    expect(count(form, "Sent")).to_have_text("1")


def test_only_an_answer_that_knows_lets_what_is_composed_be_changed_after_one_was_lost(
    form: Page, watch: Watch, few_texts: None
) -> None:
    watch.expects("net::ERR_FAILED", 409, 413)
    compose(form, ["p-text", "p-text-email", "p-landline"])
    start = try_it(form)
    asked = form.get_by_role("dialog")

    form.route(STARTED, lambda route: route.fulfill(status=413, json={"message": "Too long"}), times=1)
    form.route(STARTED, lambda route: route.abort(), times=1)
    for _ in range(2):
        start.click()
        asked.get_by_role("button", name="Send to 3 patients").click()
        expect(asked.get_by_role("alert")).to_be_visible()
        asked.get_by_role("button", name="Not now").click()
        expect(form.get_by_label("Text message")).to_be_disabled()

    start.click()
    asked.get_by_role("button", name="Send to 3 patients").click()
    expect(asked.get_by_role("alert")).to_contain_text(re.compile(r"texts by broadcasts \d are left: choose fewer"))
    asked.get_by_role("button", name="Not now").click()
    expect(form.get_by_label("Text message")).to_be_enabled()
    expect(form.get_by_text("It is not known whether this was started")).to_have_count(0)
    expect(form.get_by_label("Patient IDs")).to_have_value("p-text\np-text-email\np-landline")


def test_what_was_changed_since_its_dry_run_is_tried_again_first(form: Page) -> None:
    compose(form, ["p-text"])
    start = try_it(form)

    form.get_by_label("Text message").fill("We are closed tomorrow.")

    expect(form.get_by_text("The form has changed since this dry run.")).to_be_visible()
    expect(start).to_be_disabled()
    form.get_by_label("Text message").fill("We are closed today.")
    expect(start).to_be_enabled()


def test_a_campaign_is_paused_resumed_and_cancelled(form: Page, uploaded: str) -> None:
    form.get_by_label("From an uploaded list (a campaign)").check()
    form.get_by_label("Uploaded list", exact=True).fill(uploaded)
    form.get_by_label("Name", exact=True).fill("Flu shots")
    form.get_by_label("Text message").fill("Hi $first_name, flu shots are here.")
    form.get_by_label("Start", exact=True).fill(in_days(form, 3))
    expect(form.get_by_text(re.compile("That is .* 9:00 AM P[SD]T"))).to_be_visible()
    form.get_by_label("Send before", exact=True).fill(in_days(form, 4))
    try_it(form).click()
    asked = form.get_by_role("dialog", name="Start this campaign?")
    expect(asked).to_contain_text("What has not gone out is not sent after")
    asked.get_by_role("button", name="Send to 3 patients").click()
    expect(form.get_by_role("heading", name="Campaign", level=1)).to_be_visible()
    expect(state(form, "Waiting")).to_be_visible()
    expect(form.locator("dt", has_text=re.compile("^Start$")).locator("+ dd")).to_contain_text("9:00 AM")

    form.get_by_role("button", name="Pause").click()
    expect(state(form, "Paused")).to_be_visible()
    expect(form.get_by_role("status")).to_have_text("Paused. Nobody else gets a message until it is resumed.")
    expect(form.get_by_role("button", name="Resume")).to_be_focused()
    check_accessibility(form)
    shots(form, "bulk-paused")

    form.get_by_role("button", name="Resume").click()
    expect(state(form, "Waiting")).to_be_visible()
    expect(form.get_by_role("status")).to_have_text("Resumed. Nobody gets a second message.")
    expect(form.get_by_role("button", name="Pause")).to_be_focused()

    form.get_by_role("button", name="Cancel").click()
    asked = form.get_by_role("dialog", name="Cancel it for good?")
    expect(asked).to_contain_text("What has been sent stays sent.")
    asked.get_by_role("button", name="Keep it").click()
    expect(state(form, "Waiting")).to_be_visible()
    form.get_by_role("button", name="Cancel").click()
    asked.get_by_role("button", name="Cancel it").click()
    expect(state(form, "Cancelled")).to_be_visible()
    expect(form.get_by_role("status")).to_have_text("Cancelled. Nobody else gets a message.")
    expect(form.get_by_role("heading", name="Flu shots")).to_be_focused()
    expect(form.get_by_role("button", name=re.compile("Pause|Resume|Cancel"))).to_have_count(0)


def in_days(page: Page, days: int) -> str:
    """Give nine in the morning of a day to come, as it is typed."""
    day: str = page.evaluate("days => new Date(Date.now() + days * 86400000).toISOString().slice(0, 10)", days)
    return f"{day}T09:00"


def test_what_cannot_be_done_any_more_and_what_cannot_be_read_is_said(
    form: Page, watch: Watch, stack: LocalStack
) -> None:
    watch.expects(409, "net::ERR_FAILED")
    begin_later(form)
    form.route(ONE, lambda route: route.abort())
    expect(form.get_by_role("alert").filter(has_text="did not answer")).to_be_visible()
    request(stack, "POST", f"/broadcasts/{form.url.rpartition('/')[2]}/cancel")

    form.get_by_role("button", name="Pause").click()

    expect(form.get_by_role("alert").filter(has_text="there is nothing to pause")).to_be_visible()
    form.unroute(ONE)
    form.get_by_role("button", name="Try again").click()
    expect(state(form, "Cancelled")).to_be_visible()
    expect(form.get_by_role("alert").filter(has_text="did not answer")).to_have_count(0)


def begin_later(page: Page) -> None:
    """Start a broadcast that waits for its time."""
    compose(page, ["p-text"])
    page.get_by_label("Start", exact=True).fill(in_days(page, 3))
    try_it(page).click()
    page.get_by_role("button", name="Send to 1 patient").click()
    expect(state(page, "Waiting")).to_be_visible()


def look(page: Page, *, away: bool) -> None:
    """Look at another tab, or at this one again."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        away,
    )


def test_it_is_not_asked_for_while_nobody_looks_nor_when_it_is_left(form: Page) -> None:
    begin_later(form)
    asked: list[str] = []
    form.on("request", lambda each: asked.append(each.url) if is_poll(each) else None)
    with form.expect_request(is_poll):
        pass

    form.clock.install()
    look(form, away=True)
    asked.clear()
    form.clock.run_for(120_000)
    assert asked == []
    with form.expect_request(is_poll):
        look(form, away=False)
    form.get_by_role("link", name="Truth table").click()
    expect(form.get_by_role("heading", name="Truth table")).to_be_visible()
    asked.clear()
    form.clock.run_for(120_000)
    assert asked == []


def is_poll(request: Request) -> bool:
    """Say whether it asks how far one has come."""
    return bool(ONE.search(request.url))


def test_the_list_of_who_gets_nothing_is_shown_page_by_page_and_saved_as_one_file(
    narrow: None, form: Page, tmp_path: Path
) -> None:
    nobody = [f"nobody-{n:04}" for n in range(2_100)]
    compose(form, [", ".join(["p-text", *nobody])])
    try_it(form).click()
    asked = form.get_by_role("dialog")
    expect(asked).to_contain_text("This list counts 2,101 patients towards the day’s limit of broadcast texts.")
    expect(asked.get_by_role("definition").nth(3)).to_have_text("2,100, of them 2,100 rows that were not accepted")
    asked.get_by_role("button", name="Not now").click()
    channels = form.get_by_role("table", name="By channel")
    expect(channels.get_by_role("row", name="Would be texted 1 < 0.1 %")).to_be_visible()
    expect(channels.get_by_role("row", name="Would be called 0 0 %")).to_be_visible()
    nothing = form.get_by_role("region", name="Who gets nothing")
    expect(nothing.get_by_role("rowheader")).to_have_count(50)
    assert nothing.evaluate("region => region.scrollWidth <= region.clientWidth")
    lefts = nothing.get_by_role("row").first.evaluate(
        "row => [...row.cells].map(cell => cell.getBoundingClientRect().left)"
    )
    assert len(lefts) == 3
    assert len(set(lefts)) == 1
    expect(nothing.get_by_role("cell").get_by_text("What would help", exact=True).first).to_be_visible()
    check_accessibility(form)
    shots(form, "bulk-missed")

    form.get_by_role("button", name="Show more").click()

    expect(nothing.get_by_role("rowheader")).to_have_count(100)
    # The header, of which nothing is seen where rows are stacked, is no row here.
    expect(nothing.get_by_role("row").nth(50)).to_be_focused()
    with form.expect_download() as download:
        form.get_by_role("button", name="Download as CSV").click()
    download.value.save_as(tmp_path / "unreachable.csv")
    lines = (tmp_path / "unreachable.csv").read_text().splitlines()
    assert lines[0].startswith("row,patient_id,outcome")
    assert [line.split(",")[1] for line in lines[1:]] == nobody
    assert re.fullmatch(r"unreachable-[0-9a-f-]{36}\.csv", download.value.suggested_filename)
    expect(form.get_by_role("status")).to_have_text("The list is downloaded.")


def test_what_is_missing_or_wrong_is_said_where_it_is(form: Page, watch: Watch) -> None:
    watch.expects(422)
    dry_run = form.get_by_role("button", name="Dry run first")
    dry_run.click()
    expect(form.get_by_label("Patient IDs")).to_be_focused()
    for missing in ("Type or paste at least one patient ID.", "Give it a name.", "Write at least one of text, call"):
        expect(form.get_by_text(missing)).to_be_visible()
    check_accessibility(form)

    compose(form, ["p-text", "p 1/2"], text="Hi $first_name")
    form.get_by_label("Email", exact=True).fill("Closed")
    form.get_by_label("Start", exact=True).fill("2027-03-14T02:30")
    dry_run.click()
    expect(form.get_by_text("This is no patient ID: 1/2.")).to_be_visible()
    expect(form.get_by_text("An email needs a subject.")).to_be_visible()
    expect(form.get_by_text("There is no such time.")).to_be_visible()

    form.get_by_label("Patient IDs").fill(", ".join(f"p-{n}" for n in range(3001)))
    form.get_by_label("Email", exact=True).fill("")
    form.get_by_label("Start", exact=True).fill("")
    dry_run.click()
    expect(form.get_by_text("These are 3,001 patients, and a broadcast goes to 3,000 at most.")).to_be_visible()

    form.get_by_label("Patient IDs").fill("p-text")
    dry_run.click()
    expect(form.get_by_text("All patients get the same words here, so take out $first_name")).to_be_visible()
    expect(form.get_by_label("Text message")).to_be_focused()
    expect(form.get_by_label("Text message")).to_have_value("Hi $first_name")

    form.get_by_label("From an uploaded list (a campaign)").check()
    form.get_by_label("Uploaded list", exact=True).fill("lists/demo/none.csv")
    dry_run.click()
    expect(form.get_by_label("Uploaded list", exact=True)).to_be_focused()
    expect(form.get_by_text("Not accepted:")).to_be_visible()


def test_whoever_is_not_signed_in_any_more_is_asked_and_it_starts(form: Page, watch: Watch, stack: LocalStack) -> None:
    watch.expects(401)
    compose(form, ["p-text"])
    start = try_it(form)
    expired = stack.tokens.issue("staff-local", ["demo"], "messages/send", lifetime=-1)

    def expire(route: Route) -> None:
        route.continue_(headers={**route.request.headers, "authorization": f"Bearer {expired}"})

    form.route(STARTED, expire, times=1)
    start.click()
    form.get_by_role("button", name="Send to 1 patient").click()

    sign_in_again(form)

    expect_completed(form)


def test_whoever_may_not_send_is_told_so_at_once(cold: Page) -> None:
    cold.context.route(
        "**/local/authorize?*",
        lambda route: route.continue_(
            url=route.request.url.replace("messages%2Fsend", "").replace("messages/send", "")
        ),
    )
    cold.goto(START)
    sign_in(cold)

    expect(cold.get_by_text("Your account may not send messages")).to_be_visible()
    expect(cold.get_by_role("button", name="Dry run first")).to_have_count(0)
    check_accessibility(cold)


def test_what_is_typed_is_not_lost_without_a_question(form: Page) -> None:
    compose(form)
    form.get_by_role("link", name="Find a patient").click()
    form.get_by_role("dialog", name="Leave without saving?").get_by_role("button", name="Stay here").click()
    expect(form.get_by_label("Patient IDs")).to_have_value("\n".join(PATIENTS))


def test_one_is_opened_by_its_kind_and_id(form: Page, watch: Watch) -> None:
    watch.expects(404)
    compose(form, ["p-text"])
    try_it(form)
    dry_run = form.locator("code").inner_text()
    form.get_by_text("Open an earlier broadcast, campaign or dry run").click()
    form.get_by_role("button", name="Open", exact=True).click()
    expect(form.get_by_text("This is no such ID.")).to_be_visible()
    form.get_by_label("What it is").select_option("Dry run")
    form.get_by_label("ID", exact=True).fill(f" {dry_run} ")
    form.get_by_role("button", name="Open", exact=True).click()
    form.get_by_role("dialog").get_by_role("button", name="Leave").click()

    expect(form.get_by_role("heading", name="Dry run", level=1)).to_be_visible()
    expect(form.get_by_role("table", name="By channel")).to_be_visible()
    check_accessibility(form)
    form.goto("/#/practices/demo/bulk/campaigns/none")
    expect(form.get_by_role("alert").filter(has_text="not here")).to_be_visible()
    form.goto("/#/practices/demo/bulk/automations/none")
    expect(form.get_by_role("alert").filter(has_text="not here")).to_be_visible()


def test_the_keyboard_alone_is_enough(form: Page) -> None:
    keys = form.keyboard
    form.get_by_label("Patient IDs").focus()
    keys.type("p-text")
    keys.press("Tab")
    keys.type("Closed today")
    keys.press("Tab")
    keys.press("Tab")
    keys.type("We are closed today.")
    form.get_by_label("Name", exact=True).focus()
    keys.press("Enter")
    start = form.get_by_role("button", name="Start the broadcast")
    expect(start).to_be_visible(timeout=20_000)
    expect(form.get_by_role("heading", name="Result of the dry run")).to_be_focused()
    keys.press("Tab")
    expect(start).to_be_focused()
    keys.press("Enter")
    expect(form.get_by_role("dialog")).to_be_visible()
    keys.press("Tab")
    keys.press("Enter")
    expect_completed(form)
