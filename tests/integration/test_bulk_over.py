"""Bulks that are over before all is sent: what was begun of them comes to its end, and is counted."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore.exceptions import ReadTimeoutError

from functions.start_bulk.handler import RESERVE
from patient_contact import aws as clients
from patient_contact import bulks, sends, table
from patient_contact.bulk_list import MAX_PASSED_BY, Chunk
from tests.integration.bulk import CAMPAIGN, KEY, Work, csv_of, put_patients, upload
from tests.integration.sending import CLINIC
from tests.integration.service import Service, client_error, fault
from tests.integration.test_bulk_lists import answered, chunks_in, path_of, queueing, read, rows_of

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
PATIENTS = [f"q-{n}" for n in range(6)]
GONE = "there is no such list in the bucket"


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands still unless it is told to go on."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def work(service: Service, clock: time_machine.Traveller) -> Work:
    """A practice whose messages the service sends, with six patients who can be texted."""
    assert service.put("north", CLINIC).status == 200
    phones = [[{"number": f"+1503555{n:04}"}] for n in range(len(PATIENTS))]
    put_patients(zip(PATIENTS, phones, strict=True), service.environment["TABLE_NAME"])
    work = Work(service)
    work.publish()
    return work


def started(work: Work, **changes: object) -> str:
    """Start a campaign over all of them and over nobody, read its list, and give its path."""
    key = upload(work.service, csv_of([*PATIENTS, "stranger"]))
    answer = work.service.post("north/campaigns", {**CAMPAIGN, "list": {"key": key}, **changes}, headers=KEY)
    assert answer.status == 202, answer
    for event in work.queued():
        assert work.service.run("StartBulkFunction", event) == []
    return path_of(answer)


def delete_list(work: Work) -> None:
    clients.s3().delete_object(Bucket=work.service.environment["LISTS_BUCKET"], Key="lists/north/list.csv")


@contextmanager
def half_routed() -> Iterator[None]:
    """Let the table throttle whoever claims, after three of the claims."""
    claims = 0

    def at_put(asked: dict[str, Any]) -> Any:
        nonlocal claims
        claims += asked["Item"]["SK"]["S"].startswith("DECISION#")
        return client_error("ThrottlingException") if claims > 3 else None

    with fault(clients.dynamodb(), "PutItem", at_put):
        yield


def left_half_routed(work: Work) -> tuple[str, str]:
    """Start a campaign whose router ends on the way; give its path, and its only chunk."""
    path = started(work)
    (chunk,) = work.chunks()
    with half_routed():
        assert work.service.run("RouteBatchFunction", chunk) == [0]
    return path, chunk


def told(work: Work, path: str) -> dict[str, Any]:
    """State and counts, which agree with the rows that are listed and with the decisions in the table."""
    body = work.service.get(path).body
    reasons = Counter(reason for _, _, reason in rows_of(work, path))
    assert body["by_reason"] == reasons
    states = Counter(
        item["state"]["S"] for item in work.service.items() if item["SK"]["S"].startswith("DECISION#campaign:")
    )
    assert body["routed"] == sum(states.values())
    assert {name: body[name] for name in ("sent", "withdrawn", "unknown")} == {
        name: states[name] for name in ("sent", "withdrawn", "unknown")
    }
    names = ("state", "failure", "routed", "sent", "withdrawn", "unknown")
    return {name: body[name] for name in names if body[name]}


def cancel(work: Work, path: str) -> None:
    assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"


class TestHalfRouted:
    """A chunk whose router ended on the way, of a bulk that is then over.

    Who is claimed is sent or withdrawn, counted and listed, and nobody else is.
    """

    @pytest.mark.parametrize("first", ["walk", "chunk"])
    def test_cancelled_what_is_claimed_is_withdrawn(
        self, work: Work, clock: time_machine.Traveller, first: str
    ) -> None:
        path, chunk = left_half_routed(work)
        cancel(work, path)
        clock.shift(bulks.CHUNK_LEASE_SECONDS + 1)
        if first == "chunk":
            assert work.service.run("RouteBatchFunction", chunk) == []
        work.route()
        assert work.service.run("RouteBatchFunction", chunk) == []
        work.send()
        assert told(work, path) == {"state": "cancelled", "routed": 3, "withdrawn": 3}
        assert work.service.carriers.so_far() == []

    def test_whoever_may_still_be_at_it_is_waited_for(self, work: Work, clock: time_machine.Traveller) -> None:
        path, chunk = left_half_routed(work)
        cancel(work, path)
        clock.shift(bulks.CHUNK_LEASE_SECONDS - 1)
        assert work.service.run("RouteBatchFunction", chunk) == [0]
        clock.shift(2)
        assert work.service.run("RouteBatchFunction", chunk) == []
        work.send()
        assert told(work, path) == {"state": "cancelled", "routed": 3, "withdrawn": 3}

    def test_failed_what_is_claimed_is_sent(self, work: Work, clock: time_machine.Traveller) -> None:
        path, chunk = left_half_routed(work)
        delete_list(work)
        assert work.service.run("RouteBatchFunction", chunk) == []
        clock.shift(bulks.CHUNK_LEASE_SECONDS + 1)
        # As its message came, it saw that the list is gone: it comes again by whoever redrives it.
        assert work.service.run("RouteBatchFunction", chunk) == []
        work.send()
        assert told(work, path) == {"state": "failed", "failure": GONE, "routed": 3, "sent": 3}

    @pytest.mark.parametrize(
        ("action", "state", "became"), [("cancel", "cancelled", "withdrawn"), ("resume", "failed", "sent")]
    )
    def test_paused_for_longer_than_queues_keep_anything_and_its_list_gone(
        self, work: Work, clock: time_machine.Traveller, action: str, state: str, became: str
    ) -> None:
        path, _ = left_half_routed(work)
        assert work.service.post(f"{path}/pause").status == 200
        work.send()
        delete_list(work)
        clock.shift(6 * 86_400)
        assert work.service.post(f"{path}/{action}").status == 200
        work.route()
        work.send()
        failure = {"failure": GONE} if action == "resume" else {}
        assert told(work, path) == {"state": state, **failure, "routed": 3, became: 3}

    def test_of_a_practice_that_sends_itself_it_is_counted_as_handed_over(
        self, work: Work, clock: time_machine.Traveller
    ) -> None:
        assert work.service.put("north", CLINIC | {"sending": False}).status == 200
        path, _ = left_half_routed(work)
        cancel(work, path)
        clock.shift(bulks.CHUNK_LEASE_SECONDS + 1)
        work.route()
        assert told(work, path) == {"state": "cancelled", "routed": 3}
        assert work.service.get(path).body["handed_over"] == 3

    def test_whoever_begins_it_once_more_meanwhile_is_waited_for_and_nobody_counts_twice(
        self, work: Work, clock: time_machine.Traveller
    ) -> None:
        path, chunk = left_half_routed(work)
        clock.shift(bulks.CHUNK_LEASE_SECONDS + 1)
        bulk_id = path.rpartition("/")[2]
        (rows,) = chunks_in([chunk])
        cancel(work, path)
        overtaken: list[bool] = []

        def begun_again(_: object) -> None:
            # By one that saw the bulk running, and was slow.
            if not overtaken:
                overtaken.append(True)
                assert bulks.begin_chunk("north", bulk_id, rows, [*PATIENTS, "stranger"], 400)

        with fault(clients.dynamodb(), "TransactWriteItems", begun_again):
            assert work.service.run("RouteBatchFunction", chunk) == [0]
        clock.shift(bulks.CHUNK_LEASE_SECONDS + 1)
        assert work.service.run("RouteBatchFunction", chunk) == []
        # One that is slower still finds that it is over.
        assert not bulks.begin_chunk("north", bulk_id, rows, [*PATIENTS, "stranger"], 400)
        work.send()
        assert told(work, path) == {"state": "cancelled", "routed": 3, "withdrawn": 3}

    def test_until_it_is_routed_it_lists_nobody(self, work: Work) -> None:
        path, chunk = left_half_routed(work)
        assert rows_of(work, path) == rows_of(work, path, "unreachable") == []
        assert work.service.run("RouteBatchFunction", chunk) == []
        assert len(rows_of(work, path)) == 7


class TestCancelled:
    def test_a_send_whose_message_is_lost_comes_to_its_end(self, work: Work, clock: time_machine.Traveller) -> None:
        path = started(work)
        work.route()
        key = table.decision_key("north", "q-0", f"campaign:{path.rpartition('/')[2]}")
        item = table.get(key)
        assert item is not None
        # Its process ended between the claim and the provider's answer, and its queue has lost it.
        sends.claim(key, item, {})
        cancel(work, path)
        clock.shift(sends.LEASE_SECONDS + 1)
        work.route()
        work.send()
        assert told(work, path) == {"state": "cancelled", "routed": 6, "withdrawn": 5, "unknown": 1}

    @pytest.mark.parametrize(
        ("action", "state", "became"), [("cancel", "cancelled", "withdrawn"), ("resume", "completed", "withdrawn")]
    )
    def test_what_was_held_back_comes_to_its_end_though_its_line_is_gone_meanwhile(
        self, work: Work, action: str, state: str, became: str
    ) -> None:
        path = started(work, line="billing")
        for chunk in work.chunks():
            assert work.service.run("RouteBatchFunction", chunk) == []
        assert work.service.post(f"{path}/pause").status == 200
        work.send()
        assert work.service.put("north", {**CLINIC, "lines": CLINIC["lines"][:1]}).status == 200
        assert work.service.post(f"{path}/{action}").status == 200
        work.route()
        work.send()
        assert told(work, path) == {"state": state, "routed": 6, became: 6}
        assert work.service.dead_letters("CHUNKS") == []

    def test_its_list_is_not_read_again_and_what_was_not_begun_stays_so(self, work: Work) -> None:
        path = started(work)
        work.chunks()
        cancel(work, path)
        with fault(clients.s3(), "GetObject", lambda _: client_error("SlowDown")) as asked:
            assert work.route() == []
        assert (asked, told(work, path)) == ([], {"state": "cancelled"})

    def test_however_many_chunks_were_begun_each_is_looked_at_once_whenever_time_is_over(self, work: Work) -> None:
        path = started(work)
        work.chunks()
        bulk_id = path.rpartition("/")[2]
        every = [Chunk(number, 0, 1, number + 1, 1) for number in range(250)]
        for chunk in every:
            assert bulks.begin_chunk("north", bulk_id, chunk, ["q-0"], 400)
        cancel(work, path)
        (event,) = work.queued()
        bodies: list[Any] = [event]
        with queueing() as chunks:
            for invocation in range(3):
                (body,) = bodies
                read(body, [RESERVE - 1])
                bodies = work.again()
                assert len(chunks) == min(100 * (invocation + 1), 250)
        assert (bodies, chunks) == ([], every)

    def test_its_chunks_are_queued_again_where_the_queue_did_not_take_them(self, work: Work) -> None:
        path = started(work)
        work.route()
        cancel(work, path)
        (event,) = work.queued()
        with queueing(until=0):
            read(event, [RESERVE], failed=(0,))
        with queueing() as chunks:
            read(event, [RESERVE])
        assert [chunk.number for chunk in chunks] == [0]


class TestUnknown:
    def test_what_staff_say_was_not_sent_is_sent_and_until_then_it_is_not_completed(self, work: Work) -> None:
        path = started(work)
        work.route()
        lost: list[bool] = []

        def lose(request: Any, **_: object) -> None:
            if not lost:
                lost.append(True)
                raise ReadTimeoutError(endpoint_url=request.url)

        name = "before-send.pinpoint-sms-voice-v2"
        clients.sms_sender().meta.events.register_first(name, lose)
        try:
            work.send()
        finally:
            clients.sms_sender().meta.events.unregister(name, lose)
        assert told(work, path) == {"state": "completed", "routed": 6, "sent": 5, "unknown": 1}
        (unknown,) = work.service.get("north/decisions/unknown").body["items"]
        message = f"north/patients/{unknown['patient_id']}/decisions/{unknown['message_id']}"
        body = {"outcome": "not_sent", "attempt": unknown["attempt"]}
        assert work.service.post(f"{message}/resolve", body).status == 200
        routed = work.publish()
        assert told(work, path) == {"state": "running", "routed": 6, "sent": 5}
        for event in routed:
            if event["detail-type"] == "MessageRouted":
                assert work.service.run("SendMessageFunction", event) == []
        work.publish()
        assert told(work, path) == {"state": "completed", "routed": 6, "sent": 6}


class Endless:
    """A list of this line over and over, of which nobody has ever seen the whole."""

    def __init__(self, line: bytes, size: int) -> None:
        self._line, self._size = line, size

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        size -= size % len(self._line)
        piece = self._line * (size // len(self._line))
        for at in range(0, self._size, size):
            yield piece[: self._size - at]


class TestTooMuch:
    """A list that is too long is cut off, and says so; one that never comes to a line's end fails."""

    ROW = b'"q-0"\n'

    def over(
        self,
        work: Work,
        line: bytes,
        size: int,
        left: list[int],
        failed: tuple[int, ...] = (),
        cursor: dict[str, int] | None = None,
    ) -> str:
        """Start over a list of such lines, read it from there on, and give its path."""
        key = upload(work.service, self.ROW, "list.jsonl")
        answer = work.service.post("north/campaigns", {**CAMPAIGN, "list": {"key": key}}, headers=KEY)
        (event,) = work.queued()
        item = bulks.read("north", path_of(answer).rpartition("/")[2])
        assert item is not None
        table.put({**item, "cursor": cursor or item["cursor"], "list": {**item["list"], "size": size}})
        rest = size - (cursor or {"begin": 0})["begin"]
        with answered(clients.s3(), "GetObject", lambda _: {"Body": Endless(line, rest)}):
            read(event, left, failed)
        return path_of(answer)

    @pytest.mark.parametrize(("rows", "left_out"), [(5_000_000, 0), (5_000_001, 1), (5_000_099, 99), (5_000_150, 150)])
    def test_five_million_rows_are_read_and_those_behind_them_left_out(
        self, work: Work, rows: int, left_out: int
    ) -> None:
        cursor = {"begin": 4_990_000 * len(self.ROW), "number": 49_900, "first_row": 4_990_001}
        with queueing() as chunks:
            path = self.over(work, self.ROW, rows * len(self.ROW), [RESERVE], cursor=cursor)
        assert (len(chunks), chunks[-1].last_row) == (100, 5_000_000)
        answer = work.service.get(path).body
        failure = (
            "the list has more than 5,000,000 rows: those from row 5,000,001 on are left out" if left_out else None
        )
        assert (answer["state"], answer["failure"], answer["total"]) == ("running", failure, 5_000_000)

    def test_a_row_without_an_end_fails(self, work: Work) -> None:
        path = self.over(work, b"x", 4 * MAX_PASSED_BY, [RESERVE])
        answer = work.service.get(path).body
        assert (answer["state"], answer["failure"]) == ("failed", "row 1 is longer than 1 GB")

    def test_a_row_that_is_not_read_in_time_is_tried_again(self, work: Work) -> None:
        path = self.over(work, b"x", MAX_PASSED_BY // 2, [RESERVE, RESERVE, RESERVE - 1], failed=(0,))
        assert work.service.get(path).body["state"] == "running"


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState"])
@pytest.mark.parametrize("when", ["started", "cut", "routed"])
def test_a_list_that_may_not_be_read_says_so(work: Work, code: str, when: str) -> None:
    why = "the list may not be read: it is archived, or encrypted with another key"
    forbidden: Callable[[], Any] = lambda: fault(clients.s3(), "GetObject", lambda _: client_error(code, 403))  # noqa: E731
    key = upload(work.service, csv_of(PATIENTS))
    if when == "started":
        with forbidden():
            answer = work.service.post("north/campaigns", {**CAMPAIGN, "list": {"key": key}}, headers=KEY)
        assert (answer.status, answer.body["errors"][0]["msg"]) == (422, why)
        return
    answer = work.service.post("north/campaigns", {**CAMPAIGN, "list": {"key": key}}, headers=KEY)
    (event,) = work.queued()
    if when == "cut":
        with forbidden():
            assert work.service.run("StartBulkFunction", event) == []
    else:
        assert work.service.run("StartBulkFunction", event) == []
        with forbidden():
            assert work.service.run("RouteBatchFunction", *work.chunks()) == []
    body = work.service.get(path_of(answer)).body
    assert (body["state"], body["failure"]) == ("failed", why)


def test_a_quota_that_is_given_back_after_it_was_forgotten_is_forgotten_again(work: Work) -> None:
    body = {"name": "Closed", "messages": {"text": {"body": "Closed."}}, "patient_ids": PATIENTS}
    later = (NOON + timedelta(days=50)).isoformat()
    answer = work.service.post("north/broadcasts", body | {"starts_at": later}, headers=KEY)
    path = path_of(answer)
    assert work.service.post(f"{path}/pause").status == 200
    for item in work.service.items():
        if item["SK"]["S"].startswith("QUOTA#"):
            table.delete((item["PK"]["S"], item["SK"]["S"]))
    cancel(work, path)
    (quota,) = [item for item in work.service.items() if item["SK"]["S"].startswith("QUOTA#")]
    assert int(quota["expires_at"]["N"]) > (NOON + timedelta(days=60)).timestamp()
