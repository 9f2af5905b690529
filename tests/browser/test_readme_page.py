"""The README's words about the page, done as they are written: clicks in the browser, commands in a shell."""

import re
import subprocess
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.harness import sign_in
from tests.browser.test_history import open_decision, show_history
from tests.local.stack import LocalStack

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("## The page")[2].partition("\n## ")[0]
SCRIPT = "".join(re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL))


def automation(page: Page, has: str) -> Locator:
    """Find what an automation with these channels would come to."""
    head = page.get_by_role("rowheader", name=has, exact=True)
    return page.get_by_role("row").filter(has=head).get_by_role("cell").first


def test_the_page_does_what_the_readme_says(page: Page, stack: LocalStack) -> None:
    page.goto("/")
    sign_in(page)
    page.get_by_role("textbox", name="Patient ID").fill("p-text-landline-email")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="p-text-landline-email").click()
    both = automation(page, "Text and call")
    expect(both).to_contain_text("TEXT")

    page.get_by_role("button", name="Edit").click()
    page.get_by_role("radio", name=re.compile("0104")).check()
    expect(both).to_contain_text("CALL")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Preferred", exact=True)).to_be_visible()
    expect(both).to_contain_text("CALL")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("radio", name="None").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Preferred", exact=True)).to_be_hidden()

    for is_on, outcome in ((True, "nothing"), (False, "TEXT")):
        page.get_by_role("checkbox", name="Do Not Contact").set_checked(is_on)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("button", name="Save")).to_be_hidden()
        expect(both).to_contain_text(outcome)

    script = SCRIPT.replace("http://127.0.0.1:4566", stack.aws_url)
    run = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    stack.wait_until(lambda: any("automation:appointment-reminder:visit-8" in str(event) for event in stack.events))

    page.reload()
    sign_in(page)
    expect(page.get_by_text("Opted Out of 1 numbers")).to_be_visible()
    expect(both).to_contain_text("CALL")
    opened = open_decision(show_history(page), "appointment-reminder", "")
    expect(opened.get_by_text("Called: +1 503-555-0103 is opted out of texts on line main.").first).to_be_visible()
