"""Staff write to one patient in a browser: what would happen, sending it once, and what becomes of it."""

import contextlib
import http.client
import json
import re
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.harness import Watch, check_accessibility, shots, sign_in, sign_in_again
from tests.local import sms
from tests.local.stack import LocalStack

pytestmark = pytest.mark.desk

SCOPES = "practice/read practice/admin contact-info/write preferences/read preferences/write messages/send"
MESSAGES = re.compile(r"/messages$")
CELL, LANDLINE = "+15035550181", "+15035550182"


def call(stack: LocalStack, method: str, path: str, body: object) -> Any:
    """Ask the API as staff do."""
    connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
    token = stack.token("staff-7", ["demo", "inland"], SCOPES)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    with contextlib.closing(connection):
        connection.request(method, f"/v1/practices/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        answered = json.loads(answer.read())
    assert answer.status == 200, (method, path, answer.status, answered)
    return answered


@pytest.fixture
def patient(stack: LocalStack, request: pytest.FixtureRequest) -> str:
    """A patient with a mobile phone, a landline and an email address; another one for each test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name)[5:40].strip("-")
    put_patient(stack, name, CELL)
    return name


def put_patient(stack: LocalStack, patient_id: str, number: str, practice_id: str = "demo") -> None:
    phones = [{"number": number, "line_type": "text_enabled"}, {"number": LANDLINE, "line_type": "landline"}]
    body = {"phones": phones, "emails": [{"address": "pat@example.org"}]}
    call(stack, "PUT", f"{practice_id}/patients/{patient_id}/contact-info", body)


def opt_out(stack: LocalStack, patient_id: str) -> None:
    body = {"phone_number": CELL, "line": "billing", "status": "opted_out"}
    call(stack, "PUT", f"demo/patients/{patient_id}/sms-consent", body)


def accepted(stack: LocalStack, patient_id: str) -> list[dict[str, Any]]:
    """Give what the provider has accepted for a patient."""
    with urllib.request.urlopen(f"{stack.sms_url}/accepted") as answer:
        return [each for each in json.load(answer) if each["context"].get("patient_id") == patient_id]


def compose(page: Page, patient_id: str, practice_id: str = "demo") -> Locator:
    """Sign in, and begin a message to a patient."""
    page.goto(f"/#/practices/{practice_id}/patients/{patient_id}")
    sign_in(page)
    page.get_by_role("button", name="Send a message").click()
    form = page.locator("section.message")
    expect(form.get_by_role("button", name="Send", exact=True)).to_be_visible()
    return form


def send(form: Locator) -> None:
    form.get_by_role("button", name="Send", exact=True).click()


def is_sent(form: Locator) -> None:
    expect(form.get_by_text("It was sent.")).to_be_visible(timeout=30_000)


def test_a_text_is_sent_and_followed_until_it_was(page: Page, stack: LocalStack, patient: str) -> None:
    form = compose(page, patient)
    expect(form.get_by_text("This can go out as a text to +1 503‑555‑0181, from line Main.")).to_be_visible()
    usual = form.get_by_label("To phone").locator("option").first
    expect(usual).to_have_text("+1 503‑555‑0181 (the usual phone: no preferred contact is in use)")
    form.get_by_label("Message", exact=True).fill("Please call us about your visit.")
    expect(form.get_by_text("1,568 characters left")).to_be_visible()
    check_accessibility(page)
    shots(page, "message")

    send(form)

    expect(form.get_by_role("heading", name="The message was taken")).to_be_focused()
    is_sent(form)
    expect(page.locator("#polite")).to_have_text("It was sent.")
    expect(form).to_contain_text("The provider accepted it.")
    check_accessibility(page)
    shots(page, "message-sent")
    page.set_viewport_size({"width": 320, "height": 640})
    assert form.evaluate("(element) => element.scrollWidth <= element.clientWidth")
    (text,) = accepted(stack, patient)
    assert (text["channel"], text["destination"], text["body"]) == ("text", CELL, "Please call us about your visit.")

    form.get_by_role("button", name="Write another message").click()
    expect(form.get_by_label("Message", exact=True)).to_have_value("")
    expect(form.get_by_role("radio", name="Text")).to_be_focused()


def test_what_would_happen_follows_channel_line_and_phone_but_no_key_stroke(
    page: Page, stack: LocalStack, patient: str
) -> None:
    opt_out(stack, patient)
    form = compose(page, patient)
    expect(form.get_by_text("This can go out as a text")).to_be_visible()
    asked: list[dict[str, Any]] = []

    def note(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "")["message"])
        route.continue_()

    page.route("**/routing/evaluate", note)
    form.get_by_label("Message", exact=True).press_sequentially("Hello")
    form.get_by_label("From line").select_option(label="Billing")
    expect(form).to_contain_text("Nothing sent: +1 503-555-0181 is opted out of texts on line billing.")
    check_accessibility(page)
    shots(page, "message-blocked")
    form.get_by_label("To phone").select_option(label="+1 503‑555‑0182 (CALL)")
    expect(form).to_contain_text("+1 503-555-0182 is a landline, which cannot be texted.")
    form.get_by_role("radio", name="Call").check()
    expect(form).to_contain_text("This can go out as a call to +1 503‑555‑0182, from line Billing.")
    form.get_by_role("radio", name="Email").check()
    expect(form).to_contain_text("This can go out as an email to pat@example.org, from line Billing.")

    assert asked == [
        {"class": "manual", "channels": ["text"], "line": "billing"},
        {"class": "manual", "channels": ["text"], "line": "billing", "phone_number": LANDLINE},
        {"class": "manual", "channels": ["call"], "line": "billing", "phone_number": LANDLINE},
        {"class": "manual", "channels": ["email"], "line": "billing"},
    ]


def test_an_email_and_a_call_go_out_as_they_were_written(page: Page, stack: LocalStack, patient: str) -> None:
    form = compose(page, patient)
    form.get_by_role("radio", name="Email").check()
    send(form)
    expect(form.get_by_label("Subject")).to_be_focused()
    expect(form.get_by_text("Type a subject.")).to_be_visible()
    expect(form.get_by_text("Type the message.")).to_be_visible()
    check_accessibility(page)
    form.get_by_label("Subject").fill("Your visit")
    form.get_by_label("Message", exact=True).fill("See you on Monday.")
    send(form)
    is_sent(form)

    form.get_by_role("button", name="Write another message").click()
    form.get_by_role("radio", name="Call").check()
    expect(form.get_by_label("Subject")).to_be_hidden()
    form.get_by_label("Message", exact=True).fill("See you on Tuesday.")
    form.get_by_label("To phone").select_option(label="+1 503‑555‑0182 (CALL)")
    send(form)
    is_sent(form)
    (called,) = accepted(stack, patient)
    assert (called["channel"], called["destination"], called["body"]) == ("call", LANDLINE, "See you on Tuesday.")


def test_a_message_that_is_too_long_is_said_to_be_and_stays(page: Page, stack: LocalStack, patient: str) -> None:
    form = compose(page, patient)
    body = form.get_by_label("Message", exact=True)
    body.fill("🙂" * 1_601)
    expect(form.get_by_text("1 character too many")).to_be_visible()
    send(form)
    expect(body).to_be_focused()
    expect(form.get_by_text("The message is too long. Shorten it.")).to_be_visible()
    form.get_by_role("radio", name="Email").check()
    expect(form.get_by_text("About 26,364 characters left")).to_be_visible()
    form.get_by_role("radio", name="Call").check()
    expect(form.get_by_text("4,399 characters left")).to_be_visible()
    assert accepted(stack, patient) == []


def test_a_blocked_message_says_why_and_keeps_the_text_for_another_try(
    page: Page, watch: Watch, stack: LocalStack, patient: str
) -> None:
    watch.expects(409)
    opt_out(stack, patient)
    form = compose(page, patient)
    form.get_by_label("From line").select_option(label="Billing")
    form.get_by_label("Message", exact=True).fill("Please call us.")
    send(form)

    blocked = form.get_by_role("group", name="The message was not sent")
    expect(blocked).to_be_focused()
    expect(blocked).to_contain_text("Nothing sent: +1 503-555-0181 is opted out of texts on line billing.")
    expect(form.get_by_label("Message", exact=True)).to_have_value("Please call us.")
    check_accessibility(page)
    shots(page, "message-not-sent")

    form.get_by_label("From line").select_option(label="Main")
    expect(blocked).to_have_count(0)
    send(form)
    is_sent(form)
    assert len(accepted(stack, patient)) == 1


def lose_first_answer(page: Page) -> list[str | None]:
    """Let the first message reach the service, and its answer be lost; give the keys of all tries."""
    keys: list[str | None] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        if len(keys) == 1:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route(MESSAGES, lose)
    return keys


def test_after_a_lost_answer_the_message_is_sent_again_and_goes_out_once(
    page: Page, watch: Watch, stack: LocalStack, patient: str
) -> None:
    watch.expects("net::ERR_FAILED")
    keys = lose_first_answer(page)
    form = compose(page, patient)
    form.get_by_label("Message", exact=True).fill("Please call us.")
    send(form)
    expect(form.get_by_text("It is not known whether the message was taken.")).to_be_visible()
    expect(form.get_by_label("Message", exact=True)).to_have_value("Please call us.")
    check_accessibility(page)
    shots(page, "message-lost")
    stay_after(page, "may have been sent already")

    send(form)
    is_sent(form)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(accepted(stack, patient)) == 1


def test_what_is_changed_after_a_lost_answer_is_only_sent_when_staff_say_so_again(
    page: Page, watch: Watch, stack: LocalStack, patient: str
) -> None:
    watch.expects("net::ERR_FAILED", 422)
    keys = lose_first_answer(page)
    form = compose(page, patient)
    form.get_by_label("Message", exact=True).fill("Please call us.")
    send(form)
    expect(form.get_by_text("It is not known whether the message was taken.")).to_be_visible()
    form.get_by_label("Message", exact=True).fill("Please call us today.")
    send(form)

    expect(form.get_by_text("The message had been taken already, as you had written it first.")).to_be_visible()
    is_sent(form)
    check_accessibility(page)
    assert [each["body"] for each in accepted(stack, patient)] == ["Please call us."]

    send(form)
    expect(form.get_by_role("heading", name="The message was taken")).to_be_visible()
    is_sent(form)
    assert [each["body"] for each in accepted(stack, patient)] == ["Please call us.", "Please call us today."]
    assert len(set(keys)) == 2


def test_who_has_to_sign_in_again_while_composing_loses_nothing(
    page: Page, watch: Watch, stack: LocalStack, patient: str
) -> None:
    watch.expects(401)
    form = compose(page, patient)
    form.get_by_label("Message", exact=True).fill("Please call us.")
    expired: list[str] = []

    def expire(route: Route) -> None:
        if expired:
            route.continue_()
        else:
            expired.append(str(route.request.headers["authorization"]))
            token = stack.tokens.issue("staff-local", ["demo"], SCOPES, lifetime=-1)
            route.continue_(headers={**route.request.headers, "authorization": f"Bearer {token}"})

    page.route(MESSAGES, expire)
    send(form)
    expect(page.get_by_role("dialog")).to_contain_text("Sign in again")
    sign_in_again(page)

    is_sent(form)
    assert len(accepted(stack, patient)) == 1


def test_with_the_service_gone_and_back_all_goes_on(page: Page, watch: Watch, stack: LocalStack, patient: str) -> None:
    watch.expects("net::ERR_FAILED")
    form = compose(page, patient)
    expect(form.get_by_text("This can go out as a text")).to_be_visible()
    gone = re.compile(r"/v1/")
    page.route(gone, lambda route: route.abort())
    form.get_by_role("radio", name="Call").check()
    expect(form.get_by_role("alert")).to_contain_text("The service did not answer.")
    form.get_by_label("Message", exact=True).fill("Please call us.")

    page.unroute(gone)
    form.get_by_role("button", name="Try again").click()
    expect(form.get_by_text("This can go out as a call")).to_be_visible()
    page.route("**/decisions/**", lambda route: route.abort())
    send(form)
    expect(form.get_by_text("The message is taken all the same.")).to_be_visible()
    check_accessibility(page)
    page.unroute("**/decisions/**")
    form.get_by_role("button", name="Try again").click()
    is_sent(form)
    assert len(accepted(stack, patient)) == 1


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (sms.ANSWER_IS_LOST, "The provider did not say whether it was sent."),
        (sms.NOT_A_NUMBER, "It was not sent: when it was about to be, it was decided otherwise."),
    ],
)
def test_what_becomes_of_a_message_is_told_where_it_is_not_sent(
    page: Page, stack: LocalStack, number: str, told: str
) -> None:
    patient = f"p-becomes-{number[-3:]}"
    put_patient(stack, patient, number)
    form = compose(page, patient)
    form.get_by_label("To phone").select_option(index=1)
    form.get_by_label("Message", exact=True).fill("Please call us.")
    send(form)

    expect(form.get_by_text(told)).to_be_visible(timeout=15_000)
    check_accessibility(page)


def test_a_practice_that_sends_itself_is_told_that_the_message_is_handed_over(page: Page, stack: LocalStack) -> None:
    line = {"id": "only", "name": "Only", "phone_number": "+15035559080"}
    practice = {"name": "Inland Clinic", "time_zone": "UTC", "default_country": "US", "lines": [line]}
    call(stack, "PUT", "inland", {**practice, "default_line": "only"})
    put_patient(stack, "p-own", CELL, "inland")
    # Whoever signs in now may see this practice, too.
    page.reload()
    form = compose(page, "p-own", "inland")
    expect(form.get_by_text("This service does not send for your practice.")).to_be_visible()
    expect(form.get_by_label("From line")).to_have_count(0)
    form.get_by_label("Message", exact=True).fill("Please call us.")
    send(form)

    expect(form.get_by_text("It was handed over to your practice’s own system")).to_be_visible()


def stay_after(page: Page, told: str) -> None:
    """Begin to leave, and stay for what the page says to that."""
    page.get_by_role("link", name="Find a patient").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(told)
    dialog.get_by_role("button", name="Stay here").click()


def test_typed_text_is_not_left_unasked_and_what_was_sent_is(page: Page, stack: LocalStack, patient: str) -> None:
    form = compose(page, patient)
    form.get_by_label("Message", exact=True).fill("Please call us.")
    stay_after(page, "will be lost")
    expect(form.get_by_label("Message", exact=True)).to_have_value("Please call us.")

    held: list[Route] = []
    page.route(MESSAGES, lambda route: held.append(route), times=1)
    send(form)
    expect(form.get_by_text("Sending …")).to_be_visible()
    stay_after(page, "may have been sent already")
    held[0].continue_()
    is_sent(form)
    page.get_by_role("link", name="Find a patient").click()
    expect(page.get_by_role("heading", name="Find a patient")).to_be_visible()


def test_a_message_is_sent_with_the_keyboard_alone(page: Page, stack: LocalStack, patient: str) -> None:
    form = compose(page, patient)
    form.get_by_role("radio", name="Text").focus()
    page.keyboard.press("ArrowRight")
    expect(form.get_by_role("radio", name="Call")).to_be_checked()
    page.keyboard.press("ArrowRight")
    for text in (None, "Your visit", "See you on Monday."):
        page.keyboard.press("Tab")
        if text:
            page.keyboard.type(text)
    page.keyboard.press("Tab")
    expect(form.get_by_role("button", name="Send", exact=True)).to_be_focused()
    page.keyboard.press("Enter")

    is_sent(form)
