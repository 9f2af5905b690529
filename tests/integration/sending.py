"""Drives sending in tests: what was routed becomes the body of a queue's record, and providers answer as is asked."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from botocore.awsrequest import AWSResponse

from patient_contact import aws as clients
from tests.integration.service import (
    CELL,
    EMAIL_SENDER,
    FACTS,
    POLICY_OFF,
    PRACTICE,
    TIME,
    Matching,
    Service,
    bus_event,
    trigger,
)

_NORTH: dict[str, Any] = {**PRACTICE}
MAIN, BILLING = _NORTH["lines"]
# A practice whose messages the service sends.
CLINIC: dict[str, Any] = {
    **_NORTH,
    "sending": True,
    "lines": [
        {**MAIN, "origination_identity": "pool-main", "configuration_set": "receipts", "email_sender": EMAIL_SENDER},
        BILLING,
    ],
}
PATIENT = "north/patients/p-1"
VISIT = "automation:reminder:visit-1"
UUID = Matching(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# What is answered of the reminder of a visit, in part: that it is to be texted.
TEXTED: dict[str, Any] = {
    "outcome": "deliver",
    "channel": "text",
    "destination": CELL,
    "reason": "TEXT_ENABLED",
    "rule": "R2",
    "explanation": "Texted: +1 503-555-0101 can be texted on line main.",
    "steps": [
        {"rule": "R1", "channel": None, "phone": None, "fired": False, "reason": "DO_NOT_CONTACT_OFF"},
        {"rule": "R2", "channel": "text", "phone": CELL, "fired": True, "reason": "TEXT_ENABLED"},
    ],
    "message": {"class": "automation", "channels": ["text", "call", "email"], "line": "main"},
    "policy": POLICY_OFF,
    "facts": FACTS,
}
# Where it begins: it was decided, and waits.
ROUTED = {**TEXTED, "message_id": VISIT, "decided_at": TIME, "sender": "service", "send_before": TIME}

Request = tuple[str, dict[str, Any]]
# Given a request to a provider, its operation and what it asks: the answer in the provider's place, if there is one.
AnswerOf = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]] | None]


def published(service: Service) -> list[tuple[str, dict[str, Any]]]:
    """Publish all that the table's stream holds, and give the type and detail of each event, in order."""
    service.events.clear()
    assert service.publish(service.new_stream_records()) == []
    return [(event["DetailType"], json.loads(event["Detail"])) for event in service.events]


def to_send(service: Service) -> list[str]:
    """Publish, and give what the rule for messages of the service's own puts into the queue of send_message."""
    return taken_by_rule(published(service))


def taken_by_rule(events: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """Give the bodies of those of these events that the rule takes for send_message."""
    return [
        json.dumps(bus_event(detail, **{"detail-type": detail_type, "source": "patient-contact.routing"}))
        for detail_type, detail in events
        if detail_type == "MessageRouted" and detail["sender"] == "service"
    ]


def routed(service: Service, *events: dict[str, Any]) -> list[str]:
    """Trigger automations, `trigger()` unless others are given, and give the bodies that send_message gets."""
    assert service.run_automations(*(events or (trigger(),))) == []
    return to_send(service)


def send(service: Service, *bodies: str, receives: int = 1) -> list[int]:
    """Hand a batch to send_message, and give the places of the records that go back to the queue."""
    return service.run("SendMessageFunction", *bodies, receives=receives)


def decision(service: Service, message_id: str = VISIT, patient_id: str = "p-1") -> dict[str, Any]:
    """Give the decision for a message, as the API answers it."""
    answer = service.get(f"north/patients/{patient_id}/decisions/{message_id}")
    assert answer.status == 200, answer
    body: dict[str, Any] = answer.body
    return body


def states(service: Service, message_id: str = VISIT, patient_id: str = "p-1") -> list[str]:
    """Give the states that a message was in, the oldest first."""
    return [entry["state"] for entry in decision(service, message_id, patient_id)["life"]]


def leave_unknown(service: Service, key: str, practice_id: str = "north", patient_id: str = "p-1") -> None:
    """Let the provider of a manual text, with this idempotency key, never say whether it took it."""
    text, headers = {"channel": "text", "body": "Please call us."}, {"idempotency-key": key}
    path = f"{practice_id}/patients/{patient_id}/messages"
    assert service.post(path, text, headers=headers, practice_ids=[practice_id]).status == 202
    with wire(lambda *_: (500, {"__type": "InternalServerException"})):
        assert send(service, *to_send(service)) == []


def put_patient(service: Service, *numbers: str, patient_id: str = "p-1", email: str | None = None) -> None:
    """Put the contact info of a patient: these numbers, all of them mobile phones."""
    phones = [{"number": number, "line_type": "text_enabled"} for number in numbers]
    body = {"phones": phones, "emails": [] if email is None else [{"address": email}]}
    assert service.put(f"north/patients/{patient_id}/contact-info", body).status == 200


def now() -> str:
    """Give the time, as SNS writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def wire(answer: AnswerOf = lambda *_: None) -> Iterator[list[Request]]:
    """Watch requests to providers where they go on the wire, and let `answer` answer, or lose, those that it will."""
    requests: list[Request] = []

    def before_send(request: Any, **_: object) -> AWSResponse | None:
        target = request.headers.get("x-amz-target") or b""
        name = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2] or "SendEmail"
        asked = json.loads(request.body)
        requests.append((name, asked))
        answered = answer(name, asked)
        return None if answered is None else response(request.url, *answered)

    with ExitStack() as during:
        senders: tuple[Any, ...] = (clients.sms_sender(), clients.email())
        for client in senders:
            event = f"before-send.{client.meta.service_model.service_id.hyphenize()}"
            client.meta.events.register_first(event, before_send)
            during.callback(client.meta.events.unregister, event, before_send)
        yield requests


def response(url: str, status: int, body: dict[str, Any]) -> AWSResponse:
    """Give what a provider answers, as it is read from the wire; an error has its name in `__type`."""
    headers = {"content-type": "application/json", "x-amzn-errortype": body.get("__type", "")}
    made = AWSResponse(url, status, headers, io.BytesIO())  # type: ignore[arg-type]  # never read
    # The only way to give it a body without a socket.
    vars(made)["_content"] = json.dumps(body).encode()
    return made
