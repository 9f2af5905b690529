"""What the functions ask of AWS when everything runs, held against `template.yaml`'s policies.

Nothing else would notice a missing permission before AWS does, nor one that is not needed.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse

from functions.watch_due.handler import handler as watch_due
from tests.contract import rules
from tests.local import demo_data, sms
from tests.local.runtime import Context
from tests.local.stack import LocalStack, start

PRACTICE = "/v1/practices/demo"
PATIENT = f"{PRACTICE}/patients/p-text"
LOOKED_UP = f"{PRACTICE}/patients/p-looked-up"
OPT_OUT = {"phone_number": "+15035550101", "line": "main", "status": "opted_out"}
OPT_IN = {**OPT_OUT, "status": "opted_in", "evidence": "signed_form"}
MESSAGE = {"class": "automation", "channels": ["text"], "line": "main"}
LONG = "See you soon. " * 90
# One line goes, two come: consent is first recorded on `front` by an import, on `back` by a reply, on `main` by staff.
LINES = {"main": "+15035559000", "front": "+15035559002", "back": "+15035559003"}
LINES_MOVED = [{"id": id_, "name": id_, "phone_number": number} for id_, number in LINES.items()]
# Nothing is sent before it is the turn of that: what becomes of a message depends on what follows, else.
MOVED = {**demo_data.PRACTICE, "lines": LINES_MOVED, "sending": False}
# What the patient has who is sent a message by each channel and in each way, and what becomes of it.
SENDS = {
    "p-texted": ("text", "+15035550131", "sent"),
    "p-carrier": ("text", sms.OPTED_OUT_AT_CARRIER, "withdrawn"),
    "p-none": ("text", sms.NOT_A_NUMBER, "withdrawn"),
    "p-lost": ("text", sms.ANSWERS_500, "unknown"),
    "p-called": ("call", "+15035550132", "sent"),
    "p-emailed": ("email", None, "sent"),
}
RENAMED = {**MOVED, "time_zone": "America/New_York"}
IMPORTED = "number,line,status,said_at,source\n+15035550105,front,opted_out,2026-10-01T09:00:00Z,old system\n"
# A line on which nothing is said before a carrier says it; the service itself confirms keywords on it.
DESK = {
    "id": "desk",
    "name": "desk",
    "phone_number": "+15035559004",
    "email_sender": demo_data.EMAIL_SENDER,
    "self_managed_opt_outs": True,
    "opt_out_list": "Default",
}
STOPPED, ASKED, RETURNED = "+15035550101", "+15035550102", "+15035550103"

REQUESTS: list[tuple[str, str, object]] = [
    ("PUT", f"{PRACTICE}/automations/gone", demo_data.AUTOMATIONS["recall"]),
    ("GET", PRACTICE, None),
    ("GET", f"{PRACTICE}/automations", None),
    ("GET", f"{PRACTICE}/automations/gone", None),
    ("DELETE", f"{PRACTICE}/automations/gone", None),
    ("DELETE", f"{PRACTICE}/automations/balance-due", None),
    ("PUT", PRACTICE, MOVED),
    ("PUT", PRACTICE, RENAMED),
    ("GET", f"{PRACTICE}/routing/truth-table", None),
    ("GET", PATIENT, None),
    ("PUT", f"{PATIENT}/preferred-contact", {"phone_number": "+15035550101"}),
    ("PUT", f"{PATIENT}/do-not-contact", {"enabled": True}),
    ("PUT", f"{PATIENT}/sms-consent", OPT_OUT),
    ("PUT", f"{PATIENT}/sms-consent", OPT_IN),
    ("DELETE", f"{PATIENT}/preferred-contact", None),
    ("POST", f"{PRACTICE}/patients/search", {"phone_number": "+15035550101"}),
    ("POST", f"{PRACTICE}/routing/evaluate", {"patient_id": "p-text", "message": MESSAGE}),
    ("POST", f"{PATIENT}/messages", {"channel": "call", "body": LONG}),
    ("POST", f"{PATIENT}/messages", {"channel": "call", "body": LONG}),
    ("GET", f"{PATIENT}/changes", None),
    ("GET", f"{PATIENT}/decisions", None),
    ("GET", f"{PATIENT}/decisions/manual:once", None),
    ("PUT", f"{PATIENT}/contact-info", {"phones": [], "emails": []}),
    # The first lookup is throttled here, the second in the queue.
    ("PUT", f"{LOOKED_UP}/contact-info", {"phones": [{"number": sms.THROTTLES_TWICE}], "emails": []}),
    ("POST", f"{PRACTICE}/imports/consent?dry_run=true", IMPORTED),
    ("POST", f"{PRACTICE}/imports/consent", IMPORTED),
    ("POST", f"{PRACTICE}/numbers/search", {"phone_number": "+15035550105"}),
    ("GET", f"{PRACTICE}/reports/opt-outs", None),
]

# How a provider refuses a message for now.
BUSY: Any = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}

# The function on whose behalf a thread works that has no handler among its callers.
WORKS_FOR: ContextVar[str] = ContextVar("WORKS_FOR")


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


# A function, and what it asks for: of a provider; of which queue; of which object of a bucket, or of the bucket itself.
AskedProvider = tuple[str, str]
AskedQueue = tuple[str, str, str]
AskedObject = tuple[str, str, str]


@dataclass
class Everything:
    """All that the functions ask for, and whether providers accept texts meanwhile."""

    of_table: set[Asked] = field(default_factory=set)
    of_providers: set[AskedProvider] = field(default_factory=set)
    of_queues: set[AskedQueue] = field(default_factory=set)
    of_objects: set[AskedObject] = field(default_factory=set)
    is_busy: threading.Event = field(default_factory=threading.Event)

    def note(self, function: str, service: str, operation: str, params: dict[str, Any], names: dict[str, str]) -> None:
        """Note a call; `names` are the logical ids of resources by their physical ones."""
        if service == "dynamodb":
            for action, keys, index in requests_in(operation, params):
                self.of_table.add(Asked(function, action, keys, index))
        elif service in ("pinpoint-sms-voice-v2", "sesv2"):
            prefix = "ses" if service == "sesv2" else "sms-voice"
            self.of_providers.add((function, f"{prefix}:{operation}"))
        elif service == "sqs":
            action = f"sqs:{operation.removesuffix('Batch')}"
            self.of_queues.add((function, action, names[params["QueueUrl"]]))
        elif service == "s3":
            # To look at an object is to get it.
            action = f"s3:{operation.replace('Head', 'Get')}"
            self.of_objects.add((function, action, f"${{{names[params['Bucket']]}.Arn}}/{params['Key']}"))


@pytest.fixture(scope="module")
def everything(template: dict[str, Any]) -> Iterator[Everything]:
    """All that the functions ask for while each route, each queue and the stream are used."""
    folders = {Path(each["CodeUri"]).name: name for name, each in rules.functions(template).items()}
    asked = Everything()

    with pytest.MonkeyPatch.context() as patch, start(demo=False, retry_seconds=1) as stack:
        names = {physical: logical for logical, physical in stack.resources.items()}

        def ask(client: BaseClient, operation: str, params: dict[str, Any]) -> Any:
            service = client.meta.service_model.service_name
            function = None
            with suppress(LookupError):
                function = folders[calling_function()]
                asked.note(function, service, operation, params, names)
            if operation == "SendTextMessage" and asked.is_busy.is_set():
                raise ClientError(BUSY, operation)
            try:
                return make_api_call(client, operation, params)
            except ClientError as error:
                # What is not there is told to those who may list the bucket, and is forbidden to others.
                if function and service == "s3" and error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    asked.of_objects.add((function, "s3:ListBucket", names[params["Bucket"]]))
                raise

        demo_data.verify_sender()
        # All clients: two functions that begin at the same moment make one each.
        patch.setattr(BaseClient, "_make_api_call", ask)
        patch.setattr(ThreadPoolExecutor, "submit", submit)
        demo_data.load(stack.api_url, stack.token("demo", ["demo"], demo_data.SCOPE))
        for method, path, body in REQUESTS:
            call(stack, method, path, body)
        trigger(stack)
        look_up(stack)
        reply_and_read(stack)
        report(stack)
        send(stack)
        confirm(stack)
        send_to_lists(stack, asked)
        # Once at the start, and a while later again.
        watch_due({}, Context("WatchDueFunction", 128, "", "", time.monotonic() + 60))  # type: ignore[arg-type]  # as Lambda's
        yield asked


def test_every_request_to_the_table_is_allowed(everything: Everything, template: dict[str, Any]) -> None:
    refused = [
        each
        for each in everything.of_table
        if not rules.may(template, each.function, each.action, *each.keys, index=each.index)
    ]

    assert refused == []


def test_every_permission_on_the_table_is_used(everything: Everything, template: dict[str, Any]) -> None:
    unused = [
        f"{function}: {statement['Sid']} allows {action}"
        for function in rules.functions(template)
        for statement in rules.statements(template, function)
        for action in (each.removeprefix("dynamodb:") for each in rules.listed(statement["Action"]))
        if statement["Effect"] == "Allow" and "dynamodb:LeadingKeys" in str(statement.get("Condition"))
        if not any(
            (each.function, each.action) == (function, action)
            and rules.covers(statement, action, *each.keys, index=each.index)
            for each in everything.of_table
        )
    ]

    assert unused == []


def test_providers_are_asked_for_all_that_is_allowed_and_nothing_else(
    everything: Everything, template: dict[str, Any]
) -> None:
    allowed = {
        (function, action)
        for function in rules.functions(template)
        for statement in rules.statements(template, function)
        for action in rules.listed(statement["Action"])
        if action.partition(":")[0] in ("sms-voice", "ses")
    }

    assert everything.of_providers == allowed


def allowed_objects(template: dict[str, Any]) -> set[AskedObject]:
    """What functions may ask of the bucket of lists, and of which of its objects; no policy denies any of it."""
    return {
        (function, action, resource.get("Fn::Sub") or resource["Fn::GetAtt"][0])
        for function in rules.functions(template)
        for statement in rules.statements(template, function)
        for action in rules.listed(statement["Action"])
        if action.startswith("s3:")
        for resource in rules.listed(statement["Resource"])
        if "ListsBucket" in str(resource)
    }


def is_of(each: AskedObject, allowed: AskedObject) -> bool:
    """Whether what was asked for is what is allowed, or a part of it."""
    return each[:2] == allowed[:2] and fnmatchcase(each[2], allowed[2])


def test_every_request_to_the_bucket_of_lists_is_allowed(everything: Everything, template: dict[str, Any]) -> None:
    allowed = allowed_objects(template)

    assert [each for each in everything.of_objects if not any(is_of(each, one) for one in allowed)] == []


def test_every_permission_on_the_bucket_of_lists_is_used(everything: Everything, template: dict[str, Any]) -> None:
    asked = everything.of_objects

    assert [one for one in allowed_objects(template) if not any(is_of(each, one) for each in asked)] == []


def test_every_queue_that_is_sent_to_is_allowed(everything: Everything, template: dict[str, Any]) -> None:
    allowed = {
        (function, action, queue["Fn::GetAtt"][0])
        for function in rules.functions(template)
        for statement in rules.statements(template, function)
        for action in rules.listed(statement["Action"])
        if action == "sqs:SendMessage"
        for queue in rules.listed(statement["Resource"])
    }

    assert everything.of_queues <= allowed
    assert {queue for _, _, queue in everything.of_queues} == {"LookupsQueue", "BulksQueue", "ChunksQueue"}


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
        # The partition of the table or, through an index, that of the index.
        yield operation, (params["ExpressionAttributeValues"][":pk"]["S"],), params.get("IndexName")
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
    return WORKS_FOR.get()


make_api_call = BaseClient._make_api_call  # type: ignore[attr-defined]  # noqa: SLF001 - where all calls of all clients pass
original_submit = ThreadPoolExecutor.submit


def submit(executor: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Let a thread know for which function it works, and leave those alone that work for none."""
    context = copy_context()
    try:
        context.run(WORKS_FOR.set, calling_function())
    except LookupError:
        return original_submit(executor, work, *args, **kwargs)
    return original_submit(executor, context.run, work, *args, **kwargs)


def call(
    stack: LocalStack, method: str, path: str, body: object = None, key: str = "once", *, refused: bool = False
) -> Any:
    """Send a request, text as CSV and all else as JSON, and give the answer, which must be a good one, or must not."""
    scopes = "practice/read practice/admin contact-info/write preferences/read preferences/write messages/send"
    headers = {
        "authorization": f"Bearer {stack.token('staff-7', ['demo'], scopes)}",
        "content-type": "text/csv" if isinstance(body, str) else "application/json",
        "idempotency-key": key,
    }
    if path.endswith("sms-consent"):
        # A write that depends on the patient's version checks it in the transaction.
        headers["if-match"] = '"3"'
    connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
    connection.request(method, path, body if body is None or isinstance(body, str) else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert (answer.status >= 300) is refused, f"{method} {path}: {answer.status} {text}"
    return json.loads(text or "null")


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


def look_up(stack: LocalStack) -> None:
    """Wait until the number is looked up that the carrier did not answer for in time."""
    stack.wait_until(lambda: call(stack, "GET", LOOKED_UP)["phones"][0]["line_type"] == "text_enabled")


def reply_and_read(stack: LocalStack) -> None:
    """Reply with a keyword, with other words, and with a keyword that answers those; let staff read what is left."""

    def said(text: str, number: str, line: str) -> None:
        message = {
            "originationNumber": number,
            "destinationNumber": LINES[line],
            "messageBody": text,
            "inboundMessageId": f"reply-{text[:5].strip()}-{number.removeprefix('+')}",
        }
        stack.client("sns").publish(TopicArn=stack.resources["RepliesTopic"], Message=json.dumps(message))

    def reviews() -> list[Any]:
        found: list[Any] = call(stack, "GET", f"{PRACTICE}/consent-reviews")["items"]
        return found

    def consent(number: str) -> list[tuple[str, str]]:
        answer = call(stack, "POST", f"{PRACTICE}/numbers/search", {"phone_number": number})
        return [(each["line"], each["status"]) for each in answer["sms_consent"]]

    said("STOP", STOPPED, "back")
    said("please stop texting me", ASKED, "main")
    said("please stop texting me", RETURNED, "main")
    stack.wait_until(lambda: len(reviews()) == 2 and ("back", "opted_out") in consent(STOPPED))
    said("START", RETURNED, "main")
    stack.wait_until(lambda: consent(RETURNED) == [("main", "opted_in")])
    (left,) = reviews()
    call(stack, "POST", f"{PRACTICE}/consent-reviews/{left['review_id']}", {"outcome": "opted_out"})


def report(stack: LocalStack) -> None:
    """Report that texts did not arrive: one by the decision that it is about, one by its numbers alone."""
    detail = {"eventType": "TEXT_UNREACHABLE", "eventTimestamp": int(time.time() * 1000)}

    def is_suspect(number: str) -> bool:
        return bool(call(stack, "POST", f"{PRACTICE}/numbers/search", {"phone_number": number})["suspect"])

    context = {"practice_id": "demo", "patient_id": "p-text", "message_id": "manual:once"}
    numbers = {"destinationPhoneNumber": ASKED, "originationPhoneNumber": LINES["main"]}
    for about in ({"messageId": "text-1", "context": context}, {"messageId": "text-2", **numbers}):
        entry = {
            "Source": "aws.sms-voice",
            "DetailType": "Text Message Delivery Status Updated",
            "Detail": json.dumps({**detail, **about}),
        }
        stack.client("events").put_events(Entries=[entry])
    for number in (STOPPED, ASKED):
        stack.wait_until(partial(is_suspect, number))


def send(stack: LocalStack) -> None:
    """Send a message in each way that there is, let staff resolve the one that is left, and have receipts noted."""
    call(stack, "PUT", PRACTICE, {**RENAMED, "lines": [*LINES_MOVED, DESK], "sending": True})
    for patient_id, (channel, number, _) in SENDS.items():
        phones = [] if number is None else [{"number": number, "line_type": "text_enabled"}]
        emails = [{"address": "pat@example.org"}] if number is None else []
        path = f"{PRACTICE}/patients/{patient_id}"
        call(stack, "PUT", f"{path}/contact-info", {"phones": phones, "emails": emails})
        subject = {"subject": "Hello"} if channel == "email" else {}
        call(stack, "POST", f"{path}/messages", {"channel": channel, "body": "Hello", "line": "desk", **subject})

    def decision(patient_id: str) -> Any:
        return call(stack, "GET", f"{PRACTICE}/patients/{patient_id}/decisions/manual:once")

    def is_delivered(patient_id: str) -> bool:
        return bool(decision(patient_id).get("delivery", {}).get("status") == "delivered")

    stack.wait_until(lambda: all(decision(each)["state"] == state for each, (_, _, state) in SENDS.items()))
    (left,) = call(stack, "GET", f"{PRACTICE}/decisions/unknown")["items"]
    call(stack, "POST", f"{PRACTICE}/patients/{left['patient_id']}/decisions/manual:once/resolve", {"outcome": "sent"})
    for patient_id in ("p-texted", "p-called"):
        stack.wait_until(partial(is_delivered, patient_id))


def confirm(stack: LocalStack) -> None:
    """Say START where the carrier has the number on its list: it is taken off, and refused all the same."""
    number = sms.OPTED_OUT_AT_CARRIER
    message = {
        "originationNumber": number,
        "destinationNumber": DESK["phone_number"],
        "messageBody": "START",
        "inboundMessageId": "reply-START",
    }
    stack.client("sns").publish(TopicArn=stack.resources["RepliesTopic"], Message=json.dumps(message))

    def history() -> list[tuple[str, str]]:
        found = call(stack, "POST", f"{PRACTICE}/numbers/search", {"phone_number": number})["history"]
        return [(each["status"], each["source"]) for each in found]

    out, back = ("opted_out", "carrier"), ("opted_in", "keyword")
    stack.wait_until(lambda: history() == [out, back, out])


def send_to_lists(stack: LocalStack, asked: Everything) -> None:
    """Start a bulk of each kind, steer each while providers are busy, and lose the lists of some."""
    bucket, s3, sqs = stack.resources["ListsBucket"], stack.client("s3"), stack.client("sqs")

    def upload(name: str) -> dict[str, Any]:
        key = f"lists/demo/{name}"
        s3.put_object(Bucket=bucket, Key=key, Body=b"patient_id,first_name\np-texted,Pat\nnobody,Pat\n")
        return {"name": name, "messages": {"text": {"body": "Hi $first_name."}}, "list": {"key": key}}

    def start(path: str, body: object, key: str = "once") -> str:
        """Start a bulk, and give the path at which it is found."""
        told = call(stack, "POST", f"{PRACTICE}/{path}", body, key)
        return f"{PRACTICE}/{'dry-run' if told['dry_run'] else told['kind']}s/{told['id']}"

    def wait(path: str, **wanted: object) -> None:
        stack.wait_until(lambda: wanted.items() <= call(stack, "GET", path).items())

    def is_told(action: str) -> bool:
        key = "PRACTICE#demo#PATIENT#p-texted"
        return Asked("RouteBatchFunction", action, (key,)) in asked.of_table

    body = {"name": "Closed", "messages": {"text": {"body": "We are closed today."}}, "patient_ids": ["p-texted"]}
    broadcast = start("broadcasts", body)
    wait(broadcast, state="completed", sent=1)
    uploaded = upload("flu.csv")
    again = f"broadcasts/{broadcast.rpartition('/')[2]}/dry-run"
    for path, over in ((again, {}), ("automations/recall/dry-run", {"list": uploaded["list"]})):
        tried = start(path, over)
        wait(tried, state="completed", routed=1)
        for part in ("recipients", "unreachable"):
            call(stack, "GET", f"{tried}/{part}")

    asked.is_busy.set()
    campaign = start("campaigns", uploaded)
    wait(campaign, state="running", done=2)
    call(stack, "POST", f"{campaign}/pause")
    call(stack, "POST", f"{campaign}/resume")
    # What is routed is announced again.
    stack.wait_until(lambda: is_told("UpdateItem"))
    call(stack, "POST", f"{campaign}/cancel")
    wait(campaign, state="cancelled", withdrawn=1)
    # One whose list is lost while it is paused: what it has routed goes on all the same.
    held = start("campaigns", upload("held.csv"), "held")
    wait(held, state="running", done=2)
    call(stack, "POST", f"{held}/pause")
    s3.delete_object(Bucket=bucket, Key="lists/demo/held.csv")
    call(stack, "POST", f"{held}/resume")
    wait(held, state="failed")
    asked.is_busy.clear()

    # A list that is lost before it is looked at, before it is read, and after it was read.
    nowhere = {**uploaded, "list": {"key": "lists/demo/none.csv"}}
    call(stack, "POST", f"{PRACTICE}/campaigns", nowhere, "none", refused=True)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    lost = start("campaigns", {**upload("lost.csv"), "starts_at": soon}, "twice")
    s3.delete_object(Bucket=bucket, Key="lists/demo/lost.csv")
    wait(lost, state="failed")
    for each in s3.list_objects_v2(Bucket=bucket, Prefix="broadcasts/demo/")["Contents"]:
        s3.delete_object(Bucket=bucket, Key=each["Key"])
    rows = {"number": 7, "begin": 0, "end": 10, "first_row": 1, "rows": 1, "too_long": False}
    chunk = {"version": 1, "practice_id": "demo", "bulk_id": broadcast.rpartition("/")[2], "run": 1, "rows": rows}
    sqs.send_message(QueueUrl=stack.environment["CHUNKS_QUEUE_URL"], MessageBody=json.dumps(chunk))
    wait(broadcast, state="failed")
