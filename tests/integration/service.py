"""Drives the service in this process: requests through the local gateway, batches of records, faults of AWS.

The table, queues and bus are the template's, in moto, with no pollers: what a function gets is what a test hands to it.
"""

import base64
import copy
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import s3_backends
from moto.ses.models import ses_backends

from patient_contact import aws as clients
from patient_contact import bulks
from tests.local import api, aws, sms
from tests.local.runtime import ACCOUNT, Runtime, forget_clients
from tests.local.stream import Stream
from tests.local.template import EventSource, Function, Route, Template
from tests.local.tokens import Tokens

REGION = "us-east-1"
SCOPES = "practice/read practice/admin contact-info/write preferences/read preferences/write messages/send"
AWS_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
}

PRACTICE: dict[str, Any] = {
    "name": "North Clinic",
    "time_zone": "America/Los_Angeles",
    "default_country": "US",
    "lines": [
        {"id": "main", "name": "Main", "phone_number": "+15035559000"},
        {"id": "billing", "name": "Billing", "phone_number": "+15035559001"},
    ],
    "default_line": "main",
}
POLICY_OFF = {
    "call_when_text_not_included": False,
    "email_when_no_phone_channel": False,
    "text_other_number": False,
    "opt_out_blocks_calls": False,
}
# The address that SES sends from.
EMAIL_SENDER = "clinic@example.org"
CELL = "+15035550101"
LANDLINE = "+15035550102"
CONTACT_INFO = {
    "phones": [{"number": CELL, "line_type": "text_enabled"}, {"number": LANDLINE, "line_type": "landline"}],
    "emails": [{"address": "pat@example.org"}],
}
# What routing reads of a patient with that contact info.
FACTS: dict[str, Any] = {
    "phones": [
        {"number": CELL, "line_type": "text_enabled", "status": "valid"},
        {"number": LANDLINE, "line_type": "landline", "status": "valid"},
    ],
    "emails": [{"address": "pat@example.org", "status": "valid"}],
    "preferred_contact": None,
    "do_not_contact": False,
    "sms_consent": [],
}
MESSAGES = {
    "text": {"body": "Hi $first_name, see you on $when."},
    "call": {"body": "Hello $first_name, your appointment is on $when."},
    "email": {"subject": "Your appointment", "body": "Hello $first_name, see you on $when."},
}
REMINDER = {"name": "Reminder", "messages": MESSAGES}
CONTEXT = {"first_name": "Pat", "when": "Monday"}
MANUAL_TEXT = {"channel": "text", "body": "Please call us."}
BROADCAST = {
    "name": "Closed today",
    "messages": {"text": {"body": "We are closed today."}},
    "patient_ids": ["p-1"],
}
LIST = "lists/north/list.csv"
CAMPAIGN = {
    "name": "Flu shots",
    "messages": {"text": {"body": "Flu shots are here, $first_name."}},
    "list": {"key": LIST},
}
OTHERWISE = {"policy": POLICY_OFF | {"opt_out_blocks_calls": True}}

# A request that each route accepts: its body, if it takes one.
_PRACTICE = "/v1/practices/{practice_id}"
_PATIENT = f"{_PRACTICE}/patients/{{patient_id}}"
ACCEPTED: dict[str, dict[str, Any] | None] = {
    f"GET {_PRACTICE}": None,
    f"PUT {_PRACTICE}": PRACTICE,
    f"GET {_PRACTICE}/automations": None,
    f"GET {_PRACTICE}/automations/{{automation_id}}": None,
    f"PUT {_PRACTICE}/automations/{{automation_id}}": REMINDER,
    f"POST {_PRACTICE}/automations/{{automation_id}}/dry-run": {**OTHERWISE, "patient_ids": ["p-1"]},
    f"DELETE {_PRACTICE}/automations/{{automation_id}}": None,
    f"GET {_PRACTICE}/routing/truth-table": None,
    f"PUT {_PATIENT}/contact-info": CONTACT_INFO,
    f"GET {_PATIENT}": None,
    f"PUT {_PATIENT}/preferred-contact": {"phone_number": CELL},
    f"DELETE {_PATIENT}/preferred-contact": None,
    f"PUT {_PATIENT}/do-not-contact": {"enabled": False},
    f"PUT {_PATIENT}/sms-consent": {"phone_number": LANDLINE, "line": "main", "status": "opted_out"},
    f"GET {_PATIENT}/changes": None,
    f"GET {_PATIENT}/decisions": None,
    f"GET {_PATIENT}/decisions/{{message_id}}": None,
    f"POST {_PATIENT}/decisions/{{message_id}}/resolve": {"outcome": "sent"},
    f"GET {_PRACTICE}/decisions/unknown": None,
    f"POST {_PRACTICE}/patients/search": {"phone_number": CELL},
    f"POST {_PRACTICE}/routing/evaluate": {
        "message": {"class": "automation", "channels": ["text"]},
        "patient_id": "p-1",
    },
    f"POST {_PATIENT}/messages": MANUAL_TEXT,
    f"POST {_PRACTICE}/numbers/search": {"phone_number": CELL},
    f"GET {_PRACTICE}/reports/opt-outs": None,
    f"GET {_PRACTICE}/consent-reviews": None,
    f"POST {_PRACTICE}/consent-reviews/{{review_id}}": {"outcome": "not_a_request"},
    f"POST {_PRACTICE}/broadcasts": BROADCAST,
    f"POST {_PRACTICE}/campaigns": CAMPAIGN,
    f"POST {_PRACTICE}/broadcasts/{{bulk_id}}/dry-run": OTHERWISE,
    f"POST {_PRACTICE}/campaigns/{{bulk_id}}/dry-run": OTHERWISE,
    **{
        f"GET {_PRACTICE}/{path}/{{bulk_id}}{part}": None
        for path in ("broadcasts", "campaigns", "dry-runs")
        for part in ("", "/recipients", "/unreachable")
    },
    **{
        f"POST {_PRACTICE}/{path}/{{bulk_id}}/{action}": None
        for path in ("broadcasts", "campaigns")
        for action in ("pause", "resume", "cancel")
    },
    f"POST {_PRACTICE}/dry-runs/{{bulk_id}}/cancel": None,
}
# Those that take patient ids, of which 3,000 are no small body.
LONG = (f"POST {_PRACTICE}/broadcasts", f"POST {_PRACTICE}/automations/{{automation_id}}/dry-run")
# Takes CSV, where all others take JSON.
IMPORT = f"POST {_PRACTICE}/imports/consent"
CSV_HEADER = "number,line,status,said_at,source"
CSV_FILE = f"{CSV_HEADER}\n{LANDLINE},main,opted_out,2025-11-20T17:02:11Z,old system\n"
# All routes, with a body that each accepts.
EVERY_ROUTE: dict[str, Any] = {**ACCEPTED, IMPORT: CSV_FILE.encode()}
WITH_BODY = tuple(key for key, body in ACCEPTED.items() if body is not None)
PARAMETERS = {
    "practice_id": "north",
    "patient_id": "p-1",
    "automation_id": "reminder",
    "message_id": "manual:key-0",
    "review_id": "2026-12-10~message-1",
}
# The bulks of each kind that `north` has, by where they are found: each by a key that no other request has.
STARTED = {"broadcasts": "broadcasts", "campaigns": "campaigns", "dry-runs": "automations/reminder/dry-run"}
BULKS = {found: bulks.id_of("north", path, "key-0") for found, path in STARTED.items()}
# What a route asks of the bucket of lists, of those that ask for anything there.
OF_THE_BUCKET = [
    ("PutObject", f"POST {_PRACTICE}/broadcasts"),
    ("PutObject", f"POST {_PRACTICE}/automations/{{automation_id}}/dry-run"),
    ("HeadObject", f"POST {_PRACTICE}/campaigns"),
    ("GetObject", f"POST {_PRACTICE}/campaigns"),
    *(
        ("GetObject", f"GET {_PRACTICE}/{path}/{{bulk_id}}/{part}")
        for path in BULKS
        for part in ("recipients", "unreachable")
    ),
]


def parameters_of(key: str) -> dict[str, str]:
    """Give a value for each parameter that a path may have; which bulk it is depends on where that is found."""
    found = [each for each in BULKS if f"/{each}/" in key]
    return PARAMETERS | {"bulk_id": BULKS[found[0] if found else "broadcasts"]}


class Matching:
    """Equals every text that matches a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._pattern.fullmatch(other) is not None

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __repr__(self) -> str:
        return f"<{self._pattern.pattern}>"


TIME = Matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
CURSOR = Matching(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer with its JSON body read."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(compare=False)


@dataclass
class Context:
    """What Lambda passes beside the event; `left` are the milliseconds told, one after the other, the last for good."""

    left: list[int]
    function_name: str = "function"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function"
    aws_request_id: str = "request"

    def get_remaining_time_in_millis(self) -> int:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


class Service:
    """The deployed service."""

    def __init__(
        self, template: Template, deployed: aws.Deployed, events: list[dict[str, Any]], carriers: sms.Server
    ) -> None:
        played = template.service(deployed.outputs)
        self.functions: tuple[Function, ...] = played.functions
        self.routes: tuple[Route, ...] = played.routes
        self.sources: tuple[EventSource, ...] = played.event_sources
        self.resources = {**deployed.resources, **played.buses}
        self.environment = {name: value for each in self.functions for name, value in each.environment.items()}
        self.tokens = Tokens(played.issuer, played.audiences)
        self.runtime = Runtime(self.functions, REGION)
        self.events = events
        self.carriers = carriers
        self._gateway = api.Gateway(self.routes, self.tokens, self.runtime, dict)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        practice_ids: Iterable[str] = ("north",),
        scope: str = SCOPES,
        sub: str = "staff-7",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request to a path under /v1/practices/; a body of bytes goes as it is, any other as JSON."""
        token = self.tokens.issue(sub, practice_ids, scope)
        given = {"authorization": f"Bearer {token}", "content-type": "application/json", **(headers or {})}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = self._gateway.answer(_request(method, f"/v1/practices/{path}", given, data))
        return Answer(answer.status, _read(answer.headers, answer.body), answer.headers)

    def get(self, path: str, **more: Any) -> Answer:
        """Send a GET request."""
        return self.call("GET", path, **more)

    def put(self, path: str, body: object = None, **more: Any) -> Answer:
        """Send a PUT request."""
        return self.call("PUT", path, body, **more)

    def post(self, path: str, body: object = None, **more: Any) -> Answer:
        """Send a POST request."""
        return self.call("POST", path, body, **more)

    def delete(self, path: str, **more: Any) -> Answer:
        """Send a DELETE request."""
        return self.call("DELETE", path, **more)

    def request(self, key: str, body: object = None, *, query: str = "", **more: Any) -> Answer:
        """Send a request to a route by its key; other values of its parameters may be given by name."""
        ids = {name: more.pop(name, value) for name, value in parameters_of(key).items()}
        method, _, template = key.partition(" ")
        path = template.format(**{name: urllib.parse.quote(value, safe="") for name, value in ids.items()})
        headers = {"idempotency-key": "key-1", **more.pop("headers", {})}
        path = path.removeprefix("/v1/practices/") + query
        return self.call(method, path, body, headers=headers, **{"practice_ids": (ids["practice_id"],), **more})

    def request_event(self, key: str, **changes: object) -> dict[str, Any]:
        """Give the event of a request as a function sees it, with parts of it changed."""
        method, _, path = key.partition(" ")
        (route,) = (route for route in self.routes if route.key == key)
        parameters = {name: value for name, value in parameters_of(key).items() if f"{{{name}}}" in path}
        target = path.format(**parameters)
        claims = {"sub": "staff-7", "practice_ids": "north"}
        headers = {"content-type": "application/json", "idempotency-key": "key-1"}
        request = _request(method, target, headers, b"")
        return api.event(request, route, parameters, claims) | changes

    def invoke_route(self, key: str, event: dict[str, Any]) -> Answer:
        """Hand an event to the function of a route."""
        (route,) = (route for route in self.routes if route.key == key)
        answer = self.runtime.invoke(route.function, event)
        return Answer(answer["statusCode"], _read(answer["headers"], answer["body"].encode()), answer["headers"])

    def import_csv(self, text: str | bytes, *, dry_run: bool = False, **more: Any) -> Answer:
        """Send a file to be imported."""
        data = text.encode() if isinstance(text, str) else text
        path = f"north/imports/consent{'?dry_run=true' if dry_run else ''}"
        return self.post(path, data, headers={"content-type": "text/csv"}, **more)

    def run_automations(self, *bodies: object, receives: int = 1) -> list[int]:
        """Hand a batch to run_automation and give the places of the records that go back to the queue."""
        return self.run("RunAutomationFunction", *bodies, receives=receives)

    def record_replies(self, *bodies: object, receives: int = 1) -> list[int]:
        """Hand a batch to record_reply and give the places of the records that go back to the queue."""
        return self.run("RecordReplyFunction", *bodies, receives=receives)

    def record_receipts(self, *bodies: object, receives: int = 1) -> list[int]:
        """Hand a batch to record_receipt and give the places of the records that go back to the queue."""
        return self.run("RecordReceiptFunction", *bodies, receives=receives)

    def run(self, function: str, *bodies: object, receives: int = 1) -> list[int]:
        """Hand a batch to a function and give the places of the records that go back to the queue."""
        records = [sqs_record(place, body, receives) for place, body in enumerate(bodies)]
        answer = self.runtime.invoke(function, {"Records": records})
        return [int(failure["itemIdentifier"]) for failure in answer["batchItemFailures"]]

    def look_up_waiting(self, receives: int = 1) -> list[int]:
        """Hand what waits to be looked up to look_up_number, and give the places of what goes back to the queue."""
        return self.run("LookUpNumberFunction", *self.waiting_lookups(), receives=receives)

    def cut_rules(self) -> None:
        """Let no rule put events into queues: nobody takes them from there, and SQS slows with what waits in it."""
        for bus in ("default", self.environment["EVENT_BUS_NAME"]):
            for rule in clients.events().list_rules(EventBusName=bus)["Rules"]:
                named: dict[str, Any] = {"Rule": rule["Name"], "EventBusName": bus}
                targets = clients.events().list_targets_by_rule(**named)["Targets"]
                clients.events().remove_targets(**named, Ids=[target["Id"] for target in targets])

    def taken(self, queue: str) -> list[str]:
        """Take all messages out of a queue, by the name of its address in the environment, and give their bodies."""
        return [message["Body"] for message in self._received(queue)]

    def waiting_lookups(self) -> list[str]:
        """Take all messages out of the queue of numbers to be looked up."""
        return self.taken("LOOKUPS_QUEUE_URL")

    def dead_letters(self, of: str = "AUTOMATIONS") -> list[tuple[str, str]]:
        """Take all messages out of a dead-letter queue and give the reason and body of each."""
        messages = self._received(f"{of}_DLQ_URL")
        return [(each["MessageAttributes"]["reason"]["StringValue"], each["Body"]) for each in messages]

    def emails(self) -> list[tuple[str, str]]:
        """Give the destination and subject of each email that SES sent, newest last."""
        sent = ses_backends[ACCOUNT][REGION].sent_messages
        return [(", ".join(each.destinations["ToAddresses"]), each.subject) for each in sent]

    def _received(self, name: str) -> list[dict[str, Any]]:
        sqs, url = clients.sqs(), self.environment[name]
        found = []
        while messages := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["reason"]
        ).get("Messages"):
            for message in messages:
                found.append(dict(message))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def new_stream_records(self) -> list[dict[str, Any]]:
        """Take all records that are in the table's stream."""
        (arn,) = (source.arn for source in self.sources if ":dynamodb:" in source.arn)
        stream = Stream(arn)
        records, entries = stream.first(10_000)
        stream.forget(entries)
        return records

    def publish(self, records: list[dict[str, Any]]) -> list[str]:
        """Hand stream records to publish_events and give the sequence numbers that it answers as failed."""
        answer = self.runtime.invoke("PublishEventsFunction", {"Records": records})
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def items(self) -> list[dict[str, Any]]:
        """Give all items of the table, in DynamoDB's JSON, sorted by key."""
        with aws.TABLE_LOCK:
            items = [item.to_json()["Attributes"] for of_pk in self._table().items.values() for item in of_pk.values()]
        return sorted(items, key=lambda item: (item["PK"]["S"], item["SK"]["S"]))

    def objects(self) -> dict[str, bytes]:
        """Give all objects of the bucket of lists, by their names."""
        return {name: key.value for name, key in sorted(self._bucket().keys.items())}

    def snapshot(self) -> Any:
        """Give a copy of the whole table, in moto's own form, and of the bucket of lists."""
        with aws.TABLE_LOCK:
            return copy.deepcopy(self._table().items), self.objects()

    def restore(self, snapshot: Any) -> None:
        """Put such a copy in the place of table and bucket; the stream says nothing of it."""
        items, objects = snapshot
        with aws.TABLE_LOCK:
            self._table().items = copy.deepcopy(items)
        self._empty_bucket()
        bucket = self.environment["LISTS_BUCKET"]
        for name, data in objects.items():
            s3_backends[ACCOUNT]["aws"].put_object(bucket, name, data)

    def forget(self) -> None:
        """Empty the table, its stream, the bucket, the queues, and what was published, asked of carriers and sent."""
        with aws.TABLE_LOCK:
            self._table().items.clear()
        self._empty_bucket()
        self.new_stream_records()
        for name in self.environment:
            if name.endswith("_URL") and self.environment[name].startswith("http"):
                self._received(name)
        self.events.clear()
        self.carriers.forget()
        ses_backends[ACCOUNT][REGION].sent_messages.clear()

    def _empty_bucket(self) -> None:
        keys = self._bucket().keys
        for name in list(keys):
            keys.pop(name)

    def _bucket(self) -> Any:
        return s3_backends[ACCOUNT]["aws"].buckets[self.environment["LISTS_BUCKET"]]

    def _table(self) -> Any:
        return dynamodb_backends[ACCOUNT][REGION].get_table(self.environment["TABLE_NAME"])


@contextmanager
def deployed() -> Iterator[Service]:
    """Deploy the template's resources into moto, for as long as it is needed."""
    events: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as environment:
        for name, value in AWS_VARIABLES.items():
            environment.setenv(name, value)
        forget_clients()
        with aws.simulated(events.append, threading.Event()), simulated_carriers() as carriers:
            # Handlers make their clients when they are loaded.
            environment.setenv(sms.ENDPOINT, f"http://127.0.0.1:{carriers.server_address[1]}")
            ses_backends[ACCOUNT][REGION].verify_email_identity(EMAIL_SENDER)
            template = Template({"JwtIssuer": "https://issuer.local", "JwtAudience": "patient-contact"})
            service = Service(template, aws.deploy(template), events, carriers)
            service.cut_rules()
            for name, value in service.environment.items():
                # Where AWS is, is not theirs to say.
                if not name.startswith("AWS_"):
                    environment.setenv(name, value)
            yield service
        forget_clients()


@contextmanager
def simulated_carriers(on_receipt: sms.OnReceipt | None = None) -> Iterator[sms.Server]:
    """Serve the simulator of AWS End User Messaging on a port that is free; receipts come at once, if somebody asks."""
    with socket.create_server(("127.0.0.1", 0)) as listening, sms.Server(listening, on_receipt) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def reply(
    text: str | None = "STOP",
    message_id: str = "message-1",
    *,
    at: str = "2026-11-24T18:00:00.000Z",
    number: str = "+15035550101",
    line: str = "+15035559000",
    **changes: object,
) -> dict[str, Any]:
    """Give a reply as SNS puts it into the queue."""
    message = {
        "originationNumber": number,
        "destinationNumber": line,
        "messageKeyword": "KEYWORD_1",
        "messageBody": text,
        "inboundMessageId": message_id,
        "previousPublishedMessageId": "published-1",
        **changes,
    }
    return {
        "Type": "Notification",
        "MessageId": "00000000-0000-4000-8000-000000000000",
        "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:replies",
        "Message": json.dumps(message),
        "Timestamp": at,
    }


# One that staff must read: its review is the one in PARAMETERS. It is about the line `billing`, texts on `main` go on.
WAITING = reply("please stop texting me", at="2026-11-25T18:00:00.000Z", line="+15035559001")


def receipt(
    event_type: str = "TEXT_DELIVERED",
    message_id: str = "provider-1",
    *,
    at: int = 1_764_000_000_000,
    detail_type: str = "Text Message Delivery Status Updated",
    **detail: object,
) -> dict[str, Any]:
    """Give a receipt as EventBridge puts it into the queue; `at` is in milliseconds."""
    told = {
        "eventType": event_type,
        "eventVersion": "1.0",
        "eventTimestamp": at,
        "isFinal": True,
        "originationPhoneNumber": "+15035559000",
        "destinationPhoneNumber": "+15035550101",
        "messageId": message_id,
        **detail,
    }
    left = {name: value for name, value in told.items() if value is not None}
    return bus_event(left, **{"detail-type": detail_type, "source": "aws.sms-voice"})


def trigger(patient_id: object = "p-1", occurrence_id: object = "visit-1", **detail: object) -> dict[str, Any]:
    """Give an `AutomationTriggered` event as EventBridge puts it into the queue."""
    return bus_event(
        {
            "version": 1,
            "practice_id": "north",
            "patient_id": patient_id,
            "automation_id": "reminder",
            "occurrence_id": occurrence_id,
            "context": CONTEXT,
            **detail,
        }
    )


def bus_event(detail: object, **envelope: object) -> dict[str, Any]:
    """Give an event as EventBridge puts it into the queue."""
    return {
        "version": "0",
        "id": "e1",
        "detail-type": "AutomationTriggered",
        "source": "patient-contact.automations",
        "account": ACCOUNT,
        "time": time_of_event(),
        "region": REGION,
        "resources": [],
        "detail": detail,
        **envelope,
    }


def time_of_event(**ahead: float) -> str:
    """Give the time, or one ahead of it, as EventBridge writes it."""
    return (datetime.now(UTC) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")


def sqs_record(place: int, body: object, receives: int = 1) -> dict[str, Any]:
    """Give a record of an SQS batch; its message id is its place."""
    return {
        "messageId": str(place),
        "receiptHandle": "handle",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": str(receives)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }


def problem(status: int, slug: str, title: str, detail: str) -> Answer:
    """Give a problem document without fields."""
    body = {"type": f"urn:patient-contact:problem:{slug}", "title": title, "status": status, "detail": detail}
    return Answer(status, body, {})


def invalid(*errors: tuple[list[str | int], str, str]) -> Answer:
    """Give the problem document of fields (place, type, message) that were refused."""
    detail = errors[0][2] if len(errors) == 1 else f"{len(errors)} fields are not accepted."
    answer = problem(422, "invalid", "Unprocessable Content", detail)
    answer.body["errors"] = [{"loc": loc, "type": kind, "msg": message} for loc, kind, message in errors]
    return answer


def recorded(
    state: str, message_id: str = "manual:key-1", *, sender: str = "practice", **more: object
) -> dict[str, Any]:
    """Give what an answer says of a message beside the decision: where it stands, and how it came there."""
    first = "routed" if sender == "service" and state != "suppressed" else state
    return {
        "message_id": message_id,
        "decided_at": TIME,
        "state": state,
        "sender": sender,
        "life": [{"state": first, "at": TIME}],
        **more,
    }


UNKNOWN_PATIENT = problem(404, "unknown-patient", "Not Found", "There is no such patient.")
UNKNOWN_DECISION = problem(404, "unknown-decision", "Not Found", "There is no such decision.")
UNKNOWN_PRACTICE = problem(404, "unknown-practice", "Not Found", "There is no such practice.")
OTHER_PRACTICE = problem(403, "other-practice", "Forbidden", "The token is not for this practice.")
STALE = problem(412, "stale-version", "Precondition Failed", "The patient has changed since: read the facesheet again.")
TOO_LARGE = problem(413, "too-large", "Content Too Large", "A body has at most 256 KB.")
LONG_TOO_LARGE = problem(413, "too-large", "Content Too Large", "A body has at most 1024 KB.")
BUCKET_BUSY = problem(
    503, "try-again", "Service Unavailable", "The bucket of lists is busy. Nothing was lost: try again."
)
BUSY = problem(503, "busy", "Service Unavailable", "The table is busy. Nothing was lost: try again.")
FAILED = problem(
    500, "error", "Internal Server Error", "Something failed on our side. It is logged, without your data."
)


def client_error(code: str, status: int = 400) -> tuple[AWSResponse, dict[str, Any]]:
    """Give the answer of an AWS service that refuses a call for good, its own retries being over."""
    response = AWSResponse("https://aws.example", status, {}, None)  # type: ignore[arg-type]  # nobody reads the body
    return response, {"Error": {"Code": code, "Message": "refused"}, "ResponseMetadata": {"HTTPStatusCode": status}}


@contextmanager
def fault(
    client: Any, operation: str, answer: Callable[[dict[str, Any]], tuple[AWSResponse, dict[str, Any]] | None]
) -> Iterator[list[dict[str, Any]]]:
    """Let `answer` (given the request, if it is JSON) answer calls in AWS's place, where it will; yield requests."""
    requests: list[dict[str, Any]] = []
    is_json = client.meta.service_model.resolved_protocol == "json"

    def before_call(model: Any, params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]] | None:
        body = params["body"]
        requests.append(json.loads(body) if is_json and body[:1] in ("{", b"{") else {})
        return answer(requests[-1])

    name = f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}".rstrip(".")
    client.meta.events.register_first(name, before_call)
    try:
        yield requests
    finally:
        client.meta.events.unregister(name, before_call)


def throttled(operation: str = "") -> Any:
    """Let the table throttle an operation, or all of them."""
    return fault(clients.dynamodb(), operation, lambda _: client_error("ThrottlingException"))


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> api.Request:
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return api.Request(method, target, message, body)


def _read(headers: Mapping[str, str], body: bytes) -> Any:
    if not body:
        return None
    kind = {name.lower(): value for name, value in headers.items()}.get("content-type", "")
    return json.loads(body) if "json" in kind else body.decode()


def encoded(data: bytes) -> str:
    """Give bytes as API Gateway hands them to a function."""
    return base64.b64encode(data).decode()
