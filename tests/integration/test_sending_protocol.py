"""Sending, in every order of duplicates, crashes, lost answers, replies, receipts and staff, on a simulated clock.

Against the real functions, step by step, in schedules that a seed decides. SCHEDULES says how many are tried in all
(`make soak`: 2,000), SEED which (each run its own, and says so).
"""

import json
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore import exceptions as botocore_errors

from patient_contact import aws as clients
from tests.integration.interleaving import Interleaving, Invocation
from tests.integration.sending import now, response
from tests.integration.service import (
    CELL,
    EMAIL_SENDER,
    LANDLINE,
    MESSAGES,
    PRACTICE,
    Service,
    bus_event,
    receipt,
    reply,
    trigger,
)
from tests.local import sms

SCHEDULES = int(os.environ.get("SCHEDULES", "200"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
# Parts run at the same time.
PARTS = 4
STEPS = 45
# Rounds that bring everything to its end once faults are over.
ROUNDS = 12

LINES = {"main": "+15035559000", "billing": "+15035559001"}
CLINIC: dict[str, Any] = {
    **PRACTICE,
    "sending": True,
    "lines": [
        {**line, "email_sender": EMAIL_SENDER, "self_managed_opt_outs": True, "opt_out_list": "Default"}
        for line in PRACTICE["lines"]
    ],
}
FILES = {
    "p-1": {
        "phones": [{"number": CELL, "line_type": "text_enabled"}, {"number": LANDLINE, "line_type": "landline"}],
        "emails": [{"address": "pat@example.org"}],
    },
    "p-2": {"phones": [{"number": CELL, "line_type": "text_enabled"}], "emails": []},
    "p-3": {"phones": [], "emails": [{"address": "sam@example.org"}]},
}

# What a provider may do with a request, and how often.
FAULTS = {
    "accepted": 6,
    "accepted, answer lost": 4,
    "accepted, answers 500": 2,
    "never answers": 1,
    "throttled": 2,
    "never connected": 1,
    "opted out at the carrier": 1,
    "no number": 1,
    "refused for good": 1,
}

Message = tuple[str, str]


class Broken(AssertionError):
    """An invariant does not hold."""


class Schedule:
    """One run: patients, staff, time and faults, in an order that `choice` decides."""

    def __init__(self, service: Service, choice: random.Random, clock: time_machine.Traveller) -> None:
        self.service = service
        self.choice = choice
        self.clock = clock
        self.slept = 0.0
        self.interleaving = Interleaving()
        self.faults = True
        self.trace: list[str] = []
        self.queue: list[str] = []
        self.published: list[dict[str, Any]] = []
        self.triggered: list[dict[str, Any]] = []
        # What providers have accepted: which message, by which attempt; and what staff said was not.
        self.accepted: list[tuple[Message, str, dict[str, Any]]] = []
        self.not_sent: Counter[Message] = Counter()
        # What patients and staff have said, as it is recorded.
        self.out: set[tuple[str, str]] = set()
        self.do_not_contact: set[str] = set()
        self.deadlines: dict[Invocation, float] = {}
        self.resends: set[int] = set()

    # The run.

    def run(self) -> None:
        """Take steps with faults, then none, and look at what has become of everything."""
        actions: list[tuple[int, Callable[[], str]]] = [
            (6, self.trigger),
            (3, self.manual_message),
            (6, self.publish),
            (1, self.publish_again),
            (8, self.deliver),
            (40, self.go_on),
            (5, self.kill),
            (3, self.patient_writes),
            (2, self.staff_change_their_mind),
            (4, self.receipt),
            (3, self.resolve),
            (1, self.switch),
            (4, self.time_passes),
        ]
        weights, does = zip(*actions, strict=True)
        for _ in range(STEPS):
            (act,) = self.choice.choices(does, weights)
            self.trace.append(act())
            self.pass_time(0.01)
            self.check()
        self.end()
        self.check()
        self.check_the_end()

    def end(self) -> None:
        """Faults are over: what is under way ends, and what is queued comes until it is done."""
        self.faults = False
        self.set_sending(on=True)
        while self.interleaving.under_way:
            self.interleaving.step(self.interleaving.under_way[0])
        for _ in range(ROUNDS):
            self.publish()
            if not self.queue and not self.published_more():
                return
            waiting, self.queue = self.queue, []
            for start in range(0, len(waiting), 10):
                batch = waiting[start : start + 10]
                self.queue += [batch[place] for place in self.service.run("SendMessageFunction", *batch)]
            self.pass_time(200)
        raise Broken(f"still queued: {len(self.queue)}")

    def published_more(self) -> bool:
        self.publish()
        return bool(self.queue)

    # What happens.

    def trigger(self) -> str:
        visit = self.choice.choice(["visit-1", "visit-2"])
        event = trigger(self.choice.choice(list(FILES)), visit)
        self.triggered.append(event)
        assert self.service.run_automations(event) == []
        return f"triggered {event['detail']['patient_id']} {visit}"

    def manual_message(self) -> str:
        patient, channel = self.choice.choice([("p-1", "text"), ("p-1", "call"), ("p-2", "text"), ("p-3", "email")])
        body = {"channel": channel, "body": "Please call us."} | ({"subject": "Hello"} if channel == "email" else {})
        key = f"{channel}-{self.choice.randrange(2)}"
        answer = self.service.post(f"north/patients/{patient}/messages", body, headers={"idempotency-key": key})
        assert answer.status in (202, 409), answer
        return f"manual {patient} {key}: {answer.status}"

    def publish(self) -> str:
        records = self.service.new_stream_records()
        self.published += records
        return self._publish(records)

    def publish_again(self) -> str:
        some = self.choice.sample(self.published, min(3, len(self.published)))
        return "again: " + self._publish(some)

    def _publish(self, records: list[dict[str, Any]]) -> str:
        self.service.events.clear()
        assert self.service.publish(records) == []
        routed = [event for event in self.service.events if event["DetailType"] == "MessageRouted"]
        for event in routed:
            detail = json.loads(event["Detail"])
            if detail["sender"] == "service":
                envelope = {"detail-type": event["DetailType"], "source": event["Source"]}
                self.queue.append(json.dumps(bus_event(detail, **envelope)))
        return f"published {len(routed)}"

    def deliver(self) -> str:
        """A message is received; the queue keeps it until it is done, and may hand it out twice meanwhile."""
        if not self.queue or len(self.interleaving.under_way) >= 3:
            return "nothing to deliver"
        body = self.choice.choice(self.queue)

        def work() -> list[int]:
            failed = self.service.run("SendMessageFunction", body)
            if not failed and body in self.queue:
                self.queue.remove(body)
            return failed

        invocation = self.interleaving.start(work)
        self.deadlines[invocation] = time.monotonic() + 30
        return f"delivered {json.loads(body)['detail']['message_id']} to {id(invocation) % 1_000}"

    def go_on(self) -> str:
        return self._step(kill=False)

    def kill(self) -> str:
        return "killed: " + self._step(kill=True)

    def _step(self, *, kill: bool) -> str:
        if not self.interleaving.under_way:
            return "nobody to go on"
        invocation = self.choice.choice(self.interleaving.under_way)
        self.interleaving.step(invocation, kill=kill)
        return f"{id(invocation) % 1_000} is at {invocation.at}{', done' if invocation.is_done else ''}"

    def patient_writes(self) -> str:
        text, line = (
            self.choice.choice(["STOP", "STOP", "START", "HELP"]),
            self.choice.choice(["main", "main", "billing"]),
        )
        body = reply(text, str(uuid.UUID(int=self.choice.getrandbits(128))), at=now(), line=LINES[line])
        assert self.service.record_replies(body) == []
        if text == "STOP":
            self.out.add((CELL, line))
        elif text == "START":
            self.out.discard((CELL, line))
        return f"patient writes {text} to {line}"

    def staff_change_their_mind(self) -> str:
        patient, enabled = self.choice.choice(["p-1", "p-2"]), self.choice.random() < 0.5
        path = f"north/patients/{patient}/do-not-contact"
        assert self.service.put(path, {"enabled": enabled}).status == 200
        (self.do_not_contact.add if enabled else self.do_not_contact.discard)(patient)
        return f"do not contact of {patient} is {enabled}"

    def receipt(self) -> str:
        """A receipt of something accepted, at any time after, perhaps again."""
        told = [(message, attempt, asked) for message, attempt, asked in self.accepted if asked.get("context")]
        if not told:
            return "no receipts"
        message, attempt, asked = self.choice.choice(told)
        event_type = self.choice.choice(["TEXT_SENT", "TEXT_DELIVERED", "TEXT_UNREACHABLE"])
        if asked["channel"] == "call":
            event_type = self.choice.choice(["VOICE_INITIATED", "VOICE_COMPLETED", "VOICE_BUSY"])
        at = int(datetime.now(UTC).timestamp() * 1000)
        event = receipt(
            event_type,
            asked["message_id"],
            at=at,
            destinationPhoneNumber=asked["destination"],
            context=asked["context"],
        )
        assert self.service.record_receipts(event) == []
        return f"receipt {event_type} of {message} {attempt[:4]}"

    def resolve(self) -> str:
        listed = self.service.get("north/decisions/unknown").body["items"]
        if not listed:
            return "nothing to resolve"
        one, outcome = self.choice.choice(listed), self.choice.choice(["sent", "not_sent", "not_sent"])
        path = f"north/patients/{one['patient_id']}/decisions/{one['message_id']}/resolve"
        answer = self.service.post(path, {"outcome": outcome, "attempt": one["attempt"]})
        assert answer.status == 200, answer
        if outcome == "not_sent":
            self.not_sent[one["patient_id"], one["message_id"]] += 1
        return f"resolved {one['patient_id']} {one['message_id']}: {outcome}"

    def switch(self) -> str:
        on = self.choice.random() < 0.6
        self.set_sending(on=on)
        return f"sending is {'on' if on else 'off'}"

    def set_sending(self, *, on: bool) -> None:
        assert self.service.put("north", CLINIC | {"sending": on}).status == 200

    def time_passes(self) -> str:
        seconds = self.choice.choice([2, 6, 20, 40, 70, 200, 200, 400, 90_000])
        self.pass_time(seconds)
        return f"{seconds} s pass"

    def sleep(self, seconds: float) -> None:
        """Let time pass for somebody who waits."""
        self.slept += seconds
        self.clock.shift(timedelta(seconds=seconds))

    def pass_time(self, seconds: float) -> None:
        """Let time pass; an invocation that lasts longer than it may is ended, as Lambda ends it."""
        self.sleep(seconds)
        for invocation in list(self.interleaving.under_way):
            if time.monotonic() > self.deadlines[invocation]:
                self.interleaving.step(invocation, kill=True)

    # What AWS does.

    def before(self, operation: str, asked: dict[str, Any]) -> None:
        """Remember what an invocation's own read of the facts will find."""
        running = self.interleaving.running
        if running is None or operation != "BatchGetItem":
            return
        keys = [key["SK"]["S"] for each in asked["RequestItems"].values() for key in each["Keys"]]
        if "PATIENT" in keys:
            running.notes["do not contact"] = set(self.do_not_contact)
            running.notes["out"] = set(self.out)
        if "NUMBER" in keys:
            running.notes["out"] = set(self.out)

    def resend(self, attempts: int, operation: Any, **_: object) -> Any:
        """The answer to a write of the table is lost, and the SDK sends it again."""
        if operation.name != "UpdateItem" or attempts > 1 or not self.faults or self.interleaving.running is None:
            return None
        return 0 if self.choice.random() < 0.15 else None

    def provider(self, request: Any, **_: object) -> Any:
        """Answer a request to a provider on the wire, or lose it."""
        operation = request.headers.get("x-amz-target", b"") or b""
        name = operation.decode() if isinstance(operation, bytes) else operation
        name, asked = name.rpartition(".")[2] or "SendEmail", json.loads(request.body)
        fault = self.choice.choices(list(FAULTS), list(FAULTS.values()))[0] if self.faults else "accepted"
        if name == "DeleteOptedOutNumber":
            fault = "accepted"
        self.trace.append(f"  {name}: {fault}")
        self.interleaving.stop_at(f"{name} on the wire")
        if fault == "never answers":
            raise botocore_errors.ReadTimeoutError(endpoint_url=request.url)
        if fault == "never connected":
            raise botocore_errors.ConnectTimeoutError(endpoint_url=request.url)
        if refused := self.refused(name, fault):
            return response(request.url, *refused)
        try:
            body = self.accept(name, asked)
        except sms.Refused as refusal:
            return response(request.url, 400, {"__type": refusal.code, "message": str(refusal), **refusal.fields})
        self.interleaving.stop_at(f"{name} accepted")
        if fault == "accepted, answer lost":
            raise botocore_errors.ConnectionClosedError(endpoint_url=request.url)
        if fault == "accepted, answers 500":
            return response(request.url, 500, {"__type": "InternalServerException", "message": "failed"})
        return response(request.url, 200, body)

    def refused(self, name: str, fault: str) -> tuple[int, dict[str, Any]] | None:
        is_email = name == "SendEmail"
        if fault == "throttled":
            return (
                (429, {"__type": "TooManyRequestsException"}) if is_email else (400, {"__type": "ThrottlingException"})
            )
        if fault == "opted out at the carrier" and name == "SendTextMessage":
            reason = "DESTINATION_PHONE_NUMBER_OPTED_OUT"
            return 400, {"__type": "ConflictException", "Reason": reason, "message": "opted out"}
        if fault == "no number" and not is_email:
            fields = [{"Name": "DestinationPhoneNumber", "Message": "is none"}]
            reason = "INVALID_PARAMETER"
            return 400, {"__type": "ValidationException", "Reason": reason, "Fields": fields, "message": "no"}
        if fault == "refused for good":
            return 400, {"__type": "MessageRejected" if is_email else "AccessDeniedException", "message": "no"}
        return None

    def accept(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Accept a request, as the simulator does, and hold what was accepted against all that must hold."""
        if name == "SendEmail":
            attempt = asked["EmailTags"][0]["Value"]
            message = next(
                (item["PK"]["S"].split("#")[3], item["SK"]["S"].partition("#")[2])
                for item in self.service.items()
                if item.get("attempt", {}).get("S") == attempt
            )
            self.accepted.append((message, attempt, {"channel": "email"}))
            self.may_accept(message, None)
            return {"MessageId": str(uuid.UUID(int=self.choice.getrandbits(128)))}
        answered = self.service.carriers.answer(name, asked)
        if name == "DeleteOptedOutNumber":
            return answered
        entry = self.service.carriers.accepted[-1]
        context = entry["context"]
        message = (context.get("patient_id", entry["destination"]), context["message_id"])
        self.accepted.append((message, context["attempt"], entry))
        self.may_accept(message, entry)
        return answered

    def may_accept(self, message: Message, entry: dict[str, Any] | None) -> None:
        """Hold a message that is accepted against what its own read found."""
        running = self.interleaving.running
        as_it_is: dict[str, Any] = {"out": self.out, "do not contact": self.do_not_contact}
        notes = as_it_is if running is None else running.notes
        line = next((id_ for id_, number in LINES.items() if entry and entry["origination"] == number), "")
        if entry and entry["channel"] == "text" and (entry["destination"], line) in notes["out"]:
            confirms = message[1].startswith("confirmation:") and "opted in" not in entry["body"]
            if not confirms:
                self.trace.append(f"  BROKEN: {message} texted on {line} after STOP")
        if message[0] in notes["do not contact"] and message[1].startswith("automation:"):
            self.trace.append(f"  BROKEN: {message} sent in spite of Do Not Contact")

    # What must hold.

    def check(self) -> None:
        """At most one acceptance of each message; one more for each time that staff said it was not sent."""
        for broken in (line for line in self.trace if "BROKEN" in line):
            raise Broken(broken)
        for message, times in Counter(message for message, _, _ in self.accepted).items():
            if times > 1 + self.not_sent[message]:
                raise Broken(f"{message} was accepted {times} times")

    def check_the_end(self) -> None:
        """Nothing is stuck, nothing is forgotten, and what was accepted and answered is known to be sent."""
        known = Counter(message for message, _, _ in self.accepted)
        for item in self.service.items():
            kind, _, message_id = item["SK"]["S"].partition("#")
            if kind not in ("DECISION", "CONFIRMATION"):
                continue
            state = item["state"]["S"]
            if state in ("routed", "sending"):
                raise Broken(f"{message_id} is stuck in {state}")
            owner = item["PK"]["S"].split("#")[3]
            message = (owner, message_id if kind == "DECISION" else f"confirmation:{message_id}")
            if state == "sent" and not known[message] and not self.resolved_as_sent(item):
                raise Broken(f"{message} is sent, and was never accepted")
        for patient in FILES:
            for one in self.service.get(f"north/patients/{patient}/decisions?limit=100").body["items"]:
                times = [entry["at"] for entry in one["life"]]
                if times != sorted(times) or one["life"][-1]["state"] != one["state"]:
                    raise Broken(f"the life of {one['message_id']} does not end as it is: {one['life']}")

    def resolved_as_sent(self, item: dict[str, Any]) -> bool:
        return any("by" in entry["M"] for entry in item["life"]["L"])


@contextmanager
def scheduled(service: Service, empty: Any, seed: str) -> Iterator[Schedule]:
    """A schedule on a clock that stands still unless it is told to go on, with all calls watched."""
    service.restore(empty)
    service.new_stream_records()
    service.carriers.forget()
    monotonic = time.monotonic
    began = monotonic()
    with ExitStack() as during:
        patch = during.enter_context(pytest.MonkeyPatch.context())
        clock = during.enter_context(time_machine.travel(datetime(2026, 11, 25, 18, tzinfo=UTC), tick=False))
        schedule = Schedule(service, random.Random(seed), clock)
        patch.setattr(time, "monotonic", lambda: began + schedule.slept)
        patch.setattr(time, "sleep", schedule.sleep)
        during.enter_context(schedule.interleaving.watching(clients.dynamodb(), schedule.before))
        hooks: list[tuple[Any, str, Any]] = [
            (clients.sms_sender(), "before-send.pinpoint-sms-voice-v2", schedule.provider),
            (clients.email(), "before-send.sesv2", schedule.provider),
            (clients.dynamodb(), "needs-retry.dynamodb", schedule.resend),
        ]
        for client, name, hook in hooks:
            client.meta.events.register_first(name, hook)
            during.callback(client.meta.events.unregister, name, hook)
        try:
            yield schedule
        finally:
            # Where a schedule is broken, some are left, and the process would wait for them at its end.
            schedule.interleaving.kill_all()


@pytest.fixture(scope="module")
def clinic(once_deployed: Service) -> Any:
    """The table with a practice that sends, its automation and its patients."""
    assert once_deployed.put("north", CLINIC).status == 200
    reminder = {"name": "Reminder", "messages": MESSAGES}
    assert once_deployed.put("north/automations/reminder", reminder).status == 200
    for patient_id, file in FILES.items():
        assert once_deployed.put(f"north/patients/{patient_id}/contact-info", file).status == 200
    return once_deployed.snapshot()


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_sends_a_message_twice_or_after_stop_or_leaves_it_stuck(
    once_deployed: Service, clinic: Any, part: int
) -> None:
    # Kept from what pytest captures: a run that passes says which it was, too.
    sys.__stderr__ and sys.__stderr__.write(f"SEED={SEED} part {part}\n")
    for number in range(part, SCHEDULES, PARTS):
        with scheduled(once_deployed, clinic, f"{SEED}/{number}") as schedule:
            try:
                schedule.run()
            except Exception as error:
                told = "\n".join(schedule.trace)
                raise AssertionError(f"schedule {number} of SEED={SEED}: {error}\n{told}") from error
    once_deployed.forget()
