"""What the functions ask of the table when everything runs, held against the policies of `template.yaml`.

Nothing else would notice a missing permission before AWS does, nor one that is not needed.
"""

import http.client
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from samtranslator.yaml_helper import yaml_parse

from patient_contact import aws
from tests.contract import rules
from tests.local import demo_data
from tests.local.stack import LocalStack, start

PATIENT = "/v1/practices/demo/patients/p-text"
OPT_OUT = {"phone_number": "+15035550101", "line": "main", "status": "opted_out"}
MESSAGE = {"class": "automation", "channels": ["text"], "line": "main"}
LONG = "See you soon. " * 90
MOVED = {**demo_data.PRACTICE, "lines": [{"id": "main", "name": "Main", "phone_number": "+15035559000"}]}

REQUESTS: list[tuple[str, str, object]] = [
    ("PUT", "/v1/practices/demo/automations/gone", demo_data.AUTOMATIONS["recall"]),
    ("GET", "/v1/practices/demo", None),
    ("GET", "/v1/practices/demo/automations", None),
    ("GET", "/v1/practices/demo/automations/gone", None),
    ("DELETE", "/v1/practices/demo/automations/gone", None),
    ("DELETE", "/v1/practices/demo/automations/balance-due", None),
    ("PUT", "/v1/practices/demo", MOVED),
    ("GET", "/v1/practices/demo/routing/truth-table", None),
    ("GET", PATIENT, None),
    ("PUT", f"{PATIENT}/preferred-contact", {"phone_number": "+15035550101"}),
    ("PUT", f"{PATIENT}/do-not-contact", {"enabled": True}),
    ("PUT", f"{PATIENT}/sms-consent", OPT_OUT),
    ("DELETE", f"{PATIENT}/preferred-contact", None),
    ("POST", "/v1/practices/demo/patients/search", {"phone_number": "+15035550101"}),
    ("POST", "/v1/practices/demo/routing/evaluate", {"patient_id": "p-text", "message": MESSAGE}),
    ("POST", f"{PATIENT}/messages", {"channel": "call", "body": LONG}),
    ("POST", f"{PATIENT}/messages", {"channel": "call", "body": LONG}),
    ("GET", f"{PATIENT}/changes", None),
    ("GET", f"{PATIENT}/decisions", None),
    ("GET", f"{PATIENT}/decisions/manual:once", None),
    ("PUT", f"{PATIENT}/contact-info", {"phones": [], "emails": []}),
]


@dataclass(frozen=True)
class Asked:
    """What a function asks of the table: an action on items with these partition keys, through an index or none."""

    function: str
    action: str
    keys: tuple[str, ...]
    index: str | None = None


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml_parse((rules.ROOT / "template.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def asked(template: dict[str, Any]) -> Iterator[set[Asked]]:
    """All that the functions ask of the table while each route, the queue and the stream are used."""
    folders = {Path(each["CodeUri"]).name: name for name, each in rules.functions(template).items()}
    recorded: set[Asked] = set()

    def record(params: dict[str, Any], model: Any, **_: object) -> None:
        for action, keys, index in requests_in(model.name, params):
            recorded.add(Asked(folders[calling_function()], action, keys, index))

    with start(demo=False) as stack:
        aws.dynamodb().meta.events.register("provide-client-params.dynamodb", record)
        demo_data.load(stack.api_url, stack.token("demo", ["demo"], demo_data.SCOPE))
        for method, path, body in REQUESTS:
            status = call(stack, method, path, body)
            assert status < 300, f"{method} {path}: {status}"
        trigger(stack)
        yield recorded


def test_every_request_to_the_table_is_allowed(asked: set[Asked], template: dict[str, Any]) -> None:
    refused = [
        each for each in asked if not rules.may(template, each.function, each.action, *each.keys, index=each.index)
    ]

    assert refused == []


def test_every_permission_on_the_table_is_used(asked: set[Asked], template: dict[str, Any]) -> None:
    unused = [
        f"{function}: {statement['Sid']} allows {action}"
        for function in rules.functions(template)
        for statement in rules.statements(template, function)
        for action in (each.removeprefix("dynamodb:") for each in rules.listed(statement["Action"]))
        if statement["Effect"] == "Allow" and "dynamodb:LeadingKeys" in str(statement.get("Condition"))
        if not any(
            (each.function, each.action) == (function, action)
            and rules.covers(statement, action, *each.keys, index=each.index)
            for each in asked
        )
    ]

    assert unused == []


def requests_in(operation: str, params: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """Yield what IAM looks at in a call: each action with its partition keys and index."""
    if operation == "TransactWriteItems":
        actions = {
            "Put": "PutItem",
            "Update": "UpdateItem",
            "Delete": "DeleteItem",
            "ConditionCheck": "ConditionCheckItem",
        }
        for item in params["TransactItems"]:
            ((kind, part),) = item.items()
            yield actions[kind], ((part.get("Item") or part["Key"])["PK"]["S"],), None
    elif operation == "BatchGetItem":
        (table,) = params["RequestItems"].values()
        yield operation, tuple(key["PK"]["S"] for key in table["Keys"]), None
    elif operation == "Query":
        values = [value.get("S", "") for value in params["ExpressionAttributeValues"].values()]
        yield (
            operation,
            tuple(each for each in values if each.startswith(("PRACTICE#", "LINE#"))),
            params.get("IndexName"),
        )
    else:
        yield operation, ((params.get("Item") or params["Key"])["PK"]["S"],), None


def calling_function() -> str:
    """The folder of the function on whose behalf a call is made: its handler is among the callers."""
    frame = sys._getframe()  # noqa: SLF001 - the way to the callers that the standard library documents
    while frame.f_back is not None:
        frame = frame.f_back
        path = Path(frame.f_code.co_filename)
        if path.name == "handler.py" and path.parent.parent == rules.ROOT / "functions":
            return path.parent.name
    raise AssertionError("no function called this")


def call(stack: LocalStack, method: str, path: str, body: object) -> int:
    scopes = "practice/read practice/admin contact-info/write preferences/read preferences/write messages/send"
    headers = {
        "authorization": f"Bearer {stack.token('staff-7', ['demo'], scopes)}",
        "content-type": "application/json",
        "idempotency-key": "once",
    }
    if path.endswith("sms-consent"):
        # A write that depends on the patient's version checks it in the transaction.
        headers["if-match"] = '"3"'
    connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def trigger(stack: LocalStack) -> None:
    """Trigger an automation whose content is long, twice, and wait until it is announced."""
    for _ in range(2):
        detail = {
            "version": 1,
            "practice_id": "demo",
            "patient_id": "p-text-email",
            "automation_id": "recall",
            "occurrence_id": "o-1",
            "messages": {"text": {"body": LONG}},
        }
        entry = {
            "EventBusName": stack.bus,
            "Source": "patient-contact.automations",
            "DetailType": "AutomationTriggered",
            "Detail": json.dumps(detail),
        }
        stack.client("events").put_events(Entries=[entry])
    wanted = {"automation:recall:o-1", "manual:once"}
    stack.wait_until(lambda: wanted <= {each["detail"].get("message_id") for each in stack.events})
