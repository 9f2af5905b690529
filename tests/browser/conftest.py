"""A browser at the page of a local stack with demo data; whatever goes wrong in it fails the test."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.artifact.build import missing
from tests.browser.harness import WIDE, Watch, sign_in
from tests.local.stack import LocalStack, start

# The last: no name but this machine's is looked up, whatever the browser itself would like to ask.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


# What takes longer is stuck, however busy the machine is.
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """A local stack with the demo data; its tokens' `lifetime` may be shortened."""
    with start(demo=True, retry_seconds=0) as running:
        yield running


# No longer than a module: Playwright keeps its event loop running in this thread, which other tests would trip over.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium of this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=ARGUMENTS) as launched:
        yield launched


@pytest.fixture
def context(browser: Browser, stack: LocalStack) -> Iterator[BrowserContext]:
    """A new profile, with an empty cache; addresses are relative to the page's."""
    with browser.new_context(base_url=stack.api_url, locale="en-US", viewport=WIDE) as made:
        yield made


@pytest.fixture(scope="module")
def desk(browser: Browser, stack: LocalStack) -> Iterator[Page]:
    """A window in which staff are signed in, for one test after the other of a module that is marked with `desk`."""
    with browser.new_context(base_url=stack.api_url, locale="en-US", viewport=WIDE) as context:
        page = context.new_page()
        page.goto("/")
        sign_in(page)
        yield page


@pytest.fixture
def watch(request: pytest.FixtureRequest) -> Watch:
    """What the browser of this test does beside what it is asked for."""
    if request.node.get_closest_marker("desk"):
        return Watch(request.getfixturevalue("desk").context)
    return Watch(request.getfixturevalue("context"))


@pytest.fixture
def page(request: pytest.FixtureRequest, watch: Watch) -> Iterator[Page]:
    """An empty window, or the one at the desk; fails the test in the end if anything went wrong in its windows."""
    if request.node.get_closest_marker("desk"):
        at_desk: Page = request.getfixturevalue("desk")
        yield at_desk
        leave(at_desk)
    else:
        opened = request.getfixturevalue("context").new_page()
        watch.count(opened)
        yield opened
    assert watch.problems == []


@pytest.fixture
def cold(browser: Browser, stack: LocalStack) -> Iterator[Page]:
    """A window of a new profile, with nothing in its cache."""
    with browser.new_context(base_url=stack.api_url, locale="en-US", viewport=WIDE) as context:
        yield context.new_page()


def leave(page: Page) -> None:
    """Leave the window as the next test needs it: whatever is typed is given up."""
    page.unroute_all()
    page.context.set_offline(False)
    # A view that asks for nothing: what is typed is asked about, and whoever is signed in stays so.
    page.evaluate("location.hash = '#/left'")
    given_up = page.get_by_role("button", name="Leave", exact=True)
    left = page.get_by_role("heading", name="Page not found")
    expect(given_up.or_(left)).to_be_visible()
    if given_up.is_visible():
        given_up.click()
        expect(left).to_be_visible()
