"""Lists of patients in the bucket: the bad ones, those that change while they are read, long ones, and those for later.

Each is refused at once, with what is wrong with it, or fails with its reason; or its bad rows are told, one by one,
while the good ones go on.
"""

import gc
import itertools
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError, ResponseStreamingError

from functions.start_bulk.handler import KEEP_EVERY, LONGEST_DELAY, RESERVE, TOGETHER, handler
from patient_contact import aws as clients
from patient_contact import bulks, clock, table
from patient_contact.bulk_list import CHUNK_ROWS, MAX_ROW, SENTENCES, Chunk, Cutter, Place, Refusal
from patient_contact.lists import PIECE
from patient_contact.triggers import BulkQueued, ToRoute
from tests.integration.bulk import BROADCAST, CAMPAIGN, KEY, Work, csv_of, upload
from tests.integration.sending import CLINIC
from tests.integration.service import (
    CONTACT_INFO,
    Answer,
    Context,
    Service,
    client_error,
    fault,
    invalid,
    problem,
    sqs_record,
)

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
MB = 1024 * 1024
HEADER = "patient_id,first_name\n"
GONE = "there is no such list in the bucket"
REPLACED = "the list has been replaced since it was started"
BUSY = problem(503, "try-again", "Service Unavailable", "The bucket of lists is busy. Nothing was lost: try again.")


@pytest.fixture
def work(north: Service) -> Work:
    """What goes to and fro between the functions, for a practice with the patients `p-1` to `p-3`."""
    for name in ("p-2", "p-3"):
        assert north.put(f"north/patients/{name}/contact-info", CONTACT_INFO).status == 200
    work = Work(north)
    work.publish()
    return work


def start(work: Work, key: str, **changes: object) -> Answer:
    """Ask for a campaign over a list."""
    return work.service.post("north/campaigns", {**CAMPAIGN, "list": {"key": key}, **changes}, headers=KEY)


def started(work: Work, text: str | bytes, name: str = "list.csv", **changes: object) -> str:
    """Upload a list, start a campaign over it, and give its path."""
    answer = start(work, upload(work.service, text, name), **changes)
    assert answer.status == 202, answer
    return path_of(answer)


def path_of(answer: Answer) -> str:
    return answer.headers["location"].removeprefix("/v1/practices/")


def told(work: Work, path: str) -> dict[str, Any]:
    """How far it has come, without what is the same for all, and without its times; its counts add up."""
    answer = work.service.get(path)
    assert answer.status == 200, answer
    body: dict[str, Any] = answer.body
    assert body["done"] == body["routed"] + body["suppressed"] + body["refused"] == sum(body["by_reason"].values())
    assert body["routed"] == sum(body["by_channel"].values())
    if body["state"] == "completed":
        assert body["done"] == body["total"]
    names = ("state", "failure", "total", "done", "routed", "suppressed", "refused", "handed_over", "by_reason")
    return {name: body[name] for name in names}


def completed(by_reason: Mapping[str, int], texted: int) -> dict[str, Any]:
    """What is told of one that has come to its end: who is not texted is in no row, or is unknown."""
    total = sum(by_reason.values())
    return {
        "state": "completed",
        "failure": None,
        "total": total,
        "done": total,
        "routed": texted,
        "suppressed": 0,
        "refused": total - texted,
        "handed_over": texted,
        "by_reason": dict(by_reason),
    }


def failed(why: str, total: int | None = None, texted: int = 0) -> dict[str, Any]:
    """What is told of one whose list was lost after so many rows were routed."""
    by_reason = {"TEXT_ENABLED": texted} if texted else {}
    return {**completed(by_reason, texted), "state": "failed", "failure": why, "total": total}


def rows_of(work: Work, path: str, which: str = "recipients") -> list[tuple[int, str | None, str]]:
    """Row, patient and reason of all rows of a bulk, or of those that reach nobody."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = work.service.get(f"{path}/{which}?limit=1000{cursor}")
        assert answer.status == 200, answer
        found += answer.body["items"]
        if answer.body["next"] is None:
            break
        cursor = f"&cursor={answer.body['next']}"
    for each in found:
        if each["outcome"] == "refused":
            assert (each["explanation"], each["channel"]) == (SENTENCES[each["reason"]], None)
    return [(each["row"], each["patient_id"], each["reason"]) for each in found]


def messages(work: Work) -> Counter[str]:
    """Announce, and count the messages that go out, by patient."""
    details = [event["detail"] for event in work.publish() if event["detail-type"] == "MessageRouted"]
    return Counter(detail["patient_id"] for detail in details)


def put_patients(ids: Iterable[str]) -> None:
    """Put patients, each with the one mobile phone that they share, as they are kept."""
    phone = {"number": "+15035550101", "line_type": "text_enabled", "status": "valid"}
    for each in ids:
        table.put(
            {
                "PK": table.patient_pk("north", each),
                "SK": "PATIENT",
                "phones": [phone],
                "emails": [],
                "preferred_contact": None,
                "do_not_contact": False,
                "version": 1,
                "updated_at": "2026-11-01T00:00:00.000000Z",
                "updated_by": "registration",
            }
        )


def cut(data: bytes, begin: int) -> list[Chunk]:
    """The chunks of a list whose first row begins there."""
    cutter = Cutter(Place(begin))
    return [*cutter.feed(data[begin:]), *cutter.last()]


def chunks_in(bodies: Iterable[str]) -> list[Chunk]:
    """The chunks that messages are about."""
    return [Chunk(**json.loads(body)["rows"]) for body in bodies]


class TestRefusedAtOnce:
    """A list of which no row can be read starts nothing, and the answer names the field and what is wrong."""

    EMPTY = "the list is empty"
    NOT_UTF8 = "the list is not in UTF-8"
    NOT_CSV = "the list's header is not CSV"
    COLUMN = "the list's header needs one column patient_id, and each column once"
    NO_ROWS = "the list has a header and no rows"
    NO_HEADER = "the list has no header: its first line is longer than 4 KB"

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("empty.csv", b"", EMPTY),
            ("empty.jsonl", b"", EMPTY),
            ("mark-only.csv", b"\xef\xbb\xbf", EMPTY),
            ("header-only.csv", b"patient_id", NO_ROWS),
            ("header-only.csv", b"\xef\xbb\xbfpatient_id,first_name\r\n", NO_ROWS),
            ("no-header.csv", b"p-1,Pat\np-2,Kim\n", COLUMN),
            ("other-columns.csv", b"id,first_name\np-1,Pat\n", COLUMN),
            ("doubled.csv", b"patient_id,when,when\np-1,a,b\n", COLUMN),
            ("semicolons.csv", b"patient_id;first_name\np-1;Pat\n", COLUMN),
            ("json-lines.csv", b'{"patient_id": "p-1"}\n', COLUMN),
            ("utf-16.csv", csv_of(["p-1", "p-2"]).encode("utf-16"), NOT_UTF8),
            ("utf-16.jsonl", '"p-1"\n"p-2"\n'.encode("utf-16"), NOT_UTF8),
            ("latin-1-header.csv", "patient_id,prénom\np-1,Pat\n".encode("latin-1"), NOT_UTF8),
            ("open-quote.csv", b'patient_id,"first_name\np-1,Pat\n', NOT_CSV),
            ("old-mac.csv", b"patient_id,first_name\rp-1,Pat\r", NOT_CSV),
            ("one-line.csv", b"patient_id," * (3 * MB // 11), NO_HEADER),
        ],
    )
    def test_a_list_that_cannot_be_read(self, work: Work, name: str, data: bytes, reason: str) -> None:
        self.refused(work, upload(work.service, data, name), reason)

    @pytest.mark.parametrize(
        "key", ["lists/north/missing.csv", "lists/north/list.csv/.csv", "lists/north/.csv", "lists/north/\u0000.csv"]
    )
    def test_one_that_is_not_there(self, work: Work, key: str) -> None:
        upload(work.service, csv_of(["p-1"]))
        self.refused(work, key, GONE)

    @pytest.mark.parametrize(
        "key",
        [
            "lists/north/../south/list.csv",
            "lists/north/../north/list.csv",
            "lists/north/a/../../south/list.csv",
            "lists/north/./list.csv",
            "lists/north//list.csv",
            "lists/north/",
            "lists/north/..",
        ],
    )
    def test_one_whose_name_would_be_another_on_the_way_to_the_bucket(self, work: Work, key: str) -> None:
        for practice in ("north", "south"):
            upload(work.service, csv_of(["p-1"]), practice_id=practice)
        self.refused(work, key, "a list's name has no empty parts and none of dots alone")

    @pytest.mark.parametrize(
        "key",
        [
            "lists/south/list.csv",
            "lists/northern/list.csv",
            "lists/north",
            "lists/list.csv",
            "list.csv",
            "/lists/north/list.csv",
            "Lists/north/list.csv",
            "broadcasts/north/list.jsonl",
            "results/north/list.jsonl",
        ],
    )
    def test_one_that_is_not_the_practices_own(self, work: Work, key: str) -> None:
        clients.s3().put_object(Bucket=work.service.environment["LISTS_BUCKET"], Key=key, Body=csv_of(["p-1"]).encode())
        self.refused(work, key, "a list lies under lists/north/ in the bucket of lists")

    @pytest.mark.parametrize("name", ["list.txt", "list.xlsx", "list.csv.gz", "list", "list.json", "csv", "list.csv "])
    def test_one_whose_name_says_that_it_is_no_list(self, work: Work, name: str) -> None:
        self.refused(work, upload(work.service, csv_of(["p-1"]), name), "a list's name ends in .csv, .jsonl, .ndjson")

    @pytest.mark.parametrize("name", ["list.CSV", "list.JsonL", "list.ndjson", "2026/11/my list (1).csv", "größe.csv"])
    def test_a_name_may_be_any_other(self, work: Work, name: str) -> None:
        text = csv_of(["p-1"]) if name.lower().endswith(".csv") else '"p-1"\n'
        started(work, text, name, messages={"text": {"body": "Hi."}})
        assert len(work.route()) == 1
        assert messages(work) == {"p-1": 1}

    def test_a_key_that_is_too_long_for_the_bucket(self, work: Work) -> None:
        # S3 counts a key's bytes, and answers a HEAD of one that is too long with 400, and no code.
        with fault(clients.s3(), "HeadObject", lambda _: client_error("400")):
            answer = start(work, f"lists/north/{'é' * 600}.csv")
        assert (answer.status, answer.body.get("errors", [{}])[0].get("loc")) == (422, ["body", "list", "key"])

    @staticmethod
    def refused(work: Work, key: str, reason: str) -> None:
        before = work.service.items()
        expected = invalid((["body", "list", "key"], "list", reason))
        assert start(work, key) == expected
        dry_run = work.service.post("north/automations/reminder/dry-run", {"list": {"key": key}}, headers=KEY)
        assert dry_run == expected
        assert work.service.items() == before


class TestBadRows:
    """They are told by their numbers and reasons, in the list's order, and the good ones go on."""

    def test_each_bad_row_is_told_and_the_good_ones_go_on(self, work: Work) -> None:
        rows: list[tuple[bytes, str | None, str]] = [
            (b"p-1,Pat", "p-1", "TEXT_ENABLED"),
            (b"", None, "EMPTY_ROW"),
            (b"p-9,Nobody", "p-9", "UNKNOWN_PATIENT"),
            ("p-2,Zoé".encode("latin-1"), None, "NOT_UTF8"),
            (b"p-2", None, "NOT_CSV"),
            (b'p-2,"Kim', None, "NOT_CSV"),
            (b"p 2,Kim", None, "NO_PATIENT_ID"),
            (b"p-2,Kim", "p-2", "TEXT_ENABLED"),
            (b"p-1,Pat", "p-1", "DUPLICATE"),
            (b"p-2," + b"x" * 1_600, "p-2", "DUPLICATE"),
            (b"p-3," + b"x" * MAX_ROW, None, "ROW_TOO_LONG"),
            (b"p-3," + b"x" * 1_600, "p-3", "TOO_LONG_WHEN_FILLED"),
            ("p-1,Zoé".encode("utf-16"), None, "NOT_UTF8"),
        ]
        path = started(work, HEADER.encode() + b"\r\n".join(row for row, _, _ in rows))
        # The row that is too long is a chunk of its own, between the others.
        assert [chunk.rows for chunk in chunks_in(work.route())] == [10, 1, 2]
        assert told(work, path) == completed(Counter(reason for _, _, reason in rows), 2)
        numbered = [(number, patient, reason) for number, (_, patient, reason) in enumerate(rows, 1)]
        assert rows_of(work, path) == numbered
        nobody = [each for each in numbered if each[2] not in ("TEXT_ENABLED", "DUPLICATE")]
        assert rows_of(work, path, "unreachable") == nobody
        assert messages(work) == {"p-1": 1, "p-2": 1}

    def test_so_it_is_with_lines_of_json(self, work: Work) -> None:
        rows: list[tuple[str, str | None, str]] = [
            ('{"patient_id": "p-1", "context": {"first_name": "Pat"}}', "p-1", "TEXT_ENABLED"),
            ('"p-2"', "p-2", "MISSING_PLACEHOLDER"),
            ('{"patient_id": "p-3", "context": {"first_name": null}}', "p-3", "BAD_CONTEXT"),
            ('{"patient_id": "p-3", "first_name": "Kim"}', None, "NOT_JSON"),
            ("p-3", None, "NOT_JSON"),
            ("7", None, "NOT_JSON"),
            ("{}", None, "NO_PATIENT_ID"),
            ('{"patient_id": "p-3", "context": {"first_name": 3}}', "p-3", "TEXT_ENABLED"),
        ]
        path = started(work, "\n".join(row for row, _, _ in rows), "list.jsonl")
        assert len(work.route()) == 1
        assert told(work, path) == completed(Counter(reason for _, _, reason in rows), 2)
        numbered = [(number, patient, reason) for number, (_, patient, reason) in enumerate(rows, 1)]
        assert rows_of(work, path) == numbered
        assert messages(work) == {"p-1": 1, "p-3": 1}

    @pytest.mark.parametrize(
        ("text", "name", "reason"),
        [
            (csv_of(f"stranger-{n}" for n in range(250)), "list.csv", "UNKNOWN_PATIENT"),
            (HEADER + "p-1\n" * 250, "list.csv", "NOT_CSV"),
            (HEADER + "\n" * 250, "list.csv", "EMPTY_ROW"),
            (csv_of(["p-1"] * 250), "list.jsonl", "NOT_JSON"),
            ('"p-1"\n' * 250, "list.ndjson", "MISSING_PLACEHOLDER"),
        ],
        ids=["strangers", "other columns", "blank", "of another kind", "without context"],
    )
    def test_a_list_without_a_good_row_ends_with_nothing_sent(
        self, work: Work, text: str, name: str, reason: Refusal
    ) -> None:
        path = started(work, text, name)
        work.route()
        answer = told(work, path)
        total = len(text.splitlines()) - (name == "list.csv")
        assert (answer["state"], answer["routed"], answer["refused"], answer["total"]) == ("completed", 0, total, total)
        assert answer["by_reason"].keys() <= {reason, "DUPLICATE"}
        assert messages(work) == {}

    def test_a_row_of_3_mb_is_read_by_nobody_and_the_others_go_on(self, work: Work) -> None:
        long = f"p-2,{'x' * 3 * MB}\n"
        key = upload(work.service, csv_of(["p-1"]) + long + "p-3,Kim\n")
        path = path_of(start(work, key))
        for event in work.queued():
            assert work.service.run("StartBulkFunction", event) == []
        asked: list[str] = []

        def before_call(params: dict[str, Any], **_: object) -> None:
            asked.append(params["headers"].get("Range", ""))

        name = "before-call.s3.GetObject"
        clients.s3().meta.events.register_first(name, before_call)
        try:
            for chunk in work.chunks():
                assert work.service.run("RouteBatchFunction", chunk) == []
        finally:
            clients.s3().meta.events.unregister(name, before_call)
        behind = len(HEADER) + 8 + len(long)
        assert asked == [f"bytes={len(HEADER)}-{len(HEADER) + 7}", f"bytes={behind}-{behind + 7}"]
        assert told(work, path) == completed({"TEXT_ENABLED": 2, "ROW_TOO_LONG": 1}, 2)
        assert rows_of(work, path, "unreachable") == [(2, None, "ROW_TOO_LONG")]
        assert messages(work) == {"p-1": 1, "p-3": 1}

    def test_a_patient_counts_once_however_far_apart_their_rows_are(self, work: Work) -> None:
        ids = [f"q-{n}" for n in range(110)]
        put_patients(ids)
        path = started(work, csv_of([*ids, *ids]))
        assert len(work.route()) == 3
        assert told(work, path) == completed({"TEXT_ENABLED": 110, "DUPLICATE": 110}, 110)
        assert rows_of(work, path, "unreachable") == []
        assert messages(work) == dict.fromkeys(ids, 1)

    def test_of_a_patients_rows_the_first_that_can_be_sent_counts_and_each_is_told(self, work: Work) -> None:
        fills = ', "context": {"first_name": "Pat"}'
        rows = [
            ('{"patient_id": "p-1"}', "MISSING_PLACEHOLDER"),
            ('{"patient_id": "p-1", "context": 7}', "BAD_CONTEXT"),
            ('{"patient_id": "p-1"}', "MISSING_PLACEHOLDER"),
            (f'{{"patient_id": "p-1"{fills}}}', "TEXT_ENABLED"),
            ('{"patient_id": "p-1"}', "DUPLICATE"),
            (f'{{"patient_id": "p-1"{fills}}}', "DUPLICATE"),
            (f'{{"patient_id": "x-1"{fills}}}', "UNKNOWN_PATIENT"),
            (f'{{"patient_id": "x-1"{fills}}}', "UNKNOWN_PATIENT"),
        ]
        path = started(work, "\n".join(row for row, _ in rows), "list.jsonl")
        assert len(work.route()) == 1
        assert [reason for _, _, reason in rows_of(work, path)] == [reason for _, reason in rows]
        assert told(work, path) == completed(Counter(reason for _, reason in rows), 1)
        assert messages(work) == {"p-1": 1}
        tried = path_of(work.service.post(f"{path}/dry-run", {}, headers=KEY))
        work.route()
        assert rows_of(work, tried) == rows_of(work, path)

    @pytest.mark.parametrize("between", [0, CHUNK_ROWS], ids=["in one chunk", "in two chunks"])
    def test_who_is_in_a_list_again_gets_the_message_if_one_of_their_rows_can_be_sent(
        self, work: Work, between: int
    ) -> None:
        rows = ['{"patient_id": "p-1"}', *['"stranger"'] * between]
        rows.append('{"patient_id": "p-1", "context": {"first_name": "Pat"}}')
        started(work, "\n".join(rows), "list.jsonl")
        work.route()
        assert messages(work) == {"p-1": 1}


class TestListThatChanges:
    """A list is pinned as it was when it was asked for: no row of another one is ever read."""

    TWO_CHUNKS = csv_of([*(f"q-{n}" for n in range(CHUNK_ROWS)), "p-1"])

    @staticmethod
    def replace(work: Work) -> None:
        upload(work.service, csv_of(["p-2", "p-3"]) * 3)

    @staticmethod
    def delete(work: Work) -> None:
        clients.s3().delete_object(Bucket=work.service.environment["LISTS_BUCKET"], Key="lists/north/list.csv")

    CHANGES = pytest.mark.parametrize(
        ("change", "why"), [(replace, REPLACED), (delete, GONE)], ids=["replaced", "deleted"]
    )

    @CHANGES
    def test_before_it_is_read(self, work: Work, change: Callable[[Work], None], why: str) -> None:
        path = started(work, csv_of(["p-1"]))
        change(work)
        assert work.route() == []
        assert told(work, path) == failed(why)
        assert messages(work) == {}
        assert work.service.dead_letters("BULKS") == []

    @CHANGES
    def test_while_it_is_looked_at(self, work: Work, change: Callable[[Work], None], why: str) -> None:
        key = upload(work.service, csv_of(["p-1"]))

        def overtaken(**_: object) -> None:
            change(work)

        name = "before-call.s3.GetObject"
        clients.s3().meta.events.register_first(name, overtaken)
        try:
            assert start(work, key) == invalid((["body", "list", "key"], "list", why))
        finally:
            clients.s3().meta.events.unregister(name, overtaken)

    @CHANGES
    def test_between_two_invocations_that_cut_it(self, work: Work, change: Callable[[Work], None], why: str) -> None:
        path = started(work, csv_of(["p-1", *(f"q-{n}" for n in range(20 * CHUNK_ROWS))]))
        (event,) = work.queued()
        read(event, [RESERVE - 1])
        (again,) = work.again()
        change(work)
        read(again, [RESERVE])
        assert told(work, path) == failed(why)
        # What was queued before is passed by.
        assert [work.service.run("RouteBatchFunction", chunk) for chunk in work.chunks()] == [[]] * TOGETHER
        assert told(work, path) == failed(why)
        assert (work.again(), messages(work)) == ([], {})

    @CHANGES
    def test_before_any_of_its_chunks_is_routed(self, work: Work, change: Callable[[Work], None], why: str) -> None:
        path = started(work, csv_of(["p-1"]))
        (event,) = work.queued()
        assert work.service.run("StartBulkFunction", event) == []
        change(work)
        (chunk,) = work.chunks()
        assert work.service.run("RouteBatchFunction", chunk) == []
        assert told(work, path) == failed(why, total=1)
        assert messages(work) == {}
        assert work.service.dead_letters("CHUNKS") == []

    @CHANGES
    def test_when_half_of_it_is_routed(self, work: Work, change: Callable[[Work], None], why: str) -> None:
        put_patients(f"q-{n}" for n in range(CHUNK_ROWS))
        path = started(work, self.TWO_CHUNKS)
        (event,) = work.queued()
        assert work.service.run("StartBulkFunction", event) == []
        first, second = work.chunks()
        assert work.service.run("RouteBatchFunction", first) == []
        change(work)
        assert work.service.run("RouteBatchFunction", second) == []
        expected = failed(why, total=CHUNK_ROWS + 1, texted=CHUNK_ROWS)
        assert told(work, path) == expected
        # However often they come.
        assert work.service.run("RouteBatchFunction", first, second) == []
        assert work.service.run("StartBulkFunction", event) == []
        assert (work.chunks(), told(work, path)) == ([], expected)
        assert messages(work) == {f"q-{n}": 1 for n in range(CHUNK_ROWS)}
        assert [row for row, _, _ in rows_of(work, path)] == list(range(1, CHUNK_ROWS + 1))

    @CHANGES
    def test_while_it_is_paused(self, work: Work, change: Callable[[Work], None], why: str) -> None:
        path = started(work, csv_of(["p-1"]))
        assert work.service.post(f"{path}/pause").status == 200
        assert work.route() == []
        change(work)
        assert work.service.post(f"{path}/resume").status == 200
        assert work.route() == []
        assert told(work, path) == failed(why)

    @pytest.mark.parametrize("change", [replace, delete], ids=["replaced", "deleted"])
    def test_one_that_is_cancelled_stays_so_and_what_waits_to_be_sent_is_withdrawn(
        self, work: Work, change: Callable[[Work], None]
    ) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = started(work, csv_of(["p-1", "p-2"]))
        work.route()
        change(work)
        assert work.service.post(f"{path}/cancel").status == 200
        announced = work.publish()
        for event in announced:
            function = {"BulkQueued": "StartBulkFunction"}.get(event["detail-type"], "SendMessageFunction")
            assert work.service.run(function, event) == []
        work.publish()
        answer = work.service.get(path).body
        names = ("state", "failure", "routed", "withdrawn", "sent")
        # Nobody needs the list for that.
        assert [answer[name] for name in names] == ["cancelled", None, 2, 2, 0]
        assert work.service.carriers.so_far() == []

    @CHANGES
    @pytest.mark.parametrize("action", ["cancel", "resume"])
    def test_what_was_held_back_while_it_was_paused_comes_to_its_end(
        self, work: Work, change: Callable[[Work], None], why: str, action: str
    ) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = started(work, csv_of(["p-1", "p-2"]))
        work.route()
        assert work.service.post(f"{path}/pause").status == 200
        # Their queue has them no more.
        work.send()
        change(work)
        assert work.service.post(f"{path}/{action}").status == 200
        work.route()
        work.send()
        answer = work.service.get(path).body
        became = "withdrawn" if action == "cancel" else "sent"
        # Whoever takes them back needs no list.
        failure = None if action == "cancel" else why
        assert (answer["failure"], answer["routed"], answer[became]) == (failure, 2, 2)

    @CHANGES
    def test_what_was_held_back_comes_to_its_end_though_a_chunk_before_it_finds_the_list_gone_first(
        self, work: Work, change: Callable[[Work], None], why: str
    ) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = started(work, csv_of([*(f"x-{n}" for n in range(15 * CHUNK_ROWS)), "p-1"]))
        (event,) = work.queued()
        assert work.service.run("StartBulkFunction", event) == []
        *_, last = sorted(work.chunks(), key=lambda chunk: int(json.loads(chunk)["rows"]["number"]))
        assert work.service.run("RouteBatchFunction", last) == []
        assert work.service.post(f"{path}/pause").status == 200
        work.send()
        assert work.service.post(f"{path}/resume").status == 200
        (event,) = work.queued()
        read(event, [RESERVE - 1])
        change(work)
        for chunk in work.chunks():
            assert work.service.run("RouteBatchFunction", chunk) == []
        for body in work.again():
            read(body, [RESERVE])
        for chunk in work.chunks():
            assert work.service.run("RouteBatchFunction", chunk) == []
        work.send()
        answer = work.service.get(path).body
        names = ("state", "failure", "done", "routed", "sent")
        assert [answer[name] for name in names] == ["failed", why, 1, 1, 1]

    @CHANGES
    def test_so_it_does_when_the_list_is_found_gone_while_its_chunks_are_still_queued(
        self, work: Work, change: Callable[[Work], None], why: str
    ) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = started(work, "patient_id,first_name\n" + "x-1,Kim\n" * (KEEP_EVERY + 20) * CHUNK_ROWS + "p-1,Pat\n")
        (event,) = work.queued()
        with queueing() as chunks:
            read(event, [RESERVE])
        last = ToRoute.of(BulkQueued(**event["detail"]), chunks[-1]).model_dump_json()
        assert work.service.run("RouteBatchFunction", last) == []
        assert work.service.post(f"{path}/pause").status == 200
        work.send()
        assert work.service.post(f"{path}/resume").status == 200
        (event,) = work.queued()
        bodies: list[str] = []

        def queue(params: dict[str, Any]) -> dict[str, Any]:
            new = [each["MessageBody"] for each in json.loads(params["body"])["Entries"]]
            if not bodies:
                change(work)
                assert work.service.run("RouteBatchFunction", new[0]) == []
            bodies.extend(new)
            return {}

        with answered(clients.sqs(), "SendMessageBatch", queue):
            read(event, [RESERVE])
            for body in work.again():
                read(body, [RESERVE])
        for body in bodies:
            assert work.service.run("RouteBatchFunction", body) == []
        work.send()
        answer = work.service.get(path).body
        names = ("state", "failure", "done", "routed", "sent")
        assert [answer[name] for name in names] == ["failed", why, 1, 1, 1]

    @CHANGES
    def test_for_whoever_tries_it_again_without_sending(
        self, work: Work, change: Callable[[Work], None], why: str
    ) -> None:
        path = started(work, csv_of(["p-1"]))
        work.route()
        change(work)
        again = work.service.post(f"{path}/dry-run", {}, headers=KEY)
        assert again.status == 202
        assert work.route() == []
        assert told(work, path_of(again)) == failed(why)
        assert told(work, path) == completed({"TEXT_ENABLED": 1}, 1)

    @pytest.mark.parametrize("change", [replace, delete], ids=["replaced", "deleted"])
    def test_once_all_is_routed_it_changes_nothing(self, work: Work, change: Callable[[Work], None]) -> None:
        path = started(work, csv_of(["p-1"]))
        chunks = work.route()
        change(work)
        assert work.service.run("RouteBatchFunction", *chunks) == []
        assert told(work, path) == completed({"TEXT_ENABLED": 1}, 1)
        assert messages(work) == {"p-1": 1}

    def test_the_list_of_a_broadcast_may_be_lost_too(self, work: Work) -> None:
        answer = work.service.post("north/broadcasts", {**BROADCAST, "patient_ids": ["p-1"]}, headers=KEY)
        bucket = work.service.environment["LISTS_BUCKET"]
        for each in clients.s3().list_objects_v2(Bucket=bucket, Prefix="broadcasts/")["Contents"]:
            clients.s3().delete_object(Bucket=bucket, Key=each["Key"])
        assert work.route() == []
        assert told(work, path_of(answer)) == failed(GONE)

    @pytest.mark.parametrize("action", ["pause", "resume"])
    def test_what_has_failed_is_over(self, work: Work, action: str) -> None:
        path = started(work, csv_of(["p-1"]))
        self.delete(work)
        work.route()
        assert work.service.post(f"{path}/{action}").status == 409
        assert told(work, path) == failed(GONE)


class TestBucketThatIsBusy:
    """Nothing is lost: whoever asks is told to ask again, and what is in a queue goes back to it."""

    BUSY = pytest.mark.parametrize("code", ["SlowDown", "RequestTimeout"])

    @BUSY
    @pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
    def test_while_a_list_is_looked_at(self, work: Work, operation: str, code: str) -> None:
        key = upload(work.service, csv_of(["p-1"]))
        with fault(clients.s3(), operation, lambda _: client_error(code)):
            answer = start(work, key)
        assert answer == BUSY
        assert answer.headers["retry-after"] == "1"
        assert start(work, key).status == 202

    @BUSY
    def test_while_the_list_of_a_broadcast_is_written(self, work: Work, code: str) -> None:
        with fault(clients.s3(), "PutObject", lambda _: client_error(code)):
            assert work.service.post("north/broadcasts", {**BROADCAST, "patient_ids": ["p-1"]}, headers=KEY) == BUSY
        assert not [item for item in work.service.items() if "QUOTA" in item["SK"]["S"]]

    @BUSY
    @pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
    def test_while_it_is_cut_and_routed(self, work: Work, operation: str, code: str) -> None:
        path = started(work, csv_of(["p-1", "p-2"]))
        (event,) = work.queued()
        with fault(clients.s3(), operation, lambda _: client_error(code)):
            assert work.service.run("StartBulkFunction", event) == ([0] if operation == "GetObject" else [])
        assert work.service.run("StartBulkFunction", event) == []
        (chunk,) = {*work.chunks()}
        with fault(clients.s3(), operation, lambda _: client_error(code)):
            assert work.service.run("RouteBatchFunction", chunk) == [0]
        assert work.service.run("RouteBatchFunction", chunk) == []
        assert told(work, path) == completed({"TEXT_ENABLED": 2}, 2)
        assert messages(work) == {"p-1": 1, "p-2": 1}

    @BUSY
    def test_while_recipients_are_listed(self, work: Work, code: str) -> None:
        path = started(work, csv_of(["p-1"]))
        work.route()
        with fault(clients.s3(), "GetObject", lambda _: client_error(code)):
            assert work.service.get(f"{path}/recipients") == BUSY
        assert rows_of(work, path) == [(1, "p-1", "TEXT_ENABLED")]


class Broken:
    """The beginning of an answer whose rest does not come."""

    def __init__(self, data: bytes, error: Callable[..., Exception]) -> None:
        self._data, self._error = data, error

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        yield self._data[:size]
        raise self.fault()

    def read(self) -> bytes:
        raise self.fault()

    def fault(self) -> Exception:
        return self._error(endpoint_url="https://aws.example", error="broken off")


class TestAnswerThatBreaksOff:
    """What was read of it counts for nothing, or for the chunks that it had to their ends."""

    ERRORS = pytest.mark.parametrize("error", [ReadTimeoutError, ResponseStreamingError])

    @ERRORS
    def test_while_a_list_is_looked_at_or_its_rows_are_listed(self, work: Work, error: type[Exception]) -> None:
        path = started(work, csv_of(["p-1"]))
        work.route()
        with answered(clients.s3(), "GetObject", lambda _: {"Body": Broken(b"", error)}):
            assert work.service.get(f"{path}/recipients") == BUSY
            body = {**CAMPAIGN, "list": {"key": "lists/north/list.csv"}}
            assert work.service.post("north/campaigns", body, headers={"idempotency-key": "key-2"}) == BUSY

    @ERRORS
    def test_while_it_is_cut_and_routed(self, work: Work, error: type[Exception]) -> None:
        data = csv_of(["p-1", *(f"x-{n}" for n in range(1_300))]).encode()
        path = started(work, data)
        (event,) = work.queued()
        # Eleven chunks and a half, of which a batch is queued.
        rest = data[len(HEADER) : data.index(b"x-1150")]
        with queueing() as chunks:
            with answered(clients.s3(), "GetObject", lambda _: {"Body": Broken(rest, error)}):
                read(event, [RESERVE], failed=(0,))
            assert chunks == cut(data, len(HEADER))[:TOGETHER]
        read(event, [RESERVE])
        bodies = work.chunks()
        with answered(clients.s3(), "GetObject", lambda _: {"Body": Broken(b"", error)}):
            assert work.service.run("RouteBatchFunction", *bodies) == list(range(14))
        assert work.service.run("RouteBatchFunction", *bodies) == []
        assert told(work, path) == completed({"TEXT_ENABLED": 1, "UNKNOWN_PATIENT": 1_300}, 1)
        assert messages(work) == {"p-1": 1}


def read(body: object, left: list[int], failed: tuple[int, ...] = ()) -> None:
    """Hand a list to start_bulk, with so much time left each time that it looks."""
    answer = handler({"Records": [sqs_record(0, body)]}, Context(left))  # type: ignore[arg-type]  # as far as it is used
    assert answer == {"batchItemFailures": [{"itemIdentifier": str(place)} for place in failed]}


OK: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}


@contextmanager
def answered(client: Any, operation: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[None]:
    """Answer an operation in the place of AWS, and keep nothing of it."""
    name = f"before-call.{client.meta.service_model.service_id.hyphenize()}.{operation}"
    response = AWSResponse("https://aws.example", 200, {}, None)  # type: ignore[arg-type]  # nobody reads the body

    def before_call(params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]]:
        return response, {**OK, **answer(params)}

    client.meta.events.register_first(name, before_call)
    try:
        yield
    finally:
        client.meta.events.unregister(name, before_call)


@contextmanager
def queueing(until: int | None = None) -> Iterator[list[Chunk]]:
    """Give the chunks that are queued, in the place of the queue; it fails after so many batches."""
    chunks: list[Chunk] = []

    def take(params: dict[str, Any]) -> dict[str, Any]:
        if until is not None and len(chunks) == until * TOGETHER:
            raise EndpointConnectionError(endpoint_url="https://aws.example")
        entries = json.loads(params["body"])["Entries"]
        assert len(entries) <= TOGETHER
        chunks.extend(chunks_in(each["MessageBody"] for each in entries))
        return {}

    with answered(clients.sqs(), "SendMessageBatch", take):
        yield chunks


class TestStopped:
    """A list that is cut in several invocations is queued exactly as in one."""

    DATA = (
        csv_of(f"p-{n}" for n in range(60 * CHUNK_ROWS + 7)) + "x" * MAX_ROW + "\n" + "p-1,Pat\r\n" * 63 * CHUNK_ROWS
    ).encode()
    EXPECTED = cut(DATA, len(HEADER))

    @pytest.mark.parametrize(
        "enough",
        [
            lambda _: 0,
            lambda _: 3,
            # About where it is kept how far it has come.
            lambda n: (KEEP_EVERY // TOGETHER - 1, 0, 1)[n % 3],
            lambda n: random.Random(n).randrange(7),
            lambda _: 1_000,
        ],
        ids=["after each batch", "after four batches", "where the place is kept", "anywhere", "never"],
    )
    def test_wherever_it_stops_it_goes_on_behind_what_is_queued(self, work: Work, enough: Callable[[int], int]) -> None:
        path = started(work, self.DATA)
        bodies: list[Any] = work.queued()
        with queueing() as chunks:
            for invocation in itertools.count():
                if not bodies:
                    break
                (body,) = bodies
                batches, before = enough(invocation), len(chunks)
                read(body, [*[RESERVE] * batches, RESERVE - 1])
                bodies = work.again()
                # A piece of the list that ends is where it may stop, too.
                assert not bodies or len(chunks) in (before + TOGETHER * (batches + 1), len(self.EXPECTED))
        assert chunks == self.EXPECTED
        assert work.service.get(path).body["total"] == sum(chunk.rows for chunk in chunks)

    def test_what_comes_back_is_the_same_message_and_comes_at_once(self, work: Work) -> None:
        started(work, self.DATA)
        (event,) = work.queued()
        body = json.dumps(event)
        with fault(clients.sqs(), "SendMessage", lambda _: None) as asked, queueing():
            read(body, [RESERVE - 1])
        url = work.service.environment["BULKS_QUEUE_URL"]
        assert asked == [{"QueueUrl": url, "MessageBody": body, "DelaySeconds": 0}]

    @pytest.mark.parametrize("batches", [0, 1, KEEP_EVERY // TOGETHER - 1, KEEP_EVERY // TOGETHER, 12])
    def test_killed_anywhere_it_queues_some_again_and_leaves_none_out(self, work: Work, batches: int) -> None:
        started(work, self.DATA)
        (event,) = work.queued()
        with queueing(until=batches) as first:
            read(event, [RESERVE], failed=(0,))
        with queueing() as second:
            read(event, [RESERVE])
        # What lies before the last place that was kept is not queued again.
        kept = batches * TOGETHER // KEEP_EVERY * KEEP_EVERY
        assert first == self.EXPECTED[: batches * TOGETHER]
        assert second == self.EXPECTED[kept:]

    def test_a_queue_that_takes_some_only_gets_all_of_them_again(self, work: Work) -> None:
        started(work, csv_of(["p-1"]))
        (event,) = work.queued()
        refused = {"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
        with answered(clients.sqs(), "SendMessageBatch", lambda _: refused):
            read(event, [RESERVE], failed=(0,))
        read(event, [RESERVE])
        assert len(work.chunks()) == 1

    def test_paused_while_it_is_cut_no_more_is_queued(self, work: Work) -> None:
        path = started(work, self.DATA)
        (event,) = work.queued()
        with queueing() as chunks:
            read(event, [RESERVE - 1])
            assert work.service.post(f"{path}/pause").status == 200
            (again,) = work.again()
            read(again, [RESERVE])
        assert (len(chunks), work.again()) == (TOGETHER, [])

    def test_paused_at_that_moment_it_stops_at_the_next_place_that_is_kept(self, work: Work) -> None:
        path = started(work, self.DATA)
        (event,) = work.queued()
        sent = itertools.count(1)

        def paused(_: object) -> dict[str, Any]:
            if next(sent) == 3:
                assert work.service.post(f"{path}/pause").status == 200
            return {}

        with answered(clients.sqs(), "SendMessageBatch", paused):
            read(event, [RESERVE])
        assert next(sent) - 1 == KEEP_EVERY // TOGETHER
        assert work.service.get(path).body["state"] == "paused"
        # It comes back once more, for whatever has stopped it: there is nothing to do.
        (again,) = work.again()
        read(again, [RESERVE])
        assert (work.service.get(path).body["state"], work.again()) == ("paused", [])


# Rows of 220 bytes: 10,000 are more than two pieces.
ROW = b"p-1," + b"x" * 215 + b"\n"


class Body:
    """The rest of a list that nobody has ever seen as a whole."""

    PATTERN = ROW * (PIECE // len(ROW) + 2)

    def __init__(self, begin: int, end: int) -> None:
        self._begin, self._end = begin, end

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        for at in range(self._begin, self._end, size):
            shift = at % len(ROW)
            yield self.PATTERN[shift : shift + min(size, self._end - at)]


class TestAMillionRows:
    """As many as there may be: they are cut and queued in the memory that ten thousand take."""

    @pytest.mark.usefixtures("work")
    def test_memory_does_not_grow_with_the_list(self) -> None:
        # Whatever is made once is there before it is measured.
        self.peak(10_000)
        few = self.peak(10_000)
        many = self.peak(1_000_000)
        assert few > 2 * PIECE
        assert many < 1.1 * few

    def peak(self, rows: int) -> int:
        """Cut a list of so many rows, see that its chunks tile it, and give the memory that this took at most."""
        size = rows * len(ROW)
        etag = "0123456789abcdef"
        listed = bulks.Listed("lists/north/long.csv", etag, size, "csv", 0, ("patient_id", "first_name"))
        bulk_id = f"bulk-{rows}"
        item = {
            "PK": bulks.key("north", bulk_id)[0],
            "SK": "BULK",
            "state": "running",
            "run": 1,
            "dry_run": False,
            "cursor": Place(0).as_data(),
            "began_at": clock.iso(NOON),
            "list": {
                "key": listed.key,
                "etag": etag,
                "size": size,
                "format": "csv",
                "begin": Place(0).as_data(),
                "columns": list(listed.columns),
            },
        }
        table.put(item)
        place = Place(0)
        kept = Place(0)

        def get(params: dict[str, Any]) -> dict[str, Any]:
            assert params["headers"]["If-Match"] == etag
            assert params["headers"]["Range"] == "bytes=0-"
            return {"Body": Body(0, size)}

        def queue(params: dict[str, Any]) -> dict[str, Any]:
            nonlocal place
            for entry in json.loads(params["body"])["Entries"]:
                (chunk,) = chunks_in([entry["MessageBody"]])
                behind = Place(place.begin + CHUNK_ROWS * len(ROW), place.number + 1, place.first_row + CHUNK_ROWS)
                assert chunk == Chunk(place.number, place.begin, behind.begin, place.first_row, CHUNK_ROWS)
                place = behind
            return {}

        def keep(params: dict[str, Any]) -> dict[str, Any]:
            nonlocal kept
            (write,) = json.loads(params["body"])["TransactItems"]
            cursor = table.decode(write["Update"]["ExpressionAttributeValues"][":cursor"])
            # What is kept is queued: whoever goes on from there leaves nothing out.
            assert cursor == place.as_data()
            kept = Place(**cursor)
            # What nobody has any more is no memory, whenever it is collected.
            gc.collect()
            return {}

        event = {"practice_id": "north", "bulk_id": bulk_id, "run": 1}
        body = json.dumps({"detail-type": "BulkQueued", "time": "2026-11-25T12:00:00Z", "detail": event})
        with ExitStack() as during:
            for client, operation, answer in (
                (clients.s3(), "GetObject", get),
                (clients.sqs(), "SendMessageBatch", queue),
                (clients.dynamodb(), "TransactWriteItems", keep),
            ):
                during.enter_context(answered(client, operation, answer))
            gc.freeze()
            tracemalloc.start()
            try:
                read(body, [RESERVE])
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
                gc.unfreeze()
        assert place == kept == Place(size, rows // CHUNK_ROWS, rows + 1)
        return peak


class TestToStartLater:
    """What starts later is pending, comes back to its queue until it is due, and is read then."""

    @staticmethod
    def later(seconds: float) -> str:
        return clock.iso(NOON + timedelta(seconds=seconds))

    @pytest.mark.parametrize(
        ("seconds", "delays"),
        [
            (1, [1]),
            (0.25, [1]),
            (59.5, [60]),
            (900, [900]),
            (901, [900, 1]),
            (2_000, [900, 900, 200]),
        ],
    )
    def test_it_waits_in_its_queue_for_as_long_as_a_queue_hides_it(
        self, work: Work, seconds: float, delays: list[int]
    ) -> None:
        assert max(delays) <= LONGEST_DELAY == 900
        with time_machine.travel(NOON, tick=False) as time:
            path = started(work, csv_of(["p-1"]), starts_at=self.later(seconds))
            (event,) = work.queued()
            body = json.dumps(event)
            for delay in delays:
                assert work.service.get(path).body["state"] == "pending"
                with fault(clients.sqs(), "SendMessage", lambda _: None) as asked:
                    assert work.service.run("StartBulkFunction", body) == []
                url = work.service.environment["BULKS_QUEUE_URL"]
                assert asked == [{"QueueUrl": url, "MessageBody": body, "DelaySeconds": delay}]
                assert (work.chunks(), work.again()) == ([], [])
                time.shift(delay)
                assert work.again() == [body]
            assert work.service.run("StartBulkFunction", body) == []
            (chunk,) = work.chunks()
            assert work.service.run("RouteBatchFunction", chunk) == []
            assert work.again() == []
            assert told(work, path) == completed({"TEXT_ENABLED": 1}, 1)
            assert messages(work) == {"p-1": 1}

    def test_at_its_time_it_is_due(self, work: Work) -> None:
        with time_machine.travel(NOON, tick=False) as time:
            path = started(work, csv_of(["p-1"]), starts_at=self.later(3_600))
            (event,) = work.queued()
            time.move_to(NOON + timedelta(hours=1))
            assert work.service.run("StartBulkFunction", event) == []
            assert len(work.chunks()) == 1
            assert work.service.get(path).body["state"] == "running"

    def test_paused_it_comes_back_no_more_and_resumed_it_waits_for_the_rest_of_its_time(self, work: Work) -> None:
        with time_machine.travel(NOON, tick=False) as time:
            path = started(work, csv_of(["p-1"]), starts_at=self.later(3_600))
            (event,) = work.queued()
            assert work.service.post(f"{path}/pause").body["state"] == "paused"
            assert work.service.run("StartBulkFunction", event) == []
            time.shift(3_000)
            assert (work.again(), work.chunks()) == ([], [])
            assert work.service.post(f"{path}/resume").body["state"] == "pending"
            (event,) = work.queued()
            assert work.service.run("StartBulkFunction", event) == []
            assert work.chunks() == []
            time.shift(600)
            (body,) = work.again()
            assert work.service.run("StartBulkFunction", body) == []
            assert len(work.chunks()) == 1

    def test_resumed_after_its_time_it_starts_at_once(self, work: Work) -> None:
        with time_machine.travel(NOON, tick=False) as time:
            path = started(work, csv_of(["p-1"]), starts_at=self.later(3_600))
            assert work.service.post(f"{path}/pause").status == 200
            time.shift(3_600)
            assert work.service.post(f"{path}/resume").body["state"] == "queued"
            assert len(work.route()) == 1
            assert told(work, path) == completed({"TEXT_ENABLED": 1}, 1)

    def test_cancelled_before_its_time_it_comes_back_no_more(self, work: Work) -> None:
        with time_machine.travel(NOON, tick=False) as time:
            path = started(work, csv_of(["p-1"]), starts_at=self.later(3_600))
            (event,) = work.queued()
            assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
            assert work.service.run("StartBulkFunction", event) == []
            time.shift(LONGEST_DELAY)
            assert work.again() == []

    def test_cancelled_before_its_list_is_read_nobody_reads_it(self, work: Work) -> None:
        path = started(work, csv_of(["p-1"]))
        assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
        assert work.route() == []
        expected = {**completed({}, 0), "state": "cancelled", "total": None}
        assert told(work, path) == expected
        assert messages(work) == {}

    def test_one_whose_time_is_over_starts_at_once(self, work: Work) -> None:
        with time_machine.travel(NOON, tick=False):
            path = started(work, csv_of(["p-1"]), starts_at=self.later(-3_600))
            assert work.service.get(path).body["state"] == "queued"
            assert len(work.route()) == 1
            assert told(work, path) == completed({"TEXT_ENABLED": 1}, 1)


class TestMessagesThatAreNone:
    """What can never be handled is dead-lettered at once, with its reason."""

    @pytest.mark.parametrize(("function", "dlq"), [("StartBulkFunction", "BULKS"), ("RouteBatchFunction", "CHUNKS")])
    def test_of_a_bulk_that_nobody_has_started(self, work: Work, function: str, dlq: str) -> None:
        detail = {"practice_id": "north", "bulk_id": "none", "run": 1}
        event = {"detail-type": "BulkQueued", "time": "2026-11-25T12:00:00Z", "detail": detail}
        rows = {"number": 0, "begin": 0, "end": 1, "first_row": 1, "rows": 1, "too_long": False}
        body = json.dumps(event if dlq == "BULKS" else {"version": 1, **detail, "rows": rows})
        assert work.service.run(function, body) == []
        assert work.service.dead_letters(dlq) == [("unknown bulk", body)]

    def test_of_a_line_that_the_practice_has_no_more(self, work: Work) -> None:
        started(work, csv_of(["p-1"]), line="billing")
        practice = {**CLINIC, "lines": CLINIC["lines"][:1]}
        assert work.service.put("north", practice).status == 200
        (chunk,) = work.route()
        assert work.service.dead_letters("CHUNKS") == [("unknown line", chunk)]
        assert messages(work) == {}
