"""A campaign, from its list to the last text, with crashes, duplicates, lost queues, redrives, replies and pauses.

Against the real functions on a simulated clock: what waits where is in lists, and a seed decides what happens next.
PATIENTS says how many are in the list (`make soak`: 20,000), SEED which run it is (each its own, and it says so).
"""

import json
import os
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore import exceptions as botocore_errors

from patient_contact import aws as clients
from patient_contact import lists
from tests.integration.bulk import CAMPAIGN, KEY, Work, put_patients, upload
from tests.integration.interleaving import Killed
from tests.integration.sending import now, response
from tests.integration.service import PRACTICE, Service, client_error, reply

PATIENTS = int(os.environ.get("PATIENTS", "400"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
# Who is in the list besides: twice, unknown, or not at all what a row is.
STRANGERS, AGAIN, NO_ROWS = 7, 25, 3
TOTAL = PATIENTS + STRANGERS + AGAIN + NO_ROWS

Body = str
# How often the process of a function ends on the way, and in how many calls of AWS at most.
KILLED = {"StartBulk": (0.3, 8), "RouteBatch": (0.3, 300), "SendMessage": (0.1, 60)}


def number(patient: int) -> str:
    return f"+1503{5_550_000 + patient:07}"


def phones(patient: int) -> list[dict[str, str]]:
    """Give the phones of a patient: of ten one has a landline, one none, and one has that of another."""
    shared = {"number": number(patient - (patient % 10 == 3))}
    return {1: [{**shared, "line_type": "landline"}], 2: []}.get(patient % 10, [shared])


class World:
    """What is under way, what has been accepted, and what goes wrong."""

    def __init__(self, service: Service, choice: random.Random, clock: time_machine.Traveller) -> None:
        self.service, self.choice, self.clock = service, choice, clock
        self.work = Work(service)
        self.slept = 0.0
        self.faults = True
        self.queues: dict[str, list[Body]] = {name: [] for name in ("StartBulk", "RouteBatch", "SendMessage")}
        self.dead: list[tuple[str, Body]] = []
        self.records: list[dict[str, Any]] = []
        self.past: list[dict[str, Any]] = []
        self.accepted: Counter[str] = Counter()
        self.accepted_to: list[str] = []
        self.stopped: dict[str, int] = {}
        self.broken: list[str] = []
        self.happened: Counter[str] = Counter()
        self._lock = threading.Lock()
        # How many more calls of AWS the invocation under way makes before its process ends, None: all.
        self._calls_left: int | None = None

    # Time.

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.clock.shift(timedelta(seconds=seconds))

    # What goes wrong with AWS.

    def at_call(self, **_: Any) -> None:
        """End the process before or after a call of AWS, if that was its last; whoever else it has ends with it."""
        with self._lock:
            if self._calls_left is None:
                return
            self._calls_left -= 1
            if self._calls_left < 0:
                raise Killed

    def run(self, function: str, *bodies: Body, receives: int = 1) -> list[Body] | None:
        """Run a function on a batch, and give what goes back to the queue; None when its process ended."""
        often, calls = KILLED[function]
        # The first that may be, is: so that each function is met in each run.
        ends = not self.happened[f"{function} killed"] or self.choice.random() < often
        self._calls_left = self.choice.randrange(calls) if self.faults and ends else None
        try:
            failed = self.service.run(f"{function}Function", *bodies, receives=receives)
        except Killed:
            self.happened[f"{function} killed"] += 1
            return None
        finally:
            self._calls_left = None
        return [bodies[place] for place in failed]

    def provider(self, request: Any, **_: Any) -> Any:
        """Accept a text, or lose the answer, or refuse it for now."""
        asked = json.loads(request.body)
        self.at_call()
        fault = self.choice.choices(("accepted", "lost", "throttled"), (20, 1, 2))[0] if self.faults else "accepted"
        if fault == "throttled":
            return response(request.url, 400, {"__type": "ThrottlingException"})
        with self._lock:
            self.accepted[asked["Context"]["patient_id"]] += 1
            if asked["DestinationPhoneNumber"] in self.stopped:
                self.broken.append(f"texted after STOP: {asked['DestinationPhoneNumber']}")
        self.at_call()
        if fault == "lost":
            raise botocore_errors.ReadTimeoutError(endpoint_url=request.url)
        return response(request.url, 200, {"MessageId": str(uuid.uuid4())})

    # What happens next.

    def step(self) -> None:
        does = self.choice.choices((self.start, self.route, self.publish, self.send, self.stop), (2, 6, 6, 8, 1))[0]
        does()
        self.happened[does.__name__] += 1
        self.sleep(self.choice.choice((0.1, 1.0)))

    def take(self, name: str, most: int) -> list[Body]:
        queue = self.queues[name]
        return [queue.pop(self.choice.randrange(len(queue))) for _ in range(min(most, len(queue)))]

    def deliver(self, name: str, most: int) -> None:
        """Deliver a batch: what fails comes again, and what is done may come again, too."""
        batch = self.take(name, most)
        if not batch:
            return
        back = self.run(name, *batch)
        if back is None:
            # Hidden until the process would have ended.
            self.sleep(61)
            back = batch
        elif self.faults and self.choice.random() < 0.1:
            back = [*back, *self.choice.sample(batch, 1)]
            self.happened["delivered twice"] += 1
        self.queues[name] += back

    def start(self) -> None:
        self.deliver("StartBulk", 1)
        self.queues["RouteBatch"] += self.work.chunks()
        self.queues["StartBulk"] += self.work.again()

    def route(self) -> None:
        if self.faults and self.choice.random() < 0.08:
            self.give_up()
        else:
            self.deliver("RouteBatch", self.choice.choice((1, 5)))

    def give_up(self) -> None:
        """The table throttles a chunk once too often: it is dead-lettered, and redriven another time."""
        for body in self.take("RouteBatch", 1):
            clients.dynamodb().meta.events.register_first("before-call.dynamodb.PutItem", throttle)
            try:
                assert self.service.run("RouteBatchFunction", body, receives=5) == []
            finally:
                clients.dynamodb().meta.events.unregister("before-call.dynamodb.PutItem", throttle)
            self.dead += self.service.dead_letters("CHUNKS")

    def redrive(self) -> None:
        self.happened["redriven"] += len(self.dead)
        self.queues["RouteBatch"] += [body for _, body in self.dead]
        self.dead = []

    def publish(self) -> None:
        """Announce some of what the stream holds, in its order; some of it twice."""
        self.records += self.service.new_stream_records()
        batch, self.records = self.records[:100], self.records[100:]
        if self.faults and self.past and self.choice.random() < 0.2:
            batch = [*self.choice.sample(self.past, min(20, len(self.past))), *batch]
        if not batch:
            return
        self.service.events.clear()
        self._calls_left = self.choice.randrange(10) if self.faults and self.choice.random() < 0.1 else None
        try:
            assert self.service.publish(batch) == []
        except Killed:
            self.happened["publish killed"] += 1
            self.records = [*batch, *self.records]
        finally:
            self._calls_left = None
        self.past = (self.past + batch)[-500:]
        for event in self.service.events:
            envelope = {"detail-type": event["DetailType"], "source": event["Source"]}
            body = json.dumps({"time": now(), "detail": json.loads(event["Detail"]), **envelope})
            if event["DetailType"] == "BulkQueued":
                self.queues["StartBulk"].append(body)
            elif event["DetailType"] == "MessageRouted":
                self.queues["SendMessage"].append(body)

    def send(self) -> None:
        for _ in range(3):
            self.deliver("SendMessage", 10)

    def stop(self) -> None:
        """A patient writes STOP: whoever has this number is not texted from now on."""
        who = number(self.choice.randrange(PATIENTS))
        if self.choice.random() < 0.5 or who in self.stopped:
            return
        assert self.service.record_replies(reply("STOP", str(uuid.uuid4()), at=now(), number=who)) == []
        self.stopped[who] = len(self.accepted_to)

    def lose_the_queues(self) -> None:
        """More time passes than queues keep what waits in them, but for what is dead-lettered, redriven before that."""
        self.sleep(20 * 86_400)
        for name in self.queues:
            self.happened[f"{name} lost"] += len(self.queues[name])
            self.queues[name] = []

    def is_quiet(self) -> bool:
        self.records += self.service.new_stream_records()
        return not (self.records or self.dead or any(self.queues.values()))

    def until(self, is_so: Any) -> None:
        for _ in range(20 * PATIENTS):
            if is_so():
                return
            for _ in range(5):
                self.step()
            if not any(self.queues.values()):
                self.redrive()
        raise AssertionError(f"does not come to an end: { {name: len(each) for name, each in self.queues.items()} }")


def throttle(**_: object) -> Any:
    return client_error("ThrottlingException")


@contextmanager
def world(service: Service) -> Iterator[World]:
    """A clinic with its patients, on a clock that stands still unless it is told to go on."""
    monotonic = time.monotonic
    began = monotonic()
    with ExitStack() as during:
        patch = during.enter_context(pytest.MonkeyPatch.context())
        clock = during.enter_context(time_machine.travel(datetime(2026, 11, 25, 18, tzinfo=UTC), tick=False))
        made = World(service, random.Random(SEED), clock)
        patch.setattr(time, "monotonic", lambda: began + made.slept)
        patch.setattr(time, "sleep", made.sleep)
        assert service.put("north", PRACTICE | {"sending": True}).status == 200
        put_patients(((f"p-{n}", phones(n)) for n in range(PATIENTS)), service.environment["TABLE_NAME"])
        service.new_stream_records()
        hooks: list[tuple[Any, str, Any]] = [
            (client, f"{moment}-call.{client.meta.service_model.service_id.hyphenize()}", made.at_call)
            for client in (clients.dynamodb(), clients.s3(), clients.sqs(), clients.events())
            for moment in ("before", "after")
        ]
        hooks.append((clients.sms_sender(), "before-send.pinpoint-sms-voice-v2", made.provider))
        for client, name, hook in hooks:
            client.meta.events.register_first(name, hook)
            during.callback(client.meta.events.unregister, name, hook)
        yield made


def test_a_campaign_texts_everybody_once_and_forgets_nobody_whatever_goes_wrong(service: Service) -> None:
    # Kept from what pytest captures: a run that passes says which it was, too.
    sys.__stderr__ and sys.__stderr__.write(f"SEED={SEED} PATIENTS={PATIENTS}\n")
    with world(service) as all_of_it:
        rows = [f"p-{n}" for n in range(PATIENTS)] + [f"stranger-{n}" for n in range(STRANGERS)]
        rows += [f"p-{all_of_it.choice.randrange(PATIENTS)}" for _ in range(AGAIN)]
        lines = [json.dumps({"patient_id": each, "context": {"first_name": "Pat"}}) for each in rows]
        lines += ["no row"] * NO_ROWS
        all_of_it.choice.shuffle(lines)
        key = upload(service, "\n".join(lines), "list.jsonl")
        started = service.post("north/campaigns", CAMPAIGN | {"list": {"key": key}}, headers=KEY)
        assert started.status == 202
        path = f"north/campaigns/{started.body['id']}"

        def progress() -> Any:
            return service.get(path).body

        # Paused twice: once while the list is being routed, once while texts wait to be sent.
        all_of_it.until(lambda: all_of_it.queues["RouteBatch"])
        all_of_it.give_up()
        all_of_it.until(lambda: len(all_of_it.queues["SendMessage"]) > 20)
        assert service.post(f"{path}/pause").body["state"] == "paused"
        all_of_it.lose_the_queues()
        assert service.post(f"{path}/resume").status == 200
        all_of_it.until(lambda: progress()["done"] > TOTAL * 0.6)
        assert service.post(f"{path}/pause").body["state"] == "paused"
        all_of_it.until(lambda: not any(all_of_it.queues.values()))
        assert service.post(f"{path}/resume").status == 200
        for _ in range(50):
            all_of_it.step()
        all_of_it.redrive()
        all_of_it.until(all_of_it.is_quiet)

        check(service, all_of_it, path)


def check(service: Service, all_of_it: World, path: str) -> None:
    """Hold what has become of everybody against what was accepted, and both against what is counted."""
    told = service.get(path).body
    assert all_of_it.broken == []
    assert [patient for patient, times in all_of_it.accepted.items() if times > 1] == []
    states: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for item in service.items():
        if item["SK"]["S"].startswith("DECISION#"):
            patient = item["PK"]["S"].split("#")[3]
            decided[patient] += 1
            states[item["state"]["S"]] += 1
            # What is `unknown` may have been accepted, or the process ended before.
            assert patient in all_of_it.accepted or item["state"]["S"] != "sent", patient
            assert patient not in all_of_it.accepted or item["state"]["S"] in ("sent", "unknown"), patient
    assert decided == Counter({f"p-{n}": 1 for n in range(PATIENTS)})
    assert states.keys() <= {"sent", "unknown", "withdrawn", "suppressed"}
    # Each row has its result, once.
    results = [
        each
        for chunk in service.items()
        if chunk["SK"]["S"].startswith("CHUNK#")
        for each in lists.get_results(chunk["results"]["S"])
    ]
    assert sorted(each["row"] for each in results) == list(range(1, TOTAL + 1))
    reasons = Counter(each["reason"] for each in results)
    assert (reasons["UNKNOWN_PATIENT"], reasons["DUPLICATE"], reasons["NOT_JSON"]) == (STRANGERS, AGAIN, NO_ROWS)
    assert told["by_reason"] == dict(reasons)
    outcomes = Counter(each["outcome"] for each in results)
    assert (told["routed"], told["suppressed"], told["refused"]) == (
        outcomes["deliver"],
        outcomes["suppress"],
        outcomes["refused"],
    )
    assert {name: told[name] for name in ("sent", "unknown", "withdrawn", "failed")} == {
        **{name: states[name] for name in ("sent", "unknown", "withdrawn")},
        "failed": 0,
    }
    assert told["routed"] == states["sent"] + states["unknown"] + states["withdrawn"]
    assert (told["state"], told["total"], told["done"]) == ("completed", TOTAL, TOTAL)
    # What the run was to meet was met.
    for what in ("RouteBatch killed", "SendMessage killed", "delivered twice", "redriven", "SendMessage lost"):
        assert all_of_it.happened[what], what
