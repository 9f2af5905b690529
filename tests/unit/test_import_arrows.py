"""Import arrows point one way: pure <- shapes <- I/O <- functions; and the pure half has no world outside."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import patient_contact

PACKAGE = Path(patient_contact.__file__).parent
FUNCTIONS = Path(__file__).parents[2] / "functions"

# Where every module belongs; the tests fail when one is not listed.
PURE = {
    "advice",
    "bulk",
    "confirmations",
    "consent",
    "consent_csv",
    "contact_info",
    "content",
    "decision_data",
    "events",
    "facesheet",
    "facts",
    "life",
    "reasons",
    "remedies",
    "replies",
    "routing",
    "truth_table",
    "verdict",
}
SHAPES = {"api", "bulk_list", "inbound", "received", "triggers"}
IO = {
    "announcements",
    "asked",
    "aws",
    "bulk_routing",
    "bulks",
    "bus",
    "clock",
    "consents",
    "decisions",
    "http",
    "imports",
    "lists",
    "log",
    "lookups",
    "numbers",
    "outgoing",
    "patients",
    "practices",
    "providers",
    "queue",
    "recipients",
    "reports",
    "republish",
    "reviews",
    "sends",
    "settings",
    "switch",
    "table",
}

# All of the world that each half may see beside our own modules.
PURE_MAY_IMPORT = {
    "collections",
    "csv",
    "dataclasses",
    "datetime",
    "difflib",
    "email_validator",
    "holidays",
    "io",
    "itertools",
    "phonenumbers",
    "re",
    "string",
    "typing",
    "unicodedata",
}
SHAPES_MAY_IMPORT = PURE_MAY_IMPORT | {"json", "pydantic", "zoneinfo"}
CLOCKS = {"now", "today", "utcnow"}
OUTSIDE = {"open", "print", "input", "eval", "exec", "__import__"}


def _imports(tree: ast.AST) -> Iterator[str]:
    """Give all that a module imports, wherever in it, by full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import would name nothing that can be looked up here.
            assert node.level == 0
            yield from (f"{node.module}.{name.name}" for name in node.names)


def _wrong(source: str, ours: set[str], world: set[str] | None) -> list[str]:
    """Say what a module uses beyond `ours` of the package and `world` (None: anything) of all else."""
    tree = ast.parse(source)
    found = []
    for name in _imports(tree):
        top, _, rest = name.partition(".")
        if top == "patient_contact":
            found += [] if rest.partition(".")[0] in ours else [name]
        elif top in ("functions", "tests") or (world is not None and top not in world):
            found.append(name)
    if world is None:
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            found.append(node.attr)
        elif isinstance(node, ast.Name) and node.id in OUTSIDE:
            found.append(node.id)
    return found


def _source(module: str) -> str:
    return (PACKAGE / f"{module}.py").read_text(encoding="utf-8")


def test_every_module_has_its_place() -> None:
    modules = {path.stem for path in PACKAGE.glob("**/*.py")} - {"__init__"}

    assert modules == PURE | SHAPES | IO
    assert len(modules) == len(PURE) + len(SHAPES) + len(IO)


def test_the_package_itself_imports_nothing() -> None:
    assert _wrong(_source("__init__"), set(), set()) == []


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_module_sees_only_pure_ones_and_no_clock_io_or_environment(module: str) -> None:
    assert _wrong(_source(module), PURE, PURE_MAY_IMPORT) == []


@pytest.mark.parametrize("module", sorted(SHAPES))
def test_a_shape_sees_only_shapes_and_pure_modules(module: str) -> None:
    assert _wrong(_source(module), PURE | SHAPES, SHAPES_MAY_IMPORT) == []


@pytest.mark.parametrize("module", sorted(IO))
def test_an_io_module_sees_no_function(module: str) -> None:
    assert _wrong(_source(module), PURE | SHAPES | IO, None) == []


@pytest.mark.parametrize("path", sorted(FUNCTIONS.rglob("*.py")), ids=lambda path: path.parent.name)
def test_a_function_sees_the_package_and_no_other_function(path: Path) -> None:
    assert _wrong(path.read_text(encoding="utf-8"), PURE | SHAPES | IO, None) == []


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import time", "time"),
        ("import os.path", "os.path"),
        ("from os import environ", "os.environ"),
        ("import boto3", "boto3"),
        ("from botocore.config import Config", "botocore.config.Config"),
        ("import logging", "logging"),
        ("from aws_lambda_powertools import Logger", "aws_lambda_powertools.Logger"),
        ("from zoneinfo import ZoneInfo", "zoneinfo.ZoneInfo"),
        ("import random", "random"),
        ("def late():\n    import socket", "socket"),
        ("if True:\n    from patient_contact import table", "patient_contact.table"),
        ("from patient_contact.api import Id", "patient_contact.api.Id"),
        ("import patient_contact.clock", "patient_contact.clock"),
        ("from functions.messages import handler", "functions.messages.handler"),
        ("from tests.unit import cases", "tests.unit.cases"),
        ("started = datetime.now(UTC)", "now"),
        ("day = date.today()", "today"),
        ("print('hello')", "print"),
        ("text = open('file')", "open"),
    ],
)
def test_a_pure_module_that_looked_outside_would_be_seen(source: str, seen: str) -> None:
    assert _wrong(source, PURE, PURE_MAY_IMPORT) == [seen]
