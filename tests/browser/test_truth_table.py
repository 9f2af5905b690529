"""The truth table on the page: the practice's own, what another policy would change, and on paper."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.harness import NARROW, SCREENSHOTS, WIDE, Watch, check_accessibility, shots, sign_in, sign_in_again
from tests.local.stack import LocalStack

pytestmark = pytest.mark.desk

PATH = "/#/practices/demo/truth-table"
CALL, EMAIL, OTHER, STOP = (
    "Call when the message has no text",
    "Email when the message cannot use the phone",
    "Text another number than the preferred one",
    "An opt-out of texts stops calls, too",
)


@pytest.fixture
def table(page: Page) -> Locator:
    """The table of the practice's own policy, which is shown."""
    page.goto(PATH)
    sign_in(page)
    shown = page.get_by_role("table")
    expect(shown.get_by_role("columnheader", name="Text, Call, Email")).to_be_visible()
    return shown


@pytest.fixture
def paper(page: Page) -> Iterator[None]:
    """Have the window show itself on a screen again after a test that has it as on paper."""
    yield
    page.emulate_media(media="screen")


@pytest.fixture
def narrow(page: Page) -> Iterator[None]:
    """Make the window as narrow as a phone, during a test."""
    page.set_viewport_size(NARROW)
    yield
    page.set_viewport_size(WIDE)


def box(page: Page, flag: str) -> Locator:
    """Give the checkbox of a flag."""
    return page.get_by_role("checkbox", name=flag)


def rows(table: Locator) -> list[list[str]]:
    """Give the text of each cell, row by row."""
    found: list[list[str]] = table.evaluate(
        "table => [...table.tBodies].flatMap(body => [...body.rows].map(row => [...row.cells].map(c => c.innerText)))"
    )
    return found


def test_the_practices_own_policy_is_shown_first(page: Page, table: Locator) -> None:
    shown = rows(table)

    assert len(shown) == 10
    assert shown[0] == [
        "a text-enabled phone only",
        "not opted out",
        *["TEXT", "nothing", "nothing", "TEXT", "TEXT", "nothing", "TEXT"],
    ]
    assert shown[1] == ["opted out", *["nothing", "CALL", "nothing", "CALL", "nothing", "CALL", "CALL"]]
    assert shown[-1] == [
        "an email address only",
        "–",
        *["nothing", "nothing", "EMAIL", "nothing", "EMAIL", "EMAIL", "EMAIL"],
    ]
    assert not any(page.get_by_role("checkbox").nth(n).is_checked() for n in range(4))
    expect(page.get_by_text("Nothing is saved here")).to_be_visible()
    expect(page.get_by_text("This is the practice’s policy.")).to_be_visible()
    expect(table.locator(".changed")).to_have_count(0)
    check_accessibility(page)
    shots(page, "truth-table")


def test_on_a_phone_what_a_row_and_the_table_are_about_stays_in_sight(narrow: None, page: Page, table: Locator) -> None:
    region = page.get_by_role("region", name="What patients get")
    region.evaluate("region => region.scrollTo({ left: region.scrollWidth, behavior: 'instant' })")
    assert region.evaluate("region => region.scrollLeft") > 0
    left, right = region.evaluate(
        "region => [region.getBoundingClientRect().left, region.getBoundingClientRect().right]"
    )

    edges = table.evaluate(
        """({ tBodies: [body], caption }) =>
            [body.querySelector("[scope=rowgroup]"), body.querySelector("[scope=row]"), caption.firstChild]
                .map(each => each.getBoundingClientRect())
                .map(({ left, right }) => [left, right])"""
    )

    assert left <= edges[0][0] < edges[0][1] <= edges[1][0] + 1
    assert all(left <= start < end <= right for start, end in edges)
    last = table.get_by_role("columnheader", name="Text, Call, Email").bounding_box()
    assert last
    assert last["x"] >= edges[1][1] - 1
    check_accessibility(page)
    page.screenshot(path=SCREENSHOTS / "truth-table-scrolled-360.png", full_page=True)


def test_cells_that_another_policy_changes_say_what_they_were_and_are_counted(page: Page, table: Locator) -> None:
    box(page, CALL).check()
    box(page, EMAIL).check()

    expect(page.get_by_role("status")).to_have_text(
        "16 cells differ from the practice’s policy. Each says what it was."
    )
    expect(table.locator(".changed")).to_have_count(16)
    assert rows(table)[0] == [
        "a text-enabled phone only",
        "not opted out",
        *["TEXT", "CALL\nwas nothing", "nothing", "TEXT", "TEXT", "CALL\nwas nothing", "TEXT"],
    ]
    expect(table).to_contain_text(f"Policy: {CALL}; {EMAIL}.")
    check_accessibility(page)
    shots(page, "truth-table-changed")


def test_a_row_for_both_consents_is_compared_with_the_two_that_it_becomes(page: Page, table: Locator) -> None:
    box(page, STOP).check()

    expect(table.locator(".changed")).not_to_have_count(0)
    landline = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="a landline only"))
    expect(landline.locator(".changed")).to_have_count(0)
    after = [row for row in rows(table) if row[0] == "opted out"]
    assert after[-1] == [
        "opted out",
        "nothing",
        "nothing\nwas CALL",
        "nothing",
        *["nothing\nwas CALL"],
        "nothing",
        *["nothing\nwas CALL"] * 2,
    ]


def test_one_button_goes_back_to_the_practices_policy(page: Page, table: Locator) -> None:
    box(page, OTHER).check()
    expect(table.locator(".changed")).not_to_have_count(0)

    page.get_by_role("button", name="Reset to the practice’s policy").click()

    expect(box(page, OTHER)).not_to_be_checked()
    expect(table.locator(".changed")).to_have_count(0)
    expect(page.get_by_role("status")).to_have_text("This is the practice’s policy.")


def test_it_is_printed_on_one_page_with_its_marks_and_the_flags_that_are_on(
    page: Page, table: Locator, paper: None
) -> None:
    for flag in (CALL, EMAIL, OTHER, STOP):
        box(page, flag).check()
    expect(table.locator(".changed")).to_have_count(45)
    page.evaluate("window.print = () => { window.printed = true }")
    page.get_by_role("button", name="Print").click()
    assert page.evaluate("window.printed")

    page.emulate_media(media="print")

    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(box(page, CALL)).to_be_hidden()
    expect(page.get_by_text("Demo Clinic")).to_be_visible()
    expect(table).to_contain_text(f"Policy: {CALL}; {EMAIL}; {OTHER}; {STOP}.")
    changed = table.locator(".changed").first
    expect(changed.locator(".was")).to_be_visible()
    expect(changed).to_have_css("outline-style", "dashed")
    check_accessibility(page)
    sheets = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", sheets)) == 1
    width, height = re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", sheets)[0]
    assert float(width) > float(height)


def test_the_keyboard_alone_is_enough(page: Page, table: Locator) -> None:
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "checkbox":
            break
    page.keyboard.press("Space")
    expect(table.locator(".changed")).not_to_have_count(0)
    expect(box(page, CALL)).to_be_focused()

    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Reset")).to_be_focused()
    page.keyboard.press("Enter")
    expect(table.locator(".changed")).to_have_count(0)


def test_without_an_answer_it_can_be_tried_again(page: Page, watch: Watch, table: Locator) -> None:
    watch.expects("net::ERR_FAILED")
    page.route("**/truth-table?*", lambda route: route.abort(), times=1)
    box(page, EMAIL).check()
    expect(page.get_by_role("alert").filter(has_text="did not answer")).to_be_visible()
    expect(table).to_have_count(0)

    page.get_by_role("button", name="Try again").click()

    expect(table.locator(".changed")).not_to_have_count(0)
    expect(box(page, EMAIL)).to_be_checked()


def test_whoever_is_not_signed_in_any_more_is_asked_and_goes_on(
    page: Page, watch: Watch, stack: LocalStack, table: Locator
) -> None:
    watch.expects(401)
    expired = stack.tokens.issue("staff-local", ["demo"], "practice/read", lifetime=-1)
    page.route("**/truth-table?*", lambda route: route.continue_(headers=_with_token(route, expired)), times=1)
    box(page, EMAIL).check()

    sign_in_again(page)

    expect(table.locator(".changed")).not_to_have_count(0)
    expect(box(page, EMAIL)).to_be_checked()


def _with_token(route: Route, token: str) -> dict[str, str]:
    return {**route.request.headers, "authorization": f"Bearer {token}"}
