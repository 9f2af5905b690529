"""The README's walk-through works as printed, and its truth table is the code's."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from patient_contact.facts import Policy
from patient_contact.truth_table import markdown, truth_table
from tests.contract.openapi import routes_as_markdown
from tests.local.stack import start

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "--- end of block ---"


def test_the_truth_table_is_computed_from_the_rules() -> None:
    printed = README.partition("<!-- truth table -->\n")[2].partition("<!-- end of truth table -->")[0]
    assert printed == markdown(truth_table(Policy()))


def test_the_routes_are_those_of_the_api() -> None:
    printed = README.partition("<!-- routes -->\n")[2].partition("<!-- end of routes -->")[0]
    assert printed == routes_as_markdown()


def test_the_walk_through_prints_what_the_readme_says() -> None:
    section = README.partition("## Walk through")[2].partition("\n## ")[0]
    blocks = BLOCK.findall(section)
    script = "\n".join(f"{text}echo '{END}'" for kind, text in blocks if kind == "sh")
    with start(demo=True) as stack:
        ports = {"3000": stack.api_url, "4566": stack.aws_url, "4567": stack.sms_url}
        for port, url in ports.items():
            script = script.replace(f"http://127.0.0.1:{port}", url)
        run = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr
    printed = iter(run.stdout.split(END))

    compared = 0
    output = ""
    for kind, text in blocks:
        if kind == "sh":
            output = next(printed)
        else:
            compared += 1
            assert_shows(json.loads(text), last_json(output))
    assert compared == sum(kind == "json" for kind, _ in blocks) > 8


def last_json(output: str) -> Any:
    """Give the last JSON value that was printed: a line of ours, or the `aws` command's lines."""
    decoder = json.JSONDecoder()
    values, rest = [], output.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].lstrip()
    return values[-1]


def assert_shows(shortened: Any, whole: Any, at: str = "") -> None:
    """Hold a shortened answer against the whole: everything that is printed is there; lists are printed in full."""
    if isinstance(shortened, dict):
        assert isinstance(whole, dict), at
        for name, value in shortened.items():
            assert name in whole, f"{at}.{name}"
            assert_shows(value, whole[name], f"{at}.{name}")
    elif isinstance(shortened, list):
        assert len(shortened) == len(whole), at
        for n, (value, full) in enumerate(zip(shortened, whole, strict=True)):
            assert_shows(value, full, f"{at}[{n}]")
    else:
        assert shortened == whole, at
