"""A browser at the page of a local stack with demo data; whatever goes wrong in it fails the test."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.artifact.build import missing
from tests.browser.harness import WIDE, Watch
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


@pytest.fixture
def watch(context: BrowserContext) -> Watch:
    """What the browser of this test does beside what it is asked for."""
    return Watch(context)


@pytest.fixture
def page(context: BrowserContext, watch: Watch) -> Iterator[Page]:
    """An empty window; fails the test in the end if anything went wrong in any window of its."""
    opened = context.new_page()
    watch.count(opened)
    yield opened
    assert watch.problems == []
