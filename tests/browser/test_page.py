"""The page in a browser: it loads under its own policy, signs staff in, and costs little when it is opened again."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.harness import Watch, check_accessibility, shots, sign_in


def test_the_page_loads_under_its_own_policy_and_asks_to_sign_in(page: Page) -> None:
    page.goto("/")

    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    check_accessibility(page)
    shots(page, "sign-in")


def test_staff_sign_in_with_one_click_for_all_practices_that_there_are(page: Page) -> None:
    page.goto("/")
    sign_in(page)

    expect(page.get_by_text("staff-local")).to_be_visible()
    check_accessibility(page)
    shots(page, "signed-in")


def test_opened_again_the_page_transfers_next_to_nothing(page: Page, watch: Watch) -> None:
    page.goto("/", wait_until="networkidle")
    assert watch.requests > 1
    watch.reset()

    page.goto("about:blank")
    page.goto("/", wait_until="networkidle")

    # The page itself has not been modified; its files are not even asked for.
    assert watch.requests == 1
    assert watch.bytes < 2_000


def test_a_script_that_somebody_smuggles_in_does_not_run(page: Page, watch: Watch) -> None:
    page.goto("/")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            // Text that nobody vouches for is not even taken for a script's.
            try { script.textContent = "window.smuggled = true"; } catch {}
            script.append("window.smuggled = true");
            document.body.append(script);
            const image = document.createElement("img");
            try { image.setAttribute("onerror", "window.smuggled = true"); } catch {}
            image.src = "data:,";
            document.body.append(image);
        }"""
    )
    page.wait_for_timeout(100)

    assert page.evaluate("window.smuggled") is None
    assert len(watch.problems) >= 3
    assert all("Content Security Policy" in each or "TrustedScript" in each for each in watch.problems), watch.problems
    watch.problems.clear()


@pytest.mark.parametrize(
    ("script", "noticed"),
    [
        ("console.error('broken')", "console: broken"),
        ("setTimeout(() => { throw new Error('broken') })", "script: broken"),
        ("fetch('/nowhere')", "404: GET"),
        ("fetch('https://example.org/').catch(() => null)", "example.org"),
        ("navigator.sendBeacon('https://example.org/')", "example.org"),
    ],
)
def test_the_watch_notices_what_goes_wrong(page: Page, watch: Watch, script: str, noticed: str) -> None:
    page.goto("/")
    page.evaluate(f"() => {{ {script} }}")
    page.wait_for_timeout(200)

    assert any(noticed in each for each in watch.problems)
    watch.problems.clear()
