"""The committed description of the API is what the functions declare."""

from pathlib import Path

import pytest

from tests.contract import rules
from tests.contract.openapi import openapi, operations, rendered

COMMITTED = Path(__file__).parents[2] / "functions" / "openapi.json"


def test_the_committed_description_is_current() -> None:
    assert COMMITTED.read_text() == rendered(), "run `make openapi` and commit what it wrote"


def test_every_route_is_described() -> None:
    described = {f"{method} {path}" for method, path, _ in operations(openapi())}
    assert described == {key.replace("{}", "/v1/practices/{practice_id}", 1) for key in rules.SCOPES}


def test_every_body_that_is_sent_is_described() -> None:
    for method, path, operation in operations(openapi()):
        body = operation.get("requestBody", {"required": False})
        takes_one = method in ("PUT", "POST") and not path.endswith(("/pause", "/resume", "/cancel"))
        assert body["required"] is takes_one, (method, path)


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations(openapi())]
    assert sorted(set(names)) == sorted(names)


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
