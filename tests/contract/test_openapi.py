"""The committed description of the API is what the functions declare."""

from pathlib import Path

import pytest

from tests.contract.openapi import openapi, operations, rendered

COMMITTED = Path(__file__).parents[2] / "functions" / "openapi.json"


def test_the_committed_description_is_current() -> None:
    assert COMMITTED.read_text() == rendered(), "run `make openapi` and commit what it wrote"


@pytest.mark.parametrize(("method", "path", "operation"), list(operations(openapi())), ids=lambda part: str(part)[:60])
def test_every_operation_documents_its_answers_and_its_scope(
    method: str, path: str, operation: dict[str, object]
) -> None:
    responses = operation["responses"]
    assert isinstance(responses, dict)
    assert {"403", "422", "500", "503"} < responses.keys(), (method, path)
    assert responses.keys() & {"200", "202", "204"}, (method, path)
    assert operation["summary"] != "", (method, path)
    assert isinstance(operation["security"], list)
    assert [list(scheme) for scheme in operation["security"]] == [["jwt"]]


def test_every_reference_leads_somewhere() -> None:
    text = rendered()
    schemas = openapi()["components"]["schemas"]
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names == schemas.keys()
