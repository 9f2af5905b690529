"""Who is signed in: what is done in whose name, and what stays behind when somebody goes away, or out."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.harness import Watch, check_accessibility, sign_in, sign_in_again
from tests.local.stack import LocalStack

PATIENT = "/#/practices/demo/patients/p-text-email"


@pytest.fixture
def sheet(page: Page) -> Page:
    """A patient's facesheet, with something typed that is not saved, on a clock that can be turned on."""
    page.clock.install()
    page.goto(PATIENT)
    sign_in(page)
    page.get_by_role("checkbox", name="Do Not Contact").click()
    page.get_by_label("Note").fill("asked at the desk")
    return page


def signed_in(page: Page, sub: str) -> None:
    """Let the next sign-in be somebody else's."""
    page.context.route("**/local/oauth/token", lambda route: answer_as(route, sub))


def answer_as(route: Route, sub: str) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "access_token": TOKENS[sub]})


TOKENS: dict[str, str] = {}


@pytest.fixture(autouse=True)
def others(stack: LocalStack) -> None:
    """Tokens of other people: one of the same practice, one of none."""
    scope = "practice/read preferences/read preferences/write messages/send"
    TOKENS["bob"] = stack.token("bob", ["demo"], scope)
    TOKENS["eve"] = stack.token("eve", [], scope)


def test_signed_out_nothing_is_left_in_any_tab_and_whoever_comes_is_asked_who_they_are(page: Page) -> None:
    page.goto(PATIENT)
    sign_in(page)
    other = page.context.new_page()
    other.goto(PATIENT)
    sign_in(other)
    expect(other.get_by_role("heading", name="On file")).to_be_visible()

    page.get_by_role("button", name="Sign out").click()

    for each in (page, other):
        expect(each.get_by_role("heading", name="Sign in")).to_be_visible()
        expect(each.get_by_text("555-0102")).to_have_count(0)
        assert each.url.endswith("/#/")
    other.reload()
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url) if "/local/authorize" in request.url else None)
    sign_in(other)
    assert "prompt=login" in asked[0]
    assert other.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_who_goes_away_finds_what_they_typed_behind_a_sign_in(sheet: Page) -> None:
    sheet.clock.fast_forward("14:00")
    expect(sheet.get_by_role("dialog")).to_have_count(0)
    sheet.clock.fast_forward("02:00")

    expect(sheet.get_by_role("dialog")).to_be_visible()
    expect(sheet.get_by_role("heading", name="On file")).to_be_hidden()
    check_accessibility(sheet)
    sheet.clock.resume()
    sign_in_again(sheet)
    expect(sheet.get_by_role("heading", name="On file")).to_be_visible()
    expect(sheet.get_by_label("Note")).to_have_value("asked at the desk")


def test_who_goes_away_for_good_is_signed_out(page: Page) -> None:
    page.clock.install()
    page.goto(PATIENT)
    sign_in(page)
    page.clock.fast_forward("16:00")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("555-0102")).to_have_count(0)


def test_what_one_person_pressed_is_not_done_in_anothers_name(sheet: Page, watch: Watch) -> None:
    watch.expects(503)
    busy = {"type": "urn:patient-contact:problem:try-again", "status": 503}
    writes: list[Route] = []

    def be_busy(route: Route) -> None:
        writes.append(route)
        route.fulfill(status=503, json=busy, headers={"retry-after": "10"})

    sheet.route("**/do-not-contact", be_busy)
    with sheet.expect_response("**/do-not-contact"):
        sheet.get_by_role("button", name="Save").click()
    sheet.get_by_role("button", name="Sign out").click()
    sheet.get_by_role("button", name="Leave", exact=True).click()
    signed_in(sheet, "bob")
    sign_in_again(sheet)
    expect(sheet.get_by_text("Signed in as bob")).to_be_visible()

    # When it would have been tried again.
    sheet.clock.run_for("00:12")

    expect(sheet.get_by_text("Signed in as bob")).to_be_visible()
    assert len(writes) == 1


@pytest.mark.parametrize("sub", ["bob", "eve"])
def test_whoever_signs_in_for_somebody_else_gets_a_view_of_their_own(sheet: Page, watch: Watch, sub: str) -> None:
    watch.expects(401, 403)
    sheet.route("**/do-not-contact", lambda route: route.fulfill(status=401, json={"message": "Unauthorized"}), times=1)
    signed_in(sheet, sub)
    sheet.get_by_role("button", name="Save").click()
    sign_in_again(sheet)
    expect(sheet.get_by_text(f"Signed in as {sub}")).to_be_visible()
    expect(sheet.get_by_role("textbox", name="Note")).to_have_count(0)
    if sub == "eve":
        expect(sheet.get_by_text("555-0102")).to_have_count(0)


def test_a_sign_in_that_is_given_up_signs_nobody_in(sheet: Page, watch: Watch, stack: LocalStack) -> None:
    watch.expects(401)
    sheet.route("**/do-not-contact", lambda route: route.fulfill(status=401, json={"message": "Unauthorized"}), times=1)
    held: list[Route] = []
    sheet.context.route("**/local/oauth/token", lambda route: held.append(route))
    sheet.get_by_role("button", name="Save").click()
    sheet.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    expect(sheet.get_by_role("dialog")).to_contain_text(re.compile("Go on in the window"))
    stack.wait_until(lambda: sheet.evaluate("true") and held)
    sheet.keyboard.press("Escape")
    answer_as(held[0], "bob")

    expect(sheet.get_by_text("Signed in as staff-local")).to_be_visible()
    seen: list[str] = []
    sheet.on("request", lambda request: seen.append(str(request.headers.get("authorization"))))
    sheet.get_by_role("button", name="Save").click()
    expect(sheet.get_by_role("button", name="Save")).to_be_hidden()
    assert TOKENS["bob"] not in " ".join(seen)


def test_an_answer_of_no_sign_in_is_taken_out_of_the_address(page: Page) -> None:
    page.goto("/?code=somebodys")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "code" not in page.url
