"""What is deployed, built and run: each function by the real runtime client, against the local stack."""

import importlib.util
import json
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.artifact.build import ROOT, Built, build, missing
from tests.artifact.runtime_api import Function, FunctionFailed, running
from tests.local.stack import LocalStack, start

AARCH64 = 0xB7

HTTP_SAMPLES = {
    "PracticesFunction": ("practices.ok", "practices.bad"),
    "PreferencesFunction": ("preferences.ok", "preferences.bad"),
    "MessagesFunction": ("messages.ok", "messages.bad"),
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
        return running(command, folder, environment, own["Timeout"], self.logs / f"{name}.log")


@pytest.fixture(scope="module")
def functions(built: Built, stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lambda]:
    with ExitStack() as until_end:
        yield Lambda(built, stack, tmp_path_factory.mktemp("logs"), until_end)


def sample(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def automation_sample(name: str) -> Any:
    """The sample, triggered now: events older than 14 days are refused."""
    event = sample(name)
    body = json.loads(event["Records"][0]["body"])
    body["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    event["Records"][0]["body"] = json.dumps(body)
    return event


def published(stack: LocalStack, message_id: str) -> list[dict[str, Any]]:
    """What was announced on the bus about a message, once something is."""
    return stack.wait_until(lambda: [each for each in stack.events if each["detail"].get("message_id") == message_id])


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


def refusal(detail: str, *place: str) -> dict[str, Any]:
    """An answer that refuses one field of the body."""
    problem = {
        "type": "urn:patient-contact:problem:invalid",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": detail,
        "errors": [{"loc": ["body", *place], "type": "value_error", "msg": detail}],
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
    assert answer == json_answer(
        200,
        {
            "practice_id": "demo",
            "patient_id": "p-text-landline-email",
            "version": version,
            "phones": [
                {"number": "+15035550103", "line_type": "text_enabled", "status": "valid", "display": "TEXT"},
                {"number": "+15035550104", "line_type": "landline", "status": "valid", "display": "CALL"},
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


def test_messages_routes_what_staff_wrote(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.request("MessagesFunction", sample("messages.ok"))

    decided_at = answer["body"]["decided_at"]
    explanation = answer["body"].pop("explanation")
    phone = "+15035550101"
    assert answer == json_answer(
        202,
        {
            "message_id": "manual:sample-1",
            "decided_at": decided_at,
            "state": "handed_over",
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
    (routed,) = published(stack, "manual:sample-1")
    assert routed["detail-type"] == "MessageRouted"


def test_messages_refuses_an_email_without_a_subject(functions: Lambda) -> None:
    answer = functions.request("MessagesFunction", sample("messages.bad"))

    assert answer == refusal("an email has a subject, a text or call has none")


def test_run_automation_decides_and_what_it_decided_is_announced(functions: Lambda, stack: LocalStack) -> None:
    answer = functions.invoke("RunAutomationFunction", automation_sample("run_automation.ok"))

    assert answer == {"batchItemFailures": []}
    (routed,) = published(stack, "automation:appointment-reminder:sample-1")
    assert (routed["detail-type"], routed["detail"]["channel"]) == ("MessageRouted", "text")


def test_run_automation_puts_aside_what_it_can_never_fill(functions: Lambda, stack: LocalStack) -> None:
    event = automation_sample("run_automation.bad")
    queue = stack.describe()["functions"]["RunAutomationFunction"]["AUTOMATIONS_DLQ_URL"]

    answer = functions.invoke("RunAutomationFunction", event)

    body = event["Records"][0]["body"]

    def put_aside() -> list[Any]:
        received = stack.client("sqs").receive_message(QueueUrl=queue, MessageAttributeNames=["reason"])
        return [message for message in received.get("Messages", []) if message["Body"] == body]

    (message,) = stack.wait_until(put_aside)
    assert answer == {"batchItemFailures": []}
    assert message["MessageAttributes"]["reason"]["StringValue"] == "missing placeholder: when"


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


def test_no_function_prints_anything_of_a_patient(functions: Lambda) -> None:
    for name, kinds in HTTP_SAMPLES.items():
        for kind in kinds:
            functions.invoke(name, sample(kind))
    functions.invoke("RunAutomationFunction", automation_sample("run_automation.bad"))
    functions.invoke("PublishEventsFunction", sample("publish_events.bad"))

    printed = "".join(path.read_text() for path in functions.logs.iterdir())
    assert '"message":"audit"' in printed
    assert not re.search(r"p-text|5550\d\d\d|@example|Hi Pat|front desk|\$50", printed)


def test_an_event_that_no_function_can_read_is_an_error_that_the_runtime_reports(functions: Lambda) -> None:
    with pytest.raises(FunctionFailed):
        functions.invoke("RunAutomationFunction", {})
