"""What is deployed, built and run: each function by the real runtime client, against the local stack."""

import base64
import gzip
import http.client
import importlib.util
import json
import re
import shutil
import struct
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.artifact.build import ROOT, Built, build, missing
from tests.artifact.runtime_api import Function, FunctionFailed, running
from tests.local import sms
from tests.local.stack import LocalStack, start

AARCH64 = 0xB7

SCOPES = "contact-info/write preferences/read messages/send"
PRACTICE = "/v1/practices/demo"

HTTP_SAMPLES = {
    "PracticesFunction": ("practices.ok", "practices.bad"),
    "PreferencesFunction": ("preferences.ok", "preferences.bad"),
    "MessagesFunction": ("messages.ok", "messages.bad"),
    "ConsentsFunction": ("consents.ok", "consents.bad"),
    "BulkFunction": ("bulk.ok", "bulk.bad"),
}
QUEUE_SAMPLES = {
    "RecordReplyFunction": ("record_reply.ok", "record_reply.bad"),
    "RecordReceiptFunction": ("record_receipt.ok", "record_receipt.bad"),
    "LookUpNumberFunction": ("look_up_number.ok", "look_up_number.bad"),
    "SendMessageFunction": ("send_message.ok", "send_message.bad"),
    "StartBulkFunction": ("start_bulk.ok", "start_bulk.bad"),
    "RouteBatchFunction": ("route_batch.ok", "route_batch.bad"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if sys.platform != "linux":
        missing("needs Linux, as the runtime client does")
    return build(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def stack(built: Built) -> Iterator[LocalStack]:
    with start(demo=True) as running_stack:
        yield running_stack


class Lambda:
    """Runs each built function once, when it is first asked for; `logs` has what they printed."""

    def __init__(self, built: Built, stack: LocalStack, logs: Path, until_end: ExitStack) -> None:
        self.logs = logs
        self._built = built
        self._stack = stack
        self._until_end = until_end
        self._template = yaml_parse((ROOT / "template.yaml").read_text())
        self._running: dict[str, Function] = {}

    def invoke(self, name: str, event: Any) -> Any:
        """Return a function's answer to an event."""
        if name not in self._running:
            self._running[name] = self._until_end.enter_context(self._run(name))
        return self._running[name].invoke(event)

    def request(self, name: str, event: Any) -> Any:
        """Return an HTTP function's answer, with its body parsed."""
        answer = self.invoke(name, event)
        return {**answer, "body": json.loads(answer["body"])}

    def _run(self, name: str) -> Any:
        own = self._template["Resources"][name]["Properties"]
        shared = self._template["Globals"]["Function"]
        folder = self._built.functions / name
        # The interpreter without site-packages, so that nothing is found but what is deployed and what Lambda brings.
        command = [f"{sys.base_prefix}/bin/python3.13", "-s", "-S", "-m", "awslambdaric", shared["Handler"]]
        environment = {
            **self._stack.describe()["functions"][name],
            # After the function's own: its AWS_ENDPOINT_URL is empty, and empty is the real AWS.
            **{key: value for key, value in self._stack.environment.items() if key.startswith("AWS_")},
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(shared["MemorySize"]),
            "AWS_LAMBDA_LOG_FORMAT": shared["LoggingConfig"]["LogFormat"],
            "AWS_LAMBDA_LOG_GROUP_NAME": name,
            "AWS_LAMBDA_LOG_STREAM_NAME": "built",
            "LAMBDA_TASK_ROOT": str(folder),
            "PYTHONPATH": f"{self._built.layer_of_this_machine / 'python'}:{self._built.runtime}",
        }
        assert environment["AWS_ENDPOINT_URL"] == self._stack.aws_url
        assert environment[sms.ENDPOINT] == self._stack.sms_url
        return running(command, folder, environment, own["Timeout"], self.logs / f"{name}.log")


@pytest.fixture(scope="module")
def functions(built: Built, stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lambda]:
    with ExitStack() as until_end:
        yield Lambda(built, stack, tmp_path_factory.mktemp("logs"), until_end)


@pytest.fixture(scope="module")
def imported(functions: Lambda) -> Any:
    """The answer to a file of consent when it is sent first: later it changes nothing."""
    return functions.request("ConsentsFunction", sample("consents.ok"))


@pytest.fixture(scope="module")
def written(functions: Lambda) -> Any:
    """The answer to what staff wrote when it is sent first: later it says that the message was sent."""
    return functions.request("MessagesFunction", sample("messages.ok"))


@pytest.fixture(scope="module")
def broadcast(functions: Lambda, stack: LocalStack) -> Any:
    """The answer to a broadcast when it is sent first: later it says how far that has come. It is sent by then."""
    answer = functions.request("BulkFunction", sample("bulk.ok"))
    path = f"broadcasts/{answer['body']['id']}"
    stack.wait_until(lambda: api(stack, "GET", path)["state"] == "completed", timeout=60)
    return answer


def sample(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def automation_sample(name: str) -> Any:
    """The sample, triggered now: events older than 14 days are refused."""
    event = sample(name)
    body = json.loads(event["Records"][0]["body"])
    body["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    event["Records"][0]["body"] = json.dumps(body)
    return event


def said(text: str, message_id: str, number: str, at: str) -> Any:
    """The sample of a reply, with other words, from another number and at another time."""
    event = sample("record_reply.ok")
    notification = json.loads(event["Records"][0]["body"])
    message = json.loads(notification["Message"])
    message |= {"messageBody": text, "inboundMessageId": message_id, "originationNumber": number}
    event["Records"][0]["body"] = json.dumps({**notification, "Message": json.dumps(message), "Timestamp": at})
    return event


def api(stack: LocalStack, method: str, path: str, body: object = None) -> Any:
    """Return what the stack's own functions answer: what a built one wrote is seen by all."""
    headers = {
        "authorization": f"Bearer {stack.token('staff-7', ['demo'], SCOPES)}",
        "content-type": "application/json",
    }
    connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
    connection.request(method, f"{PRACTICE}/{path}", None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, f"{method} {path}: {answer.status} {text}"
    return json.loads(text)


def number(stack: LocalStack, phone_number: str) -> Any:
    """Return all that is known of a number."""
    return api(stack, "POST", "numbers/search", {"phone_number": phone_number})


def reviews(stack: LocalStack) -> list[Any]:
    """Return the replies that staff must read."""
    found: list[Any] = api(stack, "GET", "consent-reviews?limit=100")["items"]
    return found


def put_aside(stack: LocalStack, function: str, dead_letters: str, event: Any) -> str:
    """Return the reason with which the body of an event lies in a function's dead-letter queue, once it does."""
    queue = stack.describe()["functions"][function][dead_letters]
    body = event["Records"][0]["body"]

    def found() -> list[Any]:
        received = stack.client("sqs").receive_message(
            QueueUrl=queue, MessageAttributeNames=["reason"], MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message for message in received.get("Messages", []) if message["Body"] == body]

    message, *_ = stack.wait_until(found)
    return str(message["MessageAttributes"]["reason"]["StringValue"])


def published(stack: LocalStack, message_id: str, detail_type: str = "MessageRouted") -> list[dict[str, Any]]:
    """What was announced on the bus about a message, of one type of events, once something is."""
    wanted = (message_id, detail_type)
    return stack.wait_until(
        lambda: [each for each in stack.events if (each["detail"].get("message_id"), each["detail-type"]) == wanted]
    )


def sent(stack: LocalStack, patient_id: str, message_id: str) -> Any:
    """Return the decision of a message once it is sent."""

    def found() -> Any:
        decision = api(stack, "GET", f"patients/{patient_id}/decisions/{message_id}")
        return decision if decision["state"] == "sent" else None

    return stack.wait_until(found)


def accepted(stack: LocalStack, message_id: str) -> list[Any]:
    """Return what the simulator of AWS End User Messaging has accepted of a message."""
    with urllib.request.urlopen(f"{stack.sms_url}/accepted") as answer:
        return [each for each in json.load(answer) if each["context"]["message_id"] == message_id]


def bulk_item(stack: LocalStack, bulk_id: str, sort_key: str) -> Any:
    """Return an item of a broadcast, once it is there."""
    key = {"PK": {"S": f"PRACTICE#demo#BULK#{bulk_id}"}, "SK": {"S": sort_key}}
    table = stack.environment["TABLE_NAME"]
    return stack.wait_until(
        lambda: stack.client("dynamodb").get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
    )


def json_answer(status: int, body: Any, **headers: str) -> dict[str, Any]:
    """An answer of an HTTP function, its body parsed."""
    kind = "application/json" if status < 400 else "application/problem+json"
    return {
        "statusCode": status,
        "headers": {"Content-Type": kind, "Cache-Control": "no-store", **headers},
        "cookies": [],
        "isBase64Encoded": False,
        "body": body,
    }


def refusal(detail: str, *place: str, kind: str = "value_error") -> dict[str, Any]:
    """An answer that refuses one field of the body."""
    problem = {
        "type": "urn:patient-contact:problem:invalid",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": detail,
        "errors": [{"loc": ["body", *place], "type": kind, "msg": detail}],
    }
    return json_answer(422, problem)


def test_the_layer_is_small_enough(built: Built, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "layer"), "zip", built.layer))

    assert archive.stat().st_size <= 12 * 1024 * 1024


def test_the_layer_is_for_the_processor_of_the_functions(built: Built) -> None:
    machines = {path: struct.unpack("<H", path.read_bytes()[18:20])[0] for path in built.layer.rglob("*.so")}

    assert machines
    assert set(machines.values()) == {AARCH64}


def test_the_layer_brings_bytecode_that_time_stamps_do_not_spoil(built: Built) -> None:
    sources = list((built.layer / "python").rglob("*.py"))
    bytecode = [Path(importlib.util.cache_from_source(str(source))) for source in sources]
    headers = {path.read_bytes()[:8] for path in bytecode}

    # By its hash, and never checked against the source.
    assert headers == {importlib.util.MAGIC_NUMBER + struct.pack("<I", 0b01)}


def test_the_layer_says_nothing_of_the_machine_that_built_it(built: Built) -> None:
    own = (built.layer / "python" / "patient_contact").rglob("*.pyc")

    assert all(str(ROOT).encode() not in path.read_bytes() for path in own)


def test_every_function_is_built(built: Built) -> None:
    template = yaml_parse((ROOT / "template.yaml").read_text())
    names = [name for name, each in template["Resources"].items() if each["Type"] == "AWS::Serverless::Function"]

    assert {path.parent.name for path in built.functions.glob("*/handler.py")} == set(names)


def test_practices_registers_an_automation_and_says_whom_it_never_reaches(functions: Lambda) -> None:
    answer = functions.request("PracticesFunction", sample("practices.ok"))

    warnings = answer["body"].pop("warnings")
    assert answer == json_answer(
        200,
        {
            "automation_id": "text-reminder",
            "name": "Appointment reminder",
            "line": "main",
            "enabled": True,
            "messages": {
                "text": {"body": "Hi $first_name, see you at Demo Clinic on $when. Reply STOP to opt out."},
            },
            "channels": ["text"],
        },
    )
    codes = [each["code"] for each in warnings]
    assert codes == ["SMS_OPTED_OUT", "LANDLINE", "LINE_TYPE_UNKNOWN", "NO_VALID_PHONE"]


def test_practices_refuses_a_body_with_a_bare_dollar_sign(functions: Lambda) -> None:
    detail = "every $ begins a placeholder like $name or ${name}; write $$ for a dollar sign"

    answer = functions.request("PracticesFunction", sample("practices.bad"))

    assert answer == refusal(detail, "messages", "text", "body")


def test_preferences_sets_a_preferred_contact_and_announces_it(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.request("PreferencesFunction", sample("preferences.ok"))

    version, updated_at = answer["body"]["version"], answer["body"]["updated_at"]
    known = {"status": "valid", "suspect": False, "shared_with": 0}
    assert answer == json_answer(
        200,
        {
            "practice_id": "demo",
            "patient_id": "p-text-landline-email",
            "version": version,
            "phones": [
                {"number": "+15035550103", "line_type": "text_enabled", **known, "display": "TEXT"},
                {"number": "+15035550104", "line_type": "landline", **known, "display": "CALL"},
            ],
            "emails": [{"address": "sam@example.org", "status": "valid"}],
            "preferred_contact": {"number": "+15035550104", "display": "CALL", "on_file": True},
            "do_not_contact": False,
            "sms_consent": {"status": "Opted In", "numbers": []},
            "updated_at": updated_at,
            "updated_by": "staff-7",
        },
        ETag=f'"{version}"',
    )
    assert stack.wait_until(
        lambda: [each for each in stack.events if each["detail"].get("what") == "preferred_contact"]
    )


def test_preferences_refuses_an_email_address_as_preferred_contact(functions: Lambda) -> None:
    answer = functions.request("PreferencesFunction", sample("preferences.bad"))

    assert answer == refusal("Email is not supported as a preferred contact.", "phone_number")


def test_messages_routes_what_staff_wrote(written: Any, stack: LocalStack) -> None:
    body = dict(written["body"])
    decided_at, send_before, explanation = body["decided_at"], body["send_before"], body.pop("explanation")
    phone = "+15035550101"
    assert {**written, "body": body} == json_answer(
        202,
        {
            "message_id": "manual:sample-1",
            "decided_at": decided_at,
            "state": "routed",
            "sender": "service",
            "send_before": send_before,
            "life": [{"state": "routed", "at": decided_at}],
            "outcome": "deliver",
            "channel": "text",
            "destination": phone,
            "reason": "CHOSEN_BY_STAFF",
            "rule": "M",
            "steps": [{"rule": "M", "channel": "text", "phone": phone, "fired": True, "reason": "CHOSEN_BY_STAFF"}],
            "message": {"class": "manual", "channels": ["text"], "line": "main"},
            "policy": {
                "call_when_text_not_included": False,
                "email_when_no_phone_channel": False,
                "text_other_number": False,
                "opt_out_blocks_calls": False,
            },
            "facts": {
                "phones": [{"number": phone, "line_type": "text_enabled", "status": "valid"}],
                "emails": [],
                "preferred_contact": None,
                "do_not_contact": False,
                "sms_consent": [],
            },
        },
        Location="/v1/practices/demo/patients/p-text/decisions/manual:sample-1",
    )
    assert explanation.startswith("Texted")
    assert datetime.fromisoformat(send_before) - datetime.fromisoformat(decided_at) == timedelta(hours=24)
    (routed,) = published(stack, "manual:sample-1")
    assert routed["detail"]["sender"] == "service"


def test_messages_refuses_an_email_without_a_subject(functions: Lambda) -> None:
    answer = functions.request("MessagesFunction", sample("messages.bad"))

    assert answer == refusal("an email has a subject, a text or call has none")


def test_run_automation_decides_and_what_it_decided_is_announced(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.invoke("RunAutomationFunction", automation_sample("run_automation.ok"))

    assert answer == {"batchItemFailures": []}
    (routed,) = published(stack, "automation:appointment-reminder:sample-1")
    assert (routed["detail"]["sender"], routed["detail"]["channel"]) == ("service", "text")


def test_run_automation_puts_aside_what_it_can_never_fill(functions: Lambda, stack: LocalStack) -> None:
    event = automation_sample("run_automation.bad")

    answer = functions.invoke("RunAutomationFunction", event)

    assert answer == {"batchItemFailures": []}
    assert put_aside(stack, "RunAutomationFunction", "AUTOMATIONS_DLQ_URL", event) == "missing placeholder: when"


def test_consents_imports_a_file(imported: Any, functions: Lambda, stack: LocalStack) -> None:
    told = {
        "dry_run": False,
        "rows": 3,
        "changes": [
            {"csv_line": 2, "phone_number": "+15035550122", "line": "main", "from": "opted_in", "to": "opted_out"}
        ],
        "skipped": [],
        "unchanged": 1,
        "refused": [{"csv_line": 3, "column": "number", "message": "not a valid phone number"}],
    }

    again = functions.request("ConsentsFunction", sample("consents.ok"))

    assert imported == json_answer(200, told)
    assert again == json_answer(200, {**told, "changes": [], "unchanged": 2})
    (consent,) = number(stack, "+15035550122")["sms_consent"]
    assert consent == {
        "line": "main",
        "status": "opted_out",
        "source": "import",
        "actor": "engineer-1",
        "said_at": "2026-10-01T16:00:00.000000Z",
        "recorded_at": consent["recorded_at"],
    }


def test_consents_refuses_a_file_without_its_columns(functions: Lambda) -> None:
    detail = (
        "the first line is a header with the columns number,line,status,said_at,source, each once, separated by commas"
    )

    answer = functions.request("ConsentsFunction", sample("consents.bad"))

    assert answer == refusal(detail, kind="csv")


def test_bulk_starts_a_broadcast(broadcast: Any) -> None:
    body = broadcast["body"]
    counted = ("done", "routed", "suppressed", "refused", "sent", "failed", "unknown", "withdrawn", "handed_over")
    assert broadcast == json_answer(
        202,
        {
            "id": body["id"],
            "kind": "broadcast",
            "dry_run": False,
            "name": "Closed today",
            "line": "main",
            "channels": ["text"],
            "sender": "service",
            "created_at": body["created_at"],
            "created_by": "staff-7",
            "starts_at": None,
            "send_before": None,
            "state": "queued",
            "failure": None,
            "total": None,
            **dict.fromkeys(counted, 0),
            "by_channel": {},
            "by_reason": {},
            "rate": None,
            "estimated_end": None,
            "changes": [],
        },
        Location=f"/v1/practices/demo/broadcasts/{body['id']}",
    )


def test_bulk_refuses_an_id_that_is_none(functions: Lambda) -> None:
    detail = "1 to 128 of the characters A-Z a-z 0-9 . _ ~ - (a message id also :)"

    answer = functions.request("BulkFunction", sample("bulk.bad"))

    wanted = refusal(detail, kind="string_pattern_mismatch")
    wanted["body"]["errors"][0]["loc"] = ["path", "bulk_id"]
    assert answer == wanted


def test_start_bulk_cuts_a_list_that_lies_in_the_bucket(functions: Lambda, stack: LocalStack, broadcast: Any) -> None:
    # It was cut by the stack's own function, and is so once more, in the table alone, by the built one.
    bulk_id = broadcast["body"]["id"]
    stack.client("dynamodb").update_item(
        TableName=stack.environment["TABLE_NAME"],
        Key={"PK": {"S": f"PRACTICE#demo#BULK#{bulk_id}"}, "SK": {"S": "BULK"}},
        UpdateExpression="REMOVE read_run, chunks, #total SET #cursor = #list.#begin",
        ExpressionAttributeNames={"#total": "total", "#cursor": "cursor", "#list": "list", "#begin": "begin"},
    )

    answer = functions.invoke("StartBulkFunction", sample("start_bulk.ok"))

    assert answer == {"batchItemFailures": []}
    item = bulk_item(stack, bulk_id, "BULK")
    assert [item[name]["N"] for name in ("read_run", "chunks", "total")] == ["1", "1", "2"]


def test_route_batch_keeps_what_became_of_each_row(functions: Lambda, stack: LocalStack, broadcast: Any) -> None:
    # It was routed by the stack's own function: what that has kept is as if it were not there.
    bulk_id = broadcast["body"]["id"]
    before = bulk_item(stack, bulk_id, "CHUNK#000000")
    stack.client("dynamodb").delete_item(
        TableName=stack.environment["TABLE_NAME"], Key={name: before[name] for name in ("PK", "SK")}
    )

    answer = functions.invoke("RouteBatchFunction", sample("route_batch.ok"))

    assert answer == {"batchItemFailures": []}
    after = bulk_item(stack, bulk_id, "CHUNK#000000")
    assert (after["chunk"], after["per_outcome"]) == (before["chunk"], before["per_outcome"])
    assert after["results"] != before["results"]
    told = [
        (each["row"], each["patient_id"]) for each in api(stack, "GET", f"broadcasts/{bulk_id}/recipients")["items"]
    ]
    assert told == [(1, "p-text"), (2, "p-landline")]


@pytest.mark.parametrize(
    ("function", "name", "dead_letters", "reason"),
    [
        ("StartBulkFunction", "start_bulk.bad", "BULKS_DLQ_URL", "invalid detail: bulk_id"),
        ("RouteBatchFunction", "route_batch.bad", "CHUNKS_DLQ_URL", "invalid chunk: bulk_id"),
    ],
)
def test_what_is_of_no_bulk_is_put_aside(
    functions: Lambda, stack: LocalStack, function: str, name: str, dead_letters: str, reason: str
) -> None:
    event = sample(name)

    answer = functions.invoke(function, event)

    assert answer == {"batchItemFailures": []}
    assert put_aside(stack, function, dead_letters, event) == reason


def test_record_reply_opts_out_everyone_who_shares_the_phone(functions: Lambda, stack: LocalStack) -> None:
    phones = [{"number": "+15035550120", "line_type": "text_enabled"}]
    for patient_id in ("p-reply-1", "p-reply-2"):
        api(stack, "PUT", f"patients/{patient_id}/contact-info", {"phones": phones, "emails": []})

    answer = functions.invoke("RecordReplyFunction", sample("record_reply.ok"))

    assert answer == {"batchItemFailures": []}
    for patient_id in ("p-reply-1", "p-reply-2"):
        consent = api(stack, "GET", f"patients/{patient_id}")["sms_consent"]
        (opted_out,) = consent["numbers"]
        assert consent["status"] == "Opted Out of 1 numbers"
        assert opted_out == {
            "phone_number": "+15035550120",
            "line": "main",
            "status": "opted_out",
            "source": "keyword",
            "recorded_at": opted_out["recorded_at"],
        }


@pytest.mark.parametrize(
    ("message_id", "phone_number", "at", "due_on"),
    [
        ("thanksgiving", "+15035550124", "2026-11-23T17:00:00.000Z", "2026-12-08"),
        # The Fourth of July is a Saturday: nobody works on the Friday.
        ("independence-day", "+15035550125", "2026-06-22T17:00:00.000Z", "2026-07-07"),
        # It is still Friday in Los Angeles.
        ("new-year", "+15035550126", "2025-12-20T07:59:00.000Z", "2026-01-06"),
    ],
)
def test_record_reply_gives_staff_ten_business_days_for_what_may_be_an_opt_out(
    functions: Lambda, stack: LocalStack, message_id: str, phone_number: str, at: str, due_on: str
) -> None:
    answer = functions.invoke("RecordReplyFunction", said("please stop texting me", message_id, phone_number, at))

    assert answer == {"batchItemFailures": []}
    (review,) = [each for each in reviews(stack) if each["phone_number"] == phone_number]
    assert review == {
        "review_id": f"{due_on}~{message_id}",
        "due_on": due_on,
        "overdue": review["overdue"],
        "phone_number": phone_number,
        "line": "main",
        "wish": "opted_out",
        "text": "please stop texting me",
        "said_at": at.replace("000Z", "000000Z"),
        "recorded_at": review["recorded_at"],
        "sms_consent": "under_review",
        "patients": [],
        "more_patients": False,
    }


def test_record_reply_puts_aside_what_was_written_to_nobodys_line(functions: Lambda, stack: LocalStack) -> None:
    event = sample("record_reply.bad")

    answer = functions.invoke("RecordReplyFunction", event)

    assert answer == {"batchItemFailures": []}
    assert put_aside(stack, "RecordReplyFunction", "REPLIES_DLQ_URL", event) == "unknown line"


def test_record_receipt_suspects_a_number_that_was_not_reached(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.invoke("RecordReceiptFunction", sample("record_receipt.ok"))

    assert answer == {"batchItemFailures": []}
    known = number(stack, "+15035550121")
    evidence = {
        "source": "receipt",
        "code": "TEXT_CARRIER_UNREACHABLE",
        "at": "2026-11-23T17:00:00.000000Z",
        "provider_message_id": "00000000-0000-4000-8000-000000000006",
    }
    verdict = {"status": "valid", "suspect": True, "line_type": "unknown", "evidence": evidence}
    assert known == {
        "phone_number": "+15035550121",
        **verdict,
        "looked_up_at": None,
        "sms_consent": [],
        "patients": [],
        "more_patients": False,
        "changes": [{**verdict, "at": known["changes"][0]["at"]}],
        "history": [],
        "next": None,
    }


def test_record_receipt_puts_aside_what_names_no_message(functions: Lambda, stack: LocalStack) -> None:
    event = sample("record_receipt.bad")

    answer = functions.invoke("RecordReceiptFunction", event)

    assert answer == {"batchItemFailures": []}
    assert put_aside(stack, "RecordReceiptFunction", "RECEIPTS_DLQ_URL", event) == "invalid receipt: messageId"


def test_look_up_number_keeps_what_the_carrier_says(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.invoke("LookUpNumberFunction", sample("look_up_number.ok"))

    assert answer == {"batchItemFailures": []}
    known = number(stack, sms.LANDLINE)
    verdict = {"status": "valid", "suspect": False, "line_type": "landline", "evidence": None}
    assert known == {
        "phone_number": sms.LANDLINE,
        **verdict,
        "looked_up_at": known["looked_up_at"],
        "sms_consent": [],
        "patients": [],
        "more_patients": False,
        "changes": [
            {
                **verdict,
                "at": known["changes"][0]["at"],
                "evidence": {"source": "lookup", "code": "LANDLINE", "at": known["looked_up_at"]},
            }
        ],
        "history": [],
        "next": None,
    }


def test_look_up_number_puts_aside_what_is_no_number(functions: Lambda, stack: LocalStack) -> None:
    event = sample("look_up_number.bad")

    answer = functions.invoke("LookUpNumberFunction", event)

    assert answer == {"batchItemFailures": []}
    assert put_aside(stack, "LookUpNumberFunction", "LOOKUPS_DLQ_URL", event) == "invalid lookup: phone_number"


def test_send_message_sends_what_was_routed(functions: Lambda, stack: LocalStack) -> None:
    functions.invoke("RunAutomationFunction", automation_sample("run_automation.ok"))
    event = sample("send_message.ok")
    detail = json.loads(event["Records"][0]["body"])["detail"]
    patient_id, message_id = detail["patient_id"], detail["message_id"]
    # The stack's own function sends it; then it is routed once more, in the table alone, for the built one. Receipts of
    # the first attempt, which may yet come, say nothing of it.
    before = sent(stack, patient_id, message_id)
    stack.client("dynamodb").update_item(
        TableName=stack.environment["TABLE_NAME"],
        Key={"PK": {"S": f"PRACTICE#demo#PATIENT#{patient_id}"}, "SK": {"S": f"DECISION#{message_id}"}},
        UpdateExpression="SET #state = :routed REMOVE attempt",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":routed": {"S": "routed"}},
    )

    answer = functions.invoke("SendMessageFunction", event)

    assert answer == {"batchItemFailures": []}
    after = sent(stack, patient_id, message_id)
    assert after["attempt"] != before["attempt"]
    message = accepted(stack, message_id)[-1]
    assert message["context"] == {
        "practice_id": "demo",
        "patient_id": patient_id,
        "message_id": message_id,
        "attempt": after["attempt"],
    }
    assert message["message_id"] == after["provider_message_id"]
    assert (message["channel"], message["destination"]) == ("text", detail["destination"])
    assert message["body"] == detail["messages"]["text"]["body"]


def test_send_message_puts_aside_what_is_for_nobody(functions: Lambda, stack: LocalStack) -> None:
    event = sample("send_message.bad")

    answer = functions.invoke("SendMessageFunction", event)

    assert answer == {"batchItemFailures": []}
    assert put_aside(stack, "SendMessageFunction", "SENDS_DLQ_URL", event) == "invalid detail: all of it"


def test_watch_due_measures_what_is_overdue(functions: Lambda, stack: LocalStack) -> None:
    functions.invoke("RecordReplyFunction", said("stop it", "overdue", "+15035550127", "2026-01-05T17:00:00.000Z"))

    answer = functions.invoke("WatchDueFunction", sample("watch_due.ok"))

    printed = (functions.logs / "WatchDueFunction.log").read_text()
    measured = [json.loads(line) for line in printed.splitlines() if "ConsentReviewsOverdue" in line]
    assert answer is None
    assert measured[-1]["service"] == "watch_due"
    assert measured[-1]["ConsentReviewsOverdue"] == [sum(each["overdue"] for each in reviews(stack))]
    unknown = [json.loads(line) for line in printed.splitlines() if "DecisionsUnknown" in line]
    assert unknown[-1]["DecisionsUnknown"] == [0.0]


def test_publish_events_announces_a_decision(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.invoke("PublishEventsFunction", sample("publish_events.ok"))

    assert answer == {"batchItemFailures": []}
    (routed,) = published(stack, "automation:recall:sample-1")
    assert routed["source"] == "patient-contact.routing"
    assert routed["detail"]["messages"] == {"text": {"body": "Hi Pat, it is time for a check-up at Demo Clinic."}}


def test_publish_events_reports_the_record_whose_content_is_gone(functions: Lambda) -> None:
    event = sample("publish_events.bad")
    (record,) = event["Records"]

    answer = functions.invoke("PublishEventsFunction", event)

    assert answer == {"batchItemFailures": [{"itemIdentifier": record["dynamodb"]["SequenceNumber"]}]}


def test_no_function_prints_anything_of_a_patient(
    functions: Lambda, imported: Any, written: Any, broadcast: Any
) -> None:
    for name, kinds in {**HTTP_SAMPLES, **QUEUE_SAMPLES}.items():
        for kind in kinds:
            functions.invoke(name, sample(kind))
    functions.invoke("RunAutomationFunction", automation_sample("run_automation.bad"))
    functions.invoke("PublishEventsFunction", sample("publish_events.bad"))

    printed = "".join(path.read_text() for path in functions.logs.iterdir())
    assert '"message":"audit"' in printed
    assert not re.search(
        r"p-text|555-?0\d\d\d|@example|Hi Pat|front desk|\$50|[Ss]top|old reminder system|p-landline|is closed", printed
    )


def test_the_page_is_served_from_its_files_and_says_nothing_of_who_asked(functions: Lambda) -> None:
    signing_in = {**sample("page.ok"), "rawQueryString": "code=the-code&state=the-state"}
    page = functions.invoke("PageFunction", signing_in)
    assert (page["statusCode"], page["headers"]["content-encoding"]) == (200, "gzip")
    html = gzip.decompress(base64.b64decode(page["body"])).decode()
    path = re.findall(r'src="(/static/[^"]+)"', html)[0]
    version, file = path.split("/")[2:]
    event = {**sample("page.bad"), "rawPath": path, "pathParameters": {"version": version, "file": file}}
    script = functions.invoke("PageFunction", event)
    assert gzip.decompress(base64.b64decode(script["body"])) == (ROOT / "functions/page/static" / file).read_bytes()
    assert functions.invoke("PageFunction", sample("page.bad"))["statusCode"] == 404
    assert "the-code" not in (functions.logs / "PageFunction.log").read_text()


def test_an_event_that_no_function_can_read_is_an_error_that_the_runtime_reports(functions: Lambda) -> None:
    with pytest.raises(FunctionFailed):
        functions.invoke("RunAutomationFunction", {})
