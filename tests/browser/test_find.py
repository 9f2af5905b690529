"""Staff find a patient in a browser, by id or by a phone number, which stays out of addresses, titles and storage."""

import contextlib
import http.client
import json
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.browser.harness import Watch, check_accessibility, shots, sign_in
from tests.local.stack import LocalStack

pytestmark = pytest.mark.desk

SHARED = "+15035550191"


@pytest.fixture(scope="module", autouse=True)
def family(stack: LocalStack) -> None:
    """Two patients who share a phone."""
    token = stack.token("staff-7", ["demo"], "contact-info/write")
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    for patient in ("p-parent", "p-child"):
        connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
        with contextlib.closing(connection):
            path = f"/v1/practices/demo/patients/{patient}/contact-info"
            body = {"phones": [{"number": SHARED, "line_type": "text_enabled"}], "emails": []}
            connection.request("PUT", path, json.dumps(body), headers)
            assert connection.getresponse().status == 200


@pytest.fixture
def search(page: Page) -> Locator:
    """The form for finding a patient, of who is signed in."""
    page.goto("/#/practices/demo")
    sign_in(page)
    expect(page.get_by_role("heading", name="Find a patient")).to_be_focused()
    return page.get_by_role("search")


def find(search: Locator, kind: str, value: str) -> None:
    search.get_by_role("radio", name=kind).check()
    search.get_by_role("textbox").fill(value)
    search.get_by_role("button", name="Find").click()


def test_a_patient_is_found_by_id_and_opened(page: Page, search: Locator) -> None:
    check_accessibility(page)
    shots(page, "find")
    find(search, "Patient ID", " p-text ")

    expect(page.locator("#polite")).to_have_text("1 patient found.")
    check_accessibility(page)
    page.get_by_role("link", name="p-text").click()
    expect(page.get_by_role("heading", name="p-text")).to_be_visible()


def test_a_shared_number_finds_all_who_share_it_however_it_is_written(page: Page, search: Locator) -> None:
    find(search, "Phone number", "(503) 555-0191")

    expect(page.get_by_role("listitem")).to_have_text(["p-child", "p-parent"])
    expect(page.get_by_text("Several patients have this number.")).to_be_visible()
    check_accessibility(page)
    shots(page, "find-shared")


def test_a_number_is_in_no_address_title_or_storage(page: Page, search: Locator) -> None:
    addresses: list[str] = []

    def note(request: Request) -> None:
        addresses.append(request.url)

    page.on("request", note)
    find(search, "Phone number", SHARED)
    expect(page.get_by_role("listitem")).to_have_count(2)

    places = [page.url, page.title(), *addresses]
    places.append(
        page.evaluate("JSON.stringify([history.state, {...localStorage}, {...sessionStorage}, document.cookie])")
    )
    assert addresses
    assert not [place for place in places if "5550191" in place]


def test_where_nobody_is_found_what_to_do_is_said(page: Page, search: Locator) -> None:
    for kind, value, told in (
        ("Patient ID", "p-nobody", "There is no patient with this ID."),
        ("Phone number", "503-555-0199", "No patient has this phone number on file."),
    ):
        find(search, kind, value)

        expect(page.locator(".more").get_by_text(told)).to_be_visible()
        expect(page.locator("#polite")).to_contain_text(told)
        expect(search.get_by_role("textbox")).to_have_value(value)
    check_accessibility(page)


def test_what_cannot_be_looked_for_is_said_at_the_field(page: Page, watch: Watch, search: Locator) -> None:
    watch.expects(422)
    asked = search.get_by_role("textbox")
    for kind, value, told in (
        ("Patient ID", "  ", "Type the patient’s ID."),
        ("Patient ID", "p 1001", "This is no patient ID"),
        ("Patient ID", "p" * 129, "This is no patient ID"),
        ("Phone number", "", "Type the phone number."),
        ("Phone number", "12", "This is no valid phone number."),
    ):
        find(search, kind, value)

        expect(search.get_by_text(told)).to_be_visible()
        expect(asked).to_be_focused()
        expect(asked).to_have_attribute("aria-invalid", "true")
        expect(asked).to_have_value(value)
    check_accessibility(page)
    shots(page, "find-invalid")

    find(search, "Patient ID", "p-text")
    expect(page.get_by_role("link", name="p-text")).to_be_visible()
    expect(asked).not_to_have_attribute("aria-invalid", "true")


def test_only_the_newest_search_is_answered(page: Page, search: Locator) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/patients/search", hold)
    find(search, "Patient ID", "p-email")
    expect(page.locator(".waiting")).to_be_visible()
    with page.expect_event("requestfailed"):
        find(search, "Patient ID", "p-text")

    expect(page.get_by_role("listitem")).to_have_text(["p-text"])
    expect(page.locator(".waiting")).to_have_count(0)


def test_with_the_service_gone_and_back_the_search_is_tried_again(page: Page, watch: Watch, search: Locator) -> None:
    watch.expects("net::ERR_FAILED")
    page.route("**/patients/search", lambda route: route.abort())
    find(search, "Patient ID", "p-text")
    expect(page.get_by_role("alert").filter(has_text="The service did not answer.")).to_be_visible()
    check_accessibility(page)

    page.unroute("**/patients/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("link", name="p-text")).to_be_visible()


def test_a_patient_is_found_with_the_keyboard_alone(page: Page, search: Locator) -> None:
    search.get_by_role("radio", name="Patient ID").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.type("503-555-0191")
    page.keyboard.press("Enter")
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="p-child")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="p-child")).to_be_visible()
