"""A patient's history in a browser: changes and decisions together, each decision told, and unknown sends resolved."""

import contextlib
import http.client
import json
import re
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.harness import Watch, check_accessibility, shots, sign_in
from tests.local import sms
from tests.local.stack import LocalStack

pytestmark = pytest.mark.desk

PRACTICE = "shore"
TEXTED, CALLED = "+15035550171", "+15035550172"
SCOPES = "practice/read practice/admin contact-info/write preferences/read preferences/write messages/send"
SENDER = "clinic@demo.example.org"
FINAL = {"suppressed", "handed_over", "sent", "failed", "unknown", "withdrawn"}


def call(stack: LocalStack, method: str, path: str, body: object = None, **headers: str) -> Any:
    """Ask the API as staff do; a message that is blocked is answered, too."""
    connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
    token = stack.token("staff-7", [PRACTICE], SCOPES)
    given = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, f"/v1/practices/{PRACTICE}{path}", None if body is None else json.dumps(body), given)
        answer = connection.getresponse()
        answered = json.loads(answer.read())
    assert answer.status in (200, 202, 409), (method, path, answer.status, answered)
    return answered


def put_patient(stack: LocalStack, patient_id: str, *numbers: str, emails: tuple[str, ...] = ()) -> None:
    phones = [{"number": number, "line_type": "text_enabled"} for number in numbers]
    body = {"phones": phones, "emails": [{"address": each} for each in emails]}
    call(stack, "PUT", f"/patients/{patient_id}/contact-info", body)


def write(stack: LocalStack, patient_id: str, key: str, **message: str) -> None:
    """Write a manual message, a text unless it says otherwise."""
    body = {"channel": "text", "body": "Please call us.", **message}
    call(stack, "POST", f"/patients/{patient_id}/messages", body, idempotency_key=key)


def trigger(stack: LocalStack, patient_id: str, occurrence_id: str) -> None:
    detail = {
        "version": 1,
        "practice_id": PRACTICE,
        "patient_id": patient_id,
        "automation_id": "reminder",
        "occurrence_id": occurrence_id,
        "context": {},
    }
    entry = {
        "EventBusName": stack.resources["EventBus"],
        "Source": "patient-contact.automations",
        "DetailType": "AutomationTriggered",
        "Detail": json.dumps(detail),
    }
    assert stack.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def decisions(stack: LocalStack, patient_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(stack, "GET", f"/patients/{patient_id}/decisions")["items"]
    return found


def settled(
    stack: LocalStack, patient_id: str, count: int, holds: Callable[[dict[str, Any]], bool] | None = None
) -> None:
    """Wait until a patient has so many decisions, all at their end."""

    def all_ended() -> bool:
        found = decisions(stack, patient_id)
        ended = all(each["state"] in FINAL and (holds is None or holds(each)) for each in found)
        return len(found) == count and ended

    stack.wait_until(all_ended)


def accepted(stack: LocalStack, number: str) -> int:
    with urllib.request.urlopen(f"{stack.sms_url}/accepted") as answer:
        return sum(each["destination"] == number for each in json.load(answer))


@pytest.fixture(scope="module", autouse=True)
def shore(stack: LocalStack) -> None:
    """A practice with two lines, the second of which cannot email, and an automation; its own messages are sent."""
    lines = [
        {"id": "main", "name": "Main", "phone_number": "+15035559070", "email_sender": SENDER},
        {"id": "billing", "name": "Billing", "phone_number": "+15035559071"},
    ]
    practice = {"name": "Shore Clinic", "time_zone": "America/New_York", "default_country": "US", "lines": lines}
    call(stack, "PUT", "", {**practice, "default_line": "main", "sending": True})
    messages = {
        "text": {"body": "See you on Monday."},
        "call": {"body": "See you on Monday."},
        "email": {"subject": "Your appointment", "body": "See you on Monday."},
    }
    call(stack, "PUT", "/automations/reminder", {"name": "Reminder", "line": "main", "messages": messages})


@pytest.fixture(scope="module")
def every_outcome(stack: LocalStack, shore: None) -> str:
    """A patient of whom there is a change of each kind, and a decision of each outcome but unknown."""
    patient = "p-every"
    where = f"/patients/{patient}"
    put_patient(stack, patient, TEXTED, emails=("pat@example.org",))
    phones = [{"number": TEXTED, "line_type": "text_enabled"}, {"number": CALLED, "line_type": "landline"}]
    call(stack, "PUT", f"{where}/contact-info", {"phones": phones, "emails": [{"address": "sam@example.org"}]})
    trigger(stack, patient, "sent")
    settled(stack, patient, 1, lambda each: each.get("delivery", {}).get("status") == "delivered")
    call(stack, "PUT", f"{where}/preferred-contact", {"phone_number": CALLED})
    trigger(stack, patient, "called")
    settled(stack, patient, 2)
    write(stack, patient, "landline")
    write(stack, patient, "no-sender", channel="email", subject="Your visit", line="billing")
    settled(stack, patient, 4)
    call(stack, "PUT", f"{where}/do-not-contact", {"enabled": True, "note": "Asked at the desk"})
    trigger(stack, patient, "stopped")
    settled(stack, patient, 5)
    return patient


def open_history(page: Page, patient_id: str) -> Locator:
    """Sign in, and show a patient's history."""
    page.goto(f"/#/practices/{PRACTICE}/patients/{patient_id}")
    sign_in(page)
    return show_history(page)


def show_history(page: Page) -> Locator:
    page.get_by_role("button", name="History", exact=True).click()
    history = page.locator("section.history")
    expect(history.get_by_role("heading", name="History and messages")).to_be_visible()
    return history


def entries(history: Locator) -> Locator:
    return history.locator("ol.events > li")


def open_decision(history: Locator, name: str, state: str) -> Locator:
    expect(entries(history)).not_to_have_count(0)
    # By its place, which stays when what it says changes.
    texts = entries(history).all_inner_texts()
    (place,) = (place for place, text in enumerate(texts) if name in text and state in text)
    item = entries(history).nth(place)
    item.locator("summary").first.click()
    expect(item.get_by_role("heading", name="How it was decided")).to_be_visible()
    return item


def test_changes_and_messages_are_told_together_newest_first(page: Page, every_outcome: str) -> None:
    history = open_history(page, every_outcome)

    expect(entries(history)).to_have_count(9)
    told = [re.sub(r"\s+", " ", each) for each in entries(history).all_inner_texts()]
    expected = [
        ("NONE", "Automation reminder", "Not sent"),
        ("Do Not Contact by staff-7", "Off → On", "Note: Asked at the desk"),
        ("EMAIL", "Message written by staff", "Failed"),
        ("NONE", "Message written by staff", "Not sent"),
        ("CALL", "Automation reminder", "Sent"),
        ("Preferred contact by staff-7", "Not set → +1 503‑555‑0172"),
        ("TEXT", "Automation reminder", "Sent", "Delivered"),
        (
            "Contact info by staff-7",
            "Added: +1 503‑555‑0172, landline",
            "Removed: pat@example.org",
            "Added: sam@example.org",
        ),
        ("Contact info by staff-7", "Added: +1 503‑555‑0171, can be texted", "Added: pat@example.org"),
    ]
    for text, parts in zip(told, expected, strict=True):
        assert all(part in text for part in parts), (text, parts)
    assert all(re.search(r"\d{4}, \d{1,2}:\d\d [AP]M E[SD]T", text) for text in told)
    check_accessibility(page)
    shots(page, "history")


def test_a_message_that_was_sent_opens_to_how_it_was_decided_and_what_happened(page: Page, every_outcome: str) -> None:
    item = open_decision(open_history(page, every_outcome), "TEXT", "Delivered")

    expect(item.get_by_text("Texted: +1 503-555-0171 can be texted on line main.")).to_be_visible()
    expect(item.locator(".steps li")).to_have_text(
        [
            "The automation may go on: Do Not Contact is off.",
            "A text, since +1 503‑555‑0171 can be texted on line Main. This decided",
        ]
    )
    seen = item.locator("dl.facts").last
    expect(seen).to_contain_text("+1 503‑555‑0172, landline")
    expect(seen).to_contain_text("sam@example.org")
    expect(seen).to_contain_text("Opted in: nothing else was recorded")
    expect(item.get_by_text("The standard rules: no exception was switched on.")).to_be_visible()
    expect(item.locator(".life li")).to_contain_text(
        [
            "Decided, and waiting to be sent.",
            "Given to the provider, as a text.",
            "The provider accepted it.",
            "Receipt: it was delivered (TEXT_DELIVERED).",
        ]
    )
    check_accessibility(page)
    shots(page, "history-decision")
    page.set_viewport_size({"width": 320, "height": 640})
    assert item.evaluate("(element) => element.scrollWidth <= element.clientWidth")


def test_each_outcome_says_why(page: Page, every_outcome: str) -> None:
    history = open_history(page, every_outcome)
    chosen = "The text that staff chose cannot go out: +1 503‑555‑0172 is a landline"
    for name, state, sentences in (
        ("CALL", "Sent", ["No text: +1 503‑555‑0172 is a landline", "A call, since +1 503‑555‑0172 is a landline"]),
        ("Automation", "Not sent", ["The automation was stopped: Do Not Contact is on", "Nothing was sent."]),
        ("Message written", "Not sent", [chosen, "No rule let the message go out"]),
        ("EMAIL", "Failed", ["The email can go out: staff chose it", "refused it for good (NO_EMAIL_SENDER)"]),
    ):
        item = open_decision(history, name, state)
        for sentence in sentences:
            expect(item).to_contain_text(sentence)


def test_a_message_that_was_decided_otherwise_right_before_sending_tells_the_decision_before(
    page: Page, stack: LocalStack
) -> None:
    put_patient(stack, "p-again", sms.OPTED_OUT_AT_CARRIER)
    put_patient(stack, "p-gone", sms.NOT_A_NUMBER)
    trigger(stack, "p-again", "visit")
    trigger(stack, "p-gone", "visit")
    settled(stack, "p-again", 1)
    settled(stack, "p-gone", 1)

    history = open_history(page, "p-again")
    item = open_decision(history, "CALL", "Sent")
    expect(item).to_contain_text("The provider refused it for now (DESTINATION_PHONE_NUMBER_OPTED_OUT).")
    expect(item.get_by_text("Texted:")).to_be_hidden()
    item.get_by_text("It was decided otherwise before").click()
    expect(item.get_by_text("Texted: +1 206-555-0120 can be texted on line main.")).to_be_visible()
    check_accessibility(page)

    page.goto(f"/#/practices/{PRACTICE}/patients/p-gone")
    expect(page.get_by_role("heading", name="p-gone")).to_be_visible()
    item = open_decision(show_history(page), "NONE", "Withdrawn")
    expect(item).to_contain_text("Not sent any more: no valid phone is on file.")


def test_the_list_is_filtered_by_kind_and_by_class(page: Page, every_outcome: str) -> None:
    history = open_history(page, every_outcome)
    show = history.get_by_label("Show")

    for kind, count in (("Changes", 4), ("All messages", 5), ("Automations", 3), ("Messages written", 2)):
        show.select_option(label=next(each for each in show.locator("option").all_inner_texts() if kind in each))
        expect(entries(history)).to_have_count(count)
    show.select_option(label="Broadcasts")
    expect(history).to_contain_text("There is no message of a broadcast yet.")
    show.select_option(label="Everything")
    expect(entries(history)).to_have_count(9)


def test_more_is_shown_in_the_order_of_time_across_pages_of_both_lists(page: Page, stack: LocalStack) -> None:
    patient = "p-many"
    put_patient(stack, patient, TEXTED)
    # Uneven, so that each list is ahead of the other for longer than a page of it.
    for rounds, (changed, wrote) in enumerate([(7, 2), (1, 8), (8, 1), (2, 6)]):
        for each in range(changed):
            enabled = (rounds + each) % 2 == 0
            call(stack, "PUT", f"/patients/{patient}/do-not-contact", {"enabled": enabled, "note": f"{rounds}.{each}"})
        for each in range(wrote):
            write(stack, patient, f"{rounds}-{each}", phone_number=TEXTED)
    asked: list[str] = []

    def shorter(route: Route) -> None:
        asked.append(urlsplit(route.request.url).path.rpartition("/")[2])
        route.continue_(url=route.request.url.replace("limit=50", "limit=4"))

    page.route(re.compile(r"limit=50"), shorter)
    history = open_history(page, patient)
    expect(entries(history)).to_have_count(25)
    first = entries(history).locator("time").evaluate_all("all => all.map((each) => each.dateTime)")
    history.get_by_role("button", name="Show more").click()

    changes = call(stack, "GET", f"/patients/{patient}/changes")["items"]
    times = [each["at"] for each in changes] + [each["decided_at"] for each in decisions(stack, patient)]
    expect(entries(history)).to_have_count(len(times))
    shown = entries(history).locator("time").evaluate_all("all => all.map((each) => each.dateTime)")
    assert shown == sorted(times, reverse=True)
    assert first == shown[:25]
    assert min(asked.count("changes"), asked.count("decisions")) > 3
    expect(history.get_by_role("button", name="Show more")).to_have_count(0)
    expect(entries(history).nth(25)).to_be_focused()


def test_what_fails_while_more_is_loaded_is_tried_again_and_nothing_is_lost_or_shown_twice(
    page: Page, watch: Watch, every_outcome: str
) -> None:
    watch.expects("net::ERR_FAILED")
    failing = {"changes"}

    def fail(route: Route) -> None:
        if failing and "cursor" in route.request.url:
            failing.clear()
            route.abort()
        else:
            route.continue_(url=route.request.url.replace("limit=50", "limit=2"))

    page.route(re.compile(r"limit=50"), fail)
    history = open_history(page, every_outcome)
    expect(history.get_by_role("alert")).to_contain_text("The service did not answer.")
    check_accessibility(page)
    history.get_by_role("button", name="Try again").click()

    expect(entries(history)).to_have_count(9)
    expect(history.get_by_role("alert")).to_have_count(0)


@pytest.fixture
def unknown(stack: LocalStack, shore: None, request: pytest.FixtureRequest) -> str:
    """A patient with a text of which nobody knows whether it was sent; another one for each test."""
    patient = str(request.node.name)[:60].strip("_")
    put_patient(stack, patient, sms.ANSWER_IS_LOST)
    write(stack, patient, "lost")
    settled(stack, patient, 1)
    return patient


def test_staff_say_that_an_unknown_message_was_sent(page: Page, stack: LocalStack, unknown: str) -> None:
    before = accepted(stack, sms.ANSWER_IS_LOST)
    item = open_decision(open_history(page, unknown), "Message written", "Not known if sent")
    expect(item).to_contain_text("The provider did not say whether it accepted the message")
    check_accessibility(page)
    shots(page, "history-unknown")

    item.get_by_role("button", name="It was sent").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing more is sent to the patient.")
    check_accessibility(page)
    shots(page, "history-resolve")
    dialog.get_by_label("Note").fill("The patient has it")
    dialog.get_by_role("button", name="Mark as sent").click()

    expect(item.locator("summary").first).to_contain_text("Sent")
    expect(item).to_contain_text("staff-local said that it had been sent. Note: The patient has it")
    expect(item.locator("summary").first).to_be_focused()
    assert accepted(stack, sms.ANSWER_IS_LOST) == before


def test_staff_say_that_an_unknown_message_was_not_sent_and_it_is_sent_again(
    page: Page, stack: LocalStack, unknown: str
) -> None:
    before = accepted(stack, sms.ANSWER_IS_LOST)
    item = open_decision(open_history(page, unknown), "Message written", "Not known if sent")

    item.get_by_role("button", name="It was not sent").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The message is sent again")
    dialog.get_by_role("button", name="Cancel").click()
    assert accepted(stack, sms.ANSWER_IS_LOST) == before
    item.get_by_role("button", name="It was not sent").click()
    dialog.get_by_role("button", name="Send again").click()

    expect(item).to_contain_text("staff-local said that it had not been sent: it is sent again.")
    stack.wait_until(lambda: accepted(stack, sms.ANSWER_IS_LOST) == before + 1)


def test_who_resolves_what_somebody_else_has_resolved_meanwhile_sees_that(
    page: Page, watch: Watch, stack: LocalStack, unknown: str
) -> None:
    watch.expects(409)
    item = open_decision(open_history(page, unknown), "Message written", "Not known if sent")
    item.get_by_role("button", name="It was not sent").click()
    call(stack, "POST", f"/patients/{unknown}/decisions/manual:lost/resolve", {"outcome": "sent"})
    before = accepted(stack, sms.ANSWER_IS_LOST)

    page.get_by_role("dialog").get_by_role("button", name="Send again").click()

    expect(page.locator("#polite")).to_have_text(re.compile("Nothing was changed"))
    expect(item).to_contain_text("staff-7 said that it had been sent.")
    assert accepted(stack, sms.ANSWER_IS_LOST) == before


def test_the_history_is_used_with_the_keyboard_alone(page: Page, every_outcome: str) -> None:
    history = open_history(page, every_outcome)
    expect(entries(history)).to_have_count(9)

    history.get_by_label("Show").focus()
    page.keyboard.press("Tab")
    first = entries(history).first
    expect(first.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    expect(first).to_contain_text("The automation was stopped")
    page.keyboard.press("Space")
    expect(first.get_by_role("heading", name="How it was decided")).to_be_hidden()


def test_the_history_is_loaded_again_when_a_preference_is_saved(page: Page, stack: LocalStack) -> None:
    put_patient(stack, "p-new", TEXTED)
    history = open_history(page, "p-new")
    expect(entries(history)).to_have_count(1)

    page.get_by_label("Do Not Contact").check()
    page.get_by_role("button", name="Save").click()

    expect(entries(history)).to_have_count(2)
    expect(entries(history).first).to_contain_text("Off → On")
