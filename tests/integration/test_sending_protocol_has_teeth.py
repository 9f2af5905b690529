"""The schedules notice when sending is wrong: each guard of it is broken alone, in a copy of the code."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "layers/patient_contact/patient_contact"

# The first schedule that fails is enough; in this process, in the same order each time.
PLAINLY = ("-x", "-q", "-p", "no:xdist", "-p", "no:randomly", "-p", "no:cacheprovider", "--show-capture=no")

# What is broken: the file, the text and what takes its place; and what the checker says of it.
BROKEN = {
    "the claim's condition": (
        f"{PACKAGE}/life.py",
        "return Step(changed, _same_attempt(item))",
        'return Step(changed, {"sender": "service"})',
        r"was accepted \d times",
    ),
    "the re-read": (
        f"{PACKAGE}/outgoing.py",
        "facts = facts_of(person.patient, person.numbers)",
        "facts = before.facts",
        r"texted on \w+ after STOP|in spite of Do Not Contact",
    ),
    "the single attempt": (
        f"{PACKAGE}/aws.py",
        'read_timeout=10, max_pool_connections=20, retries={"total_max_attempts": 1}',
        'read_timeout=10, max_pool_connections=20, retries={"total_max_attempts": 3}',
        r"was accepted \d times",
    ),
    "an answer that is lost": (
        f"{PACKAGE}/providers.py",
        "return NoAnswer(type(error).__name__)",
        'return Refused(type(error).__name__, "try_again")',
        r"was accepted \d times",
    ),
}


@pytest.mark.parametrize("guard", BROKEN)
def test_the_schedules_notice_when_a_guard_is_broken(guard: str, tmp_path: Path) -> None:
    file, text, instead, said = BROKEN[guard]
    for name in ("layers", "functions", "tests", "template.yaml", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".aws-sam"))
        else:
            shutil.copy(source, tmp_path / name)
    code = (tmp_path / file).read_text()
    assert code.count(text) == 1, "the code has changed: break it here as it now is"
    (tmp_path / file).write_text(code.replace(text, instead))

    tried = subprocess.run(
        [sys.executable, "-m", "pytest", *PLAINLY, "tests/integration/test_sending_protocol.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "layers/patient_contact"), "SCHEDULES": "200", "SEED": "7"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert tried.returncode == 1, tried.stdout[-2_000:]
    assert re.search(said, tried.stdout), tried.stdout[-2_000:]
