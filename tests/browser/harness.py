"""What tests of the page do in a browser beside clicking: sign in, look for what shuts people out, measure, photograph.

Test support; knows the page from outside only.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Response, ViewportSize, expect

SCREENSHOTS = Path(__file__).parents[2] / ".ci-output" / "screenshots"
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


class Watch:
    """What a browser does that no test should have to ask for.

    `problems` are errors in the console, scripts that fail, answers of 400 and above, and requests that fail or go
    anywhere but to this machine. `requests` and `bytes` are what the page itself has transferred, compressed and with
    headers; what comes from the browser's cache is neither.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.problems: list[str] = []
        self.requests = 0
        self.bytes = 0
        self._expected: set[int | str] = set()
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.problems.append(f"script: {error.error}"))
        context.on("request", self._on_request)
        context.on("response", self._on_response)
        context.on("requestfailed", self._on_failure)

    def expects(self, *what: int | str) -> None:
        """Name statuses, or texts of network errors (`net::ERR_FAILED`), that are no problems in this test."""
        self._expected.update(what)

    def count(self, page: Page) -> None:
        """Count what a page transfers, from now on."""

        def finished(event: dict[str, Any]) -> None:
            if event["encodedDataLength"]:
                self.requests += 1
                self.bytes += int(event["encodedDataLength"])

        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", finished)

    def reset(self) -> None:
        """Count from zero."""
        self.requests = self.bytes = 0

    def _on_console(self, message: ConsoleMessage) -> None:
        # The browser says of each answer of 400 and above that it is one; those are seen below.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.problems.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname != "127.0.0.1":
            self.problems.append(f"request to another host: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected:
            self.problems.append(f"{response.status}: {response.request.method} {response.url}")

    def _on_failure(self, request: Request) -> None:
        # What a page that goes elsewhere does not wait for is aborted.
        if request.failure not in {*self._expected, "net::ERR_ABORTED"}:
            self.problems.append(f"{request.failure}: {request.method} {request.url}")


def sign_in(page: Page) -> None:
    """Let staff sign in, unless they are."""
    button = _sign_in_button(page)
    expect(button.or_(page.get_by_text("Signed in as ")).first).to_be_visible()
    if button.is_visible():
        sign_in_again(page)


def sign_in_again(page: Page) -> None:
    """Click the button with which the page, or its dialog, lets staff sign in; its window closes by itself."""
    button = _sign_in_button(page)
    with page.expect_popup() as opened:
        button.click()
    if not opened.value.is_closed():
        opened.value.wait_for_event("close")
    expect(button).to_have_count(0)


def _sign_in_button(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile("sign in", re.IGNORECASE))


def check_accessibility(page: Page) -> None:
    """Fail with all that axe finds wrong in what is shown: WCAG 2.2 up to AA, and what it calls best practice."""
    options = {"runOnly": {"type": "tag", "values": list(RULES)}, "resultTypes": ["violations"]}
    found = Axe().run(page, options=options)
    assert not found.response["violations"], found.generate_report()


def shots(page: Page, name: str) -> None:
    """Keep two pictures of the page, wide and narrow, for whoever looks at what a run has left."""
    before = page.viewport_size
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        page.screenshot(path=SCREENSHOTS / f"{name}-{size['width']}.png", full_page=True)
    if before:
        page.set_viewport_size(before)
