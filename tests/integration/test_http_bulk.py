"""Broadcasts, campaigns and dry runs over HTTP: whole answers of all routes, and how many texts a day may take."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from patient_contact import aws as clients
from patient_contact import bulks, clock, practices, recipients
from patient_contact.bulks import Listed, Order, QuotaExceeded
from patient_contact.content import Content
from tests.integration.bulk import BROADCAST, CAMPAIGN, KEY, Work, csv_of, upload
from tests.integration.sending import CLINIC, wire
from tests.integration.service import (
    CONTACT_INFO,
    CURSOR,
    LANDLINE,
    MESSAGES,
    OTHER_PRACTICE,
    POLICY_OFF,
    PRACTICE,
    REMINDER,
    TIME,
    UNKNOWN_PRACTICE,
    Answer,
    Matching,
    Service,
    client_error,
    fault,
    invalid,
    problem,
)

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ID = Matching(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
REUSED = invalid((["header", "idempotency-key"], "reused", "this key was used to start something else"))
EMAIL_ONLY = {"email": {"subject": "Flu shots", "body": "Flu shots are here."}}
CALLED = {"text": {"body": "Flu shots are here, $first_name."}, "call": {"body": "Flu shots are here."}}
# `p-1` can be texted, called and emailed; `p-2` has nothing on file; `p-3` has a landline, and `p-4` an email address.
PATIENTS: dict[str, dict[str, Any]] = {
    "p-1": CONTACT_INFO,
    "p-2": {"phones": [], "emails": []},
    "p-3": {"phones": [{"number": LANDLINE, "line_type": "landline"}], "emails": []},
    "p-4": {"phones": [], "emails": [{"address": "kim@example.org"}]},
}
LIST = csv_of([*PATIENTS, "p-9", "p-1"])

# As it was asked for, and nobody has looked into its list.
STARTED: dict[str, Any] = {
    "id": ID,
    "kind": "campaign",
    "dry_run": False,
    "name": "Flu shots",
    "line": "main",
    "channels": ["text"],
    "sender": "practice",
    "created_at": TIME,
    "created_by": "staff-7",
    "starts_at": None,
    "send_before": None,
    "state": "queued",
    "failure": None,
    "total": None,
    "done": 0,
    "routed": 0,
    "suppressed": 0,
    "refused": 0,
    "by_channel": {},
    "by_reason": {},
    "sent": 0,
    "failed": 0,
    "unknown": 0,
    "withdrawn": 0,
    "handed_over": 0,
    "rate": None,
    "estimated_end": None,
    "changes": [],
}
TRIED = {**STARTED, "dry_run": True, "sender": None}
BROADCASTED = {**STARTED, "kind": "broadcast", "name": "Closed today"}


class Number:
    """Equals every number above 0."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and other > 0

    def __hash__(self) -> int:
        return 0


RATE: Any = Number()
# What became of `LIST`, texted only.
ROUTED = {
    "total": 6,
    "done": 6,
    "routed": 1,
    "suppressed": 3,
    "refused": 2,
    "by_channel": {"text": 1},
    "by_reason": {"TEXT_ENABLED": 1, "NO_VALID_PHONE": 2, "LANDLINE": 1, "UNKNOWN_PATIENT": 1, "DUPLICATE": 1},
    "rate": RATE,
}


@pytest.fixture(scope="module")
def clinic_as_put(once_deployed: Service, north_as_put: Any) -> Any:
    """A table with the practice `north`, its automation `reminder`, and all these patients."""
    once_deployed.restore(north_as_put)
    for name, body in PATIENTS.items():
        assert once_deployed.put(f"north/patients/{name}/contact-info", body).status == 200
    snapshot = once_deployed.snapshot()
    once_deployed.forget()
    return snapshot


@pytest.fixture
def work(service: Service, clinic_as_put: Any) -> Work:
    """What goes to and fro between the functions, for that practice."""
    service.restore(clinic_as_put)
    return Work(service)


def broadcast(
    service: Service, *patient_ids: str, key: str = "key-1", query: str = "", path: str = "north", **changes: object
) -> Answer:
    body = {**BROADCAST, "patient_ids": patient_ids or ["p-1"], **changes}
    headers = {"idempotency-key": key}
    return service.post(f"{path}/broadcasts{query}", body, headers=headers, practice_ids=[path])


def campaign(service: Service, key: str = "key-1", query: str = "", text: str = LIST, **changes: object) -> Answer:
    body = {**CAMPAIGN, "list": {"key": upload(service, text)}, **changes}
    return service.post(f"north/campaigns{query}", body, headers={"idempotency-key": key})


def path_of(answer: Answer) -> str:
    """Where what was started is read."""
    assert answer.status == 202, answer
    location = answer.headers["location"]
    assert location == location.rpartition("/")[0] + f"/{answer.body['id']}"
    return location.removeprefix("/v1/practices/")


def bulk_items(service: Service) -> list[str]:
    return [item["PK"]["S"] for item in service.items() if item["SK"]["S"] == "BULK"]


class TestStarting:
    @pytest.mark.parametrize(
        ("start", "expected", "path"),
        [
            (lambda service: broadcast(service), BROADCASTED, "broadcasts"),
            (
                lambda service: broadcast(service, line="billing", messages=EMAIL_ONLY, name="Post"),
                {**BROADCASTED, "line": "billing", "channels": ["email"], "name": "Post"},
                "broadcasts",
            ),
            (
                lambda service: broadcast(service, query="?dry_run=true"),
                {**TRIED, "kind": "broadcast", "name": "Closed today"},
                "dry-runs",
            ),
            (lambda service: broadcast(service, query="?dry_run=false"), BROADCASTED, "broadcasts"),
            (lambda service: campaign(service), STARTED, "campaigns"),
            (
                lambda service: campaign(service, messages=MESSAGES, text="patient_id,first_name,when\np-1,Pat,now\n"),
                {**STARTED, "channels": ["text", "call", "email"]},
                "campaigns",
            ),
            (lambda service: campaign(service, query="?dry_run=true"), TRIED, "dry-runs"),
            (
                lambda service: service.post(
                    "north/automations/reminder/dry-run", {"patient_ids": ["p-1"]}, headers=KEY
                ),
                {**TRIED, "kind": "automation", "name": "Reminder", "channels": ["text", "call", "email"]},
                "dry-runs",
            ),
            (
                lambda service: service.post(
                    "north/automations/reminder/dry-run", {"list": {"key": upload(service, LIST)}}, headers=KEY
                ),
                {**TRIED, "kind": "automation", "name": "Reminder", "channels": ["text", "call", "email"]},
                "dry-runs",
            ),
            (
                lambda service: service.post(f"{path_of(broadcast(service))}/dry-run", {}, headers=KEY),
                {**TRIED, "kind": "broadcast", "name": "Closed today"},
                "dry-runs",
            ),
            (
                lambda service: service.post(f"{path_of(campaign(service))}/dry-run", {}, headers=KEY),
                TRIED,
                "dry-runs",
            ),
        ],
        ids=[
            "broadcast",
            "broadcast of another line and channel",
            "dry run of a broadcast",
            "broadcast that is no dry run",
            "campaign",
            "campaign by all channels",
            "dry run of a campaign",
            "dry run of an automation over patients",
            "dry run of an automation over a list",
            "dry run of a broadcast that was started",
            "dry run of a campaign that was started",
        ],
    )
    def test_it_answers_202_with_how_far_it_has_come_and_where_that_is_read(
        self, work: Work, start: Callable[[Service], Answer], expected: dict[str, Any], path: str
    ) -> None:
        answer = start(work.service)
        assert answer == Answer(202, expected, {})
        assert answer.headers["location"] == f"/v1/practices/north/{path}/{answer.body['id']}"
        assert answer.headers["cache-control"] == "no-store"
        assert work.service.get(path_of(answer)) == Answer(200, answer.body, {})

    def test_its_times_are_answered_in_utc_and_a_dry_run_has_none(self, work: Work) -> None:
        with time_machine.travel(NOON, tick=False):
            times = {"starts_at": "2026-11-25T05:00:00-08:00", "send_before": "2026-11-25T15:00:00+01:00"}
            told = {"starts_at": "2026-11-25T13:00:00.000000Z", "send_before": "2026-11-25T14:00:00.000000Z"}
            expected = {**BROADCASTED, **told, "state": "pending", "created_at": "2026-11-25T12:00:00.000000Z"}
            assert broadcast(work.service, **times) == Answer(202, expected, {})
            tried = {**expected, "dry_run": True, "sender": None, "state": "queued"}
            tried |= {"starts_at": None, "send_before": None}
            assert broadcast(work.service, key="key-2", query="?dry_run=true", **times) == Answer(202, tried, {})

    def test_who_sends_is_said_as_it_is_now(self, work: Work) -> None:
        assert work.service.put("north", CLINIC).status == 200
        answer = broadcast(work.service)
        assert answer == Answer(202, {**BROADCASTED, "sender": "service"}, {})
        assert work.service.put("north", PRACTICE).status == 200
        assert work.service.get(path_of(answer)) == Answer(200, BROADCASTED, {})

    def test_who_starts_it_is_said(self, work: Work) -> None:
        body = {**BROADCAST, "patient_ids": ["p-1"]}
        answer = work.service.post("north/broadcasts", body, headers=KEY, sub="staff-8")
        assert answer == Answer(202, {**BROADCASTED, "created_by": "staff-8"}, {})

    def test_3000_patients_with_the_longest_ids_are_a_broadcast(self, work: Work) -> None:
        ids = [f"{n:0128}" for n in range(3_000)]
        assert broadcast(work.service, *ids) == Answer(202, BROADCASTED, {})
        listed = clients.s3().list_objects_v2(Bucket=work.service.environment["LISTS_BUCKET"], Prefix="broadcasts/")
        sizes = [each["Size"] for each in listed["Contents"]]
        assert 3_000 * 131 in sizes

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"name": ""}, (["body", "name"], "string_too_short", "String should have at least 1 character")),
            ({"name": "x" * 201}, (["body", "name"], "string_too_long", "String should have at most 200 characters")),
            ({"line": "unknown"}, (["body", "line"], "unknown_line", "the practice has no such line")),
            (
                {"messages": {}},
                (["body", "messages"], "value_error", "at least one of text, call and email has content"),
            ),
            (
                {"messages": {"text": {"body": "Only 5 $"}}},
                (
                    ["body", "messages", "text", "body"],
                    "value_error",
                    "every $ begins a placeholder like $name or ${name}; write $$ for a dollar sign",
                ),
            ),
            (
                {"messages": {"text": {"body": "x" * 1_601}}},
                (["body", "messages", "text", "body"], "value_error", "a text has at most 1600 characters"),
            ),
            *(
                (
                    {name: value},
                    (
                        ["body", name],
                        "value_error",
                        "not a time in ISO 8601 with its offset, like 2026-11-20T17:02:11Z",
                    ),
                )
                for name in ("starts_at", "send_before")
                for value in ("2026-11-25T12:00:00", "2026-11-25", "soon", 1_764_000_000, True)
            ),
            ({"policy": {}}, (["body", "policy"], "extra_forbidden", "Extra inputs are not permitted")),
            ({"kind": "campaign"}, (["body", "kind"], "extra_forbidden", "Extra inputs are not permitted")),
        ],
    )
    def test_what_neither_can_be_is_refused_by_field(
        self, work: Work, changes: dict[str, Any], error: tuple[list[str | int], str, str]
    ) -> None:
        before = work.service.items()
        for query in ("", "?dry_run=true"):
            assert broadcast(work.service, query=query, **changes) == invalid(error)
            assert campaign(work.service, query=query, **changes) == invalid(error)
        assert work.service.items() == before

    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            (
                {"patient_ids": []},
                (["body", "patient_ids"], "too_short", "List should have at least 1 item after validation, not 0"),
            ),
            (
                {"patient_ids": ["p-1"] * 3_001},
                (
                    ["body", "patient_ids"],
                    "too_long",
                    "List should have at most 3000 items after validation, not 3001",
                ),
            ),
            (
                {"patient_ids": ["p-1", "p 2"]},
                (
                    ["body", "patient_ids", 1],
                    "string_pattern_mismatch",
                    "String should match pattern '^[A-Za-z0-9._~-]{1,128}$'",
                ),
            ),
            ({"patient_ids": "p-1"}, (["body", "patient_ids"], "list_type", "Input should be a valid list")),
            ({"list": {"key": "k"}}, (["body", "list"], "extra_forbidden", "Extra inputs are not permitted")),
            *(
                (
                    {"messages": messages},
                    (
                        ["body", "messages"],
                        "placeholder",
                        "nothing fills placeholders here: what differs from patient to patient is a campaign's context",
                    ),
                )
                for messages in (
                    {"text": {"body": "Hi $first_name."}},
                    {"email": {"subject": "For ${first_name}", "body": "Hi."}},
                )
            ),
        ],
    )
    def test_what_a_broadcast_cannot_be_is_refused_by_field(
        self, work: Work, changes: dict[str, Any], error: tuple[list[str | int], str, str]
    ) -> None:
        before = work.service.items()
        for query in ("", "?dry_run=true"):
            assert broadcast(work.service, query=query, **changes) == invalid(error)
        assert work.service.items() == before

    def test_a_dollar_sign_is_no_placeholder(self, work: Work) -> None:
        assert broadcast(work.service, messages={"text": {"body": "It is $$5."}}).status == 202
        work.route()
        (routed,) = (event["detail"] for event in work.publish() if event["detail-type"] == "MessageRouted")
        assert routed["messages"] == {"text": {"body": "It is $5."}}

    @pytest.mark.parametrize(
        ("listed", "error"),
        [
            (None, (["body", "list"], "model_attributes_type", None)),
            ("k", (["body", "list"], "model_attributes_type", None)),
            ({}, (["body", "list", "key"], "missing", "Field required")),
            ({"key": ""}, (["body", "list", "key"], "string_too_short", "String should have at least 1 character")),
            (
                {"key": "x" * 1_025},
                (["body", "list", "key"], "string_too_long", "String should have at most 1024 characters"),
            ),
            ({"key": 7}, (["body", "list", "key"], "string_type", "Input should be a valid string")),
            (
                {"key": "\ud800.csv"},
                (
                    ["body", "list", "key"],
                    "string_unicode",
                    "Input should be a valid string, unable to parse raw data as a unicode string",
                ),
            ),
            (
                {"key": "k", "bucket": "b"},
                (["body", "list", "bucket"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
        ],
    )
    def test_what_is_no_list_is_refused_by_field(
        self, work: Work, listed: object, error: tuple[list[str | int], str, str | None]
    ) -> None:
        loc, kind, message = error
        message = message or "Input should be a valid dictionary or object to extract fields from"
        answer = work.service.post("north/campaigns", {**CAMPAIGN, "list": listed}, headers=KEY)
        assert answer == invalid((loc, kind, message))

    @pytest.mark.parametrize("path", ["broadcasts", "campaigns", "automations/reminder/dry-run"])
    def test_a_body_that_is_none_is_refused(self, work: Work, path: str) -> None:
        post = work.service.post
        malformed = problem(400, "malformed", "Bad Request", "The body is not valid JSON.")
        assert post(f"north/{path}", b"{", headers=KEY) == malformed
        assert post(f"north/{path}", [], headers=KEY) == invalid((["body"], "dict_type", "the body is a JSON object"))
        assert post(f"north/{path}", None, headers=KEY) == invalid((["body"], "missing", "Field required"))

    @pytest.mark.parametrize(
        ("path", "kilobytes"),
        [("broadcasts", 1_024), ("automations/reminder/dry-run", 1_024), ("campaigns", 256)],
    )
    def test_where_patients_are_named_a_body_may_be_longer(self, work: Work, path: str, kilobytes: int) -> None:
        too_large = problem(413, "too-large", "Content Too Large", f"A body has at most {kilobytes} KB.")
        longest = b"{}".ljust(kilobytes * 1_024)
        assert work.service.post(f"north/{path}", longest, headers=KEY).status == 422
        assert work.service.post(f"north/{path}", longest + b" ", headers=KEY) == too_large

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            (
                "?dry_run=maybe",
                (
                    ["query", "dry_run"],
                    "bool_parsing",
                    "Input should be a valid boolean, unable to interpret input",
                ),
            ),
            ("?dryrun=true", (["query", "dryrun"], "extra_forbidden", "there is no such parameter here")),
        ],
    )
    def test_what_may_have_been_meant_as_a_dry_run_starts_nothing(
        self, work: Work, query: str, error: tuple[list[str | int], str, str]
    ) -> None:
        assert broadcast(work.service, query=query) == invalid(error)
        assert campaign(work.service, query=query) == invalid(error)
        assert bulk_items(work.service) == []

    def test_what_is_not_known_is_not_found(self, work: Work) -> None:
        service = work.service
        body = {**BROADCAST, "patient_ids": ["p-1"]}
        assert service.post("south/broadcasts", body, headers=KEY, practice_ids=["south"]) == UNKNOWN_PRACTICE
        assert service.post("south/broadcasts", body, headers=KEY) == OTHER_PRACTICE
        unknown = problem(404, "unknown-automation", "Not Found", "There is no such automation.")
        tried = service.post("north/automations/none/dry-run", {"patient_ids": ["p-1"]}, headers=KEY)
        assert tried == unknown
        for kind in ("broadcast", "campaign"):
            unknown = problem(404, f"unknown-{kind}", "Not Found", f"There is no such {kind}.")
            assert service.post(f"north/{kind}s/none/dry-run", {}, headers=KEY) == unknown
        # A dry run of a dry run would say the same.
        tried = campaign(service, query="?dry_run=true")
        assert service.post(f"north/campaigns/{tried.body['id']}/dry-run", {}, headers=KEY) == unknown


class TestTimes:
    @staticmethod
    def at(**ahead: float) -> str:
        return clock.iso(NOON + timedelta(**ahead))

    @pytest.mark.parametrize(
        ("starts_at", "send_before", "is_accepted"),
        [
            (None, {"microseconds": 1}, True),
            (None, {}, False),
            (None, {"hours": -1}, False),
            ({"hours": 1}, {"hours": 1, "microseconds": 1}, True),
            ({"hours": 1}, {"hours": 1}, False),
            ({"hours": 2}, {"hours": 1}, False),
            # What should have started already starts now.
            ({"hours": -2}, {"hours": -1}, False),
            ({"hours": -2}, {"hours": 1}, True),
        ],
    )
    def test_it_is_to_be_sent_after_its_start(
        self, work: Work, starts_at: dict[str, float] | None, send_before: dict[str, float], is_accepted: bool
    ) -> None:
        refused = invalid((["body", "send_before"], "time", "lies before the start"))
        with time_machine.travel(NOON, tick=False):
            times = {"send_before": self.at(**send_before)}
            if starts_at is not None:
                times["starts_at"] = self.at(**starts_at)
            for query in ("", "?dry_run=true"):
                for start in (broadcast, campaign):
                    answer = start(work.service, key=f"key-{len(query)}", query=query, **times)
                    assert answer.status == 202 if is_accepted else answer == refused

    def test_it_waits_for_60_days_at_most(self, work: Work) -> None:
        refused = invalid((["body", "starts_at"], "time", "lies more than 60 days ahead"))
        with time_machine.travel(NOON, tick=False):
            assert broadcast(work.service, starts_at=self.at(days=60, microseconds=1)) == refused
            assert campaign(work.service, starts_at=self.at(days=60, microseconds=1)) == refused
            answer = broadcast(work.service, starts_at=self.at(days=60))
            expected = {**BROADCASTED, "created_at": self.at(), "starts_at": self.at(days=60), "state": "pending"}
            assert answer == Answer(202, expected, {})

    def test_its_messages_are_to_be_sent_before_then(self, work: Work) -> None:
        assert work.service.put("north", CLINIC).status == 200
        with time_machine.travel(NOON, tick=False) as time:
            path = path_of(broadcast(work.service, "p-1", send_before=self.at(hours=1)))
            work.route()
            time.shift(3_600)
            work.send()
            answer = work.service.get(path).body
            assert (answer["state"], answer["routed"], answer["withdrawn"], answer["sent"]) == ("completed", 1, 1, 0)
            assert work.service.carriers.so_far() == []


class TestIdempotencyKey:
    STARTS = pytest.mark.parametrize(
        "start",
        [
            lambda service: broadcast(service, "p-1", "p-2"),
            lambda service: broadcast(service, "p-1", "p-2", query="?dry_run=true"),
            lambda service: campaign(service),
            lambda service: service.post(
                "north/automations/reminder/dry-run", {"patient_ids": ["p-1", "p-2"]}, headers=KEY
            ),
        ],
        ids=["broadcast", "dry run", "campaign", "automation"],
    )

    @STARTS
    def test_the_same_key_again_gives_it_as_it_is_now_and_starts_no_other(
        self, work: Work, start: Callable[[Service], Answer]
    ) -> None:
        first = start(work.service)
        before = work.service.items()
        again = start(work.service)
        assert (again, again.headers["location"]) == (Answer(202, first.body, {}), first.headers["location"])
        assert work.service.items() == before
        assert len(work.route()) == 1
        last = start(work.service)
        assert last.status == 202
        assert last == Answer(202, work.service.get(path_of(first)).body, {})
        assert (last.body["state"], last.body["done"]) == ("completed", last.body["total"])
        assert work.route() == []

    @STARTS
    def test_ten_at_once_would_start_one(self, work: Work, start: Callable[[Service], Answer]) -> None:
        # As all but the first find it: not there yet when they look, and there when they write.
        bulk_ids: list[str] = []

        def overtaken(request: dict[str, Any]) -> None:
            if not bulk_ids:
                bulk_ids.append(request["TransactItems"][0]["Put"]["Item"]["PK"]["S"])
                clients.dynamodb().transact_write_items(TransactItems=request["TransactItems"])

        with fault(clients.dynamodb(), "TransactWriteItems", overtaken):
            answer = start(work.service)
        assert answer == Answer(202, work.service.get(path_of(answer)).body, {})
        assert bulk_items(work.service) == bulk_ids
        assert len(work.route()) == 1
        quotas = [item["used"]["N"] for item in work.service.items() if item["SK"]["S"].startswith("QUOTA#")]
        assert quotas in ([], ["2"])

    def test_another_request_with_the_key_is_refused_and_the_first_stands(self, work: Work) -> None:
        service = work.service
        first = broadcast(service, "p-1", "p-2")
        before = service.items()
        for changes in (
            {"name": "Open today"},
            {"messages": {"text": {"body": "We are open."}}},
            {"line": "billing"},
            {"starts_at": "2026-12-24T12:00:00Z"},
            {"send_before": "2026-12-24T12:00:00Z"},
        ):
            assert broadcast(service, "p-1", "p-2", **changes) == REUSED
        assert broadcast(service, "p-1") == REUSED
        assert broadcast(service, "p-2", "p-1") == REUSED
        assert broadcast(service, "p-1", "p-2", query="?dry_run=true") == REUSED
        assert service.items() == before
        assert service.get(path_of(first)) == Answer(200, first.body, {})

    def test_another_list_or_policy_with_the_key_is_refused_too(self, work: Work) -> None:
        service = work.service
        first = campaign(service)
        other = {**CAMPAIGN, "list": {"key": upload(service, LIST, "other.csv")}}
        assert service.post("north/campaigns", other, headers=KEY) == REUSED
        path = f"{path_of(first)}/dry-run"
        assert service.post(path, {}, headers=KEY).status == 202
        assert service.post(path, {"policy": POLICY_OFF}, headers=KEY) == REUSED
        assert service.post(path, {"messages": EMAIL_ONLY}, headers=KEY) == REUSED

    def test_the_order_of_fields_and_spaces_makes_no_other_request(self, work: Work) -> None:
        text = {"text": {"body": "Hi."}}
        first = {"name": "n", "messages": text, "patient_ids": ["p-1"]}
        second = json.dumps(dict(reversed(first.items())), indent=3).encode()
        answers = [work.service.post("north/broadcasts", body, headers=KEY) for body in (first, second)]
        assert [answer.status for answer in answers] == [202, 202]
        assert len(bulk_items(work.service)) == 1

    def test_another_key_path_or_practice_starts_another(self, work: Work) -> None:
        service = work.service
        assert service.put("south", {**PRACTICE, "lines": SOUTH_LINES}, practice_ids=["south"]).status == 200
        paths = [
            path_of(broadcast(service)),
            path_of(broadcast(service, key="key-2")),
            path_of(broadcast(service, path="south")),
            path_of(campaign(service)),
            path_of(service.post("north/automations/reminder/dry-run", {"patient_ids": ["p-1"]}, headers=KEY)),
        ]
        paths += [path_of(service.post(f"{path}/dry-run", {}, headers=KEY)) for path in (paths[0], paths[1], paths[3])]
        assert len({path.rpartition("/")[2] for path in paths}) == len(paths) == len(bulk_items(service))

    def test_what_was_started_is_answered_though_it_could_be_started_no_more(self, work: Work) -> None:
        service = work.service
        with time_machine.travel(NOON, tick=False) as time:
            soon = clock.iso(NOON + timedelta(hours=1))
            first = [broadcast(service, send_before=soon), campaign(service, line="billing", send_before=soon)]
            time.shift(7_200)
            service.put("north", {**PRACTICE, "lines": PRACTICE["lines"][:1], "broadcast_texts_per_day": 0})
            again = [broadcast(service, send_before=soon)]
            key = "lists/north/list.csv"
            clients.s3().delete_object(Bucket=service.environment["LISTS_BUCKET"], Key=key)
            body = {**CAMPAIGN, "list": {"key": key}, "line": "billing", "send_before": soon}
            again.append(service.post("north/campaigns", body, headers=KEY))
        assert again == [Answer(202, each.body, {}) for each in first]

    @pytest.mark.parametrize("path", ["broadcasts", "campaigns", "automations/reminder/dry-run"])
    def test_a_request_needs_a_key_that_is_one(self, work: Work, path: str) -> None:
        bodies = {
            "broadcasts": {**BROADCAST, "patient_ids": ["p-1"]},
            "campaigns": {**CAMPAIGN, "list": {"key": upload(work.service, LIST)}},
        }
        body = bodies.get(path, {"patient_ids": ["p-1"]})
        missing = invalid((["header", "idempotency-key"], "missing", "Field required"))
        assert work.service.post(f"north/{path}", body) == missing
        pattern = "String should match pattern '^[A-Za-z0-9._~:-]{1,128}$'"
        mismatch = invalid((["header", "idempotency-key"], "string_pattern_mismatch", pattern))
        for key in ("", "a b", "a/b", "x" * 129):
            assert work.service.post(f"north/{path}", body, headers={"idempotency-key": key}) == mismatch


SOUTH_LINES = [
    {"id": "main", "name": "Main", "phone_number": "+15035559100"},
    {"id": "billing", "name": "Billing", "phone_number": "+15035559101"},
]
ADD_PHONE = {"code": "ADD_PHONE", "message": "No valid phone is on file: add one that the message can use."}
ADD_EMAIL = {"code": "ADD_EMAIL", "message": "Add an email address."}


def row(number: int, patient_id: str, outcome: str, channel: str | None, reason: str, explanation: str) -> Any:
    return {
        "row": number,
        "patient_id": patient_id,
        "outcome": outcome,
        "channel": channel,
        "reason": reason,
        "explanation": explanation,
    }


# What became of each row of `LIST`, texted only.
ROWS = [
    row(1, "p-1", "deliver", "text", "TEXT_ENABLED", "Texted: +1 503-555-0101 can be texted on line main."),
    {
        **row(2, "p-2", "suppress", None, "NO_VALID_PHONE", "Nothing sent: no valid phone is on file."),
        "remedy": ADD_PHONE,
    },
    {
        **row(
            3,
            "p-3",
            "suppress",
            None,
            "LANDLINE",
            "Nothing sent: +1 503-555-0102 is a landline, which cannot be texted.",
        ),
        "remedy": {"code": "INCLUDE_CALL", "message": "Include a call in the message."},
    },
    {
        **row(4, "p-4", "suppress", None, "NO_VALID_PHONE", "Nothing sent: no valid phone is on file."),
        "remedy": ADD_PHONE,
    },
    row(5, "p-9", "refused", None, "UNKNOWN_PATIENT", "The practice has no such patient."),
    row(6, "p-1", "refused", None, "DUPLICATE", "The patient is in the list more than once, and counts once."),
]


class TestProgress:
    """From its start to its end, each time the whole answer."""

    def test_what_the_practice_sends_itself_has_ended_when_it_is_routed(self, work: Work) -> None:
        path = path_of(campaign(work.service))
        (event,) = work.queued()
        assert work.service.run("StartBulkFunction", event) == []
        running = {**STARTED, "state": "running", "total": 6}
        assert work.service.get(path) == Answer(200, running, {})
        (chunk,) = work.chunks()
        assert work.service.run("RouteBatchFunction", chunk) == []
        completed = {**running, **ROUTED, "state": "completed", "handed_over": 1}
        assert work.service.get(path) == Answer(200, completed, {})
        (routed,) = (event["detail"] for event in work.publish() if event["detail-type"] == "MessageRouted")
        assert routed["messages"] == {"text": {"body": "Flu shots are here, Pat."}}
        assert work.service.get(path) == Answer(200, completed, {})

    def test_what_the_service_sends_has_ended_when_it_is_sent(self, work: Work) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = path_of(campaign(work.service, text=csv_of([*PATIENTS, "p-9", "p-1"])))
        work.route()
        routed = {**STARTED, **ROUTED, "sender": "service", "state": "running", "estimated_end": TIME}
        assert work.service.get(path) == Answer(200, routed, {})
        work.send()
        sent = {**routed, "state": "completed", "sent": 1, "estimated_end": None}
        assert work.service.get(path) == Answer(200, sent, {})
        assert [each["body"] for each in work.service.carriers.so_far()] == ["Flu shots are here, Pat."]

    @pytest.mark.parametrize(
        ("answer", "became"),
        [
            ((400, {"__type": "ValidationException", "Reason": "OTHER"}), "failed"),
            ((500, {"__type": "InternalServerException"}), "unknown"),
        ],
    )
    def test_what_is_not_sent_is_counted_too(self, work: Work, answer: tuple[int, dict[str, Any]], became: str) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = path_of(campaign(work.service))
        work.route()
        with wire(lambda *_: answer):
            work.send()
        expected = {**STARTED, **ROUTED, "sender": "service", "state": "completed", became: 1}
        assert work.service.get(path) == Answer(200, expected, {})

    def test_what_was_unknown_and_turns_out_to_be_sent_moves(self, work: Work) -> None:
        assert work.service.put("north", CLINIC).status == 200
        started = campaign(work.service)
        work.route()
        with wire(lambda *_: (500, {"__type": "InternalServerException"})):
            work.send()
        decision = f"north/patients/p-1/decisions/campaign:{started.body['id']}"
        assert work.service.post(f"{decision}/resolve", {"outcome": "sent"}).status == 200
        work.publish()
        expected = {**STARTED, **ROUTED, "sender": "service", "state": "completed", "sent": 1}
        assert work.service.get(path_of(started)) == Answer(200, expected, {})

    def test_a_broadcast_goes_to_whom_staff_have_chosen(self, work: Work) -> None:
        path = path_of(broadcast(work.service, *PATIENTS, "p-9", "p-1"))
        work.route()
        expected = {**BROADCASTED, **ROUTED, "state": "completed", "handed_over": 1}
        assert work.service.get(path) == Answer(200, expected, {})
        assert work.service.get(f"{path}/recipients") == Answer(200, {"items": ROWS, "next": None}, {})

    def test_do_not_contact_stops_none_of_both(self, work: Work) -> None:
        assert work.service.put("north/patients/p-1/do-not-contact", {"enabled": True}).status == 200
        for path in (path_of(broadcast(work.service)), path_of(campaign(work.service))):
            work.route()
            assert work.service.get(path).body["by_channel"] == {"text": 1}

    def test_its_rate_and_its_end_are_those_of_what_is_sent(self, work: Work) -> None:
        """All is routed in a second, and a text goes out every 2 seconds after that."""
        assert work.service.put("north", CLINIC).status == 200
        ids = [f"q-{n}" for n in range(4)]
        for name in ids:
            assert work.service.put(f"north/patients/{name}/contact-info", CONTACT_INFO).status == 200
        with time_machine.travel(NOON, tick=False) as time:
            path = path_of(campaign(work.service, text=csv_of(ids)))
            (event,) = work.queued()
            assert work.service.run("StartBulkFunction", event) == []
            time.shift(1)
            (chunk,) = work.chunks()
            assert work.service.run("RouteBatchFunction", chunk) == []
            routed = [event for event in work.publish() if event["detail-type"] == "MessageRouted"]
            for message in routed[:2]:
                time.shift(2)
                assert work.service.run("SendMessageFunction", message) == []
                work.publish()
            answer = work.service.get(path).body
        assert (answer["done"], answer["sent"], answer["total"]) == (4, 2, 4)
        # Two in 5 seconds: the other two take as long again.
        assert answer["rate"] == 0.4
        assert answer["estimated_end"] == clock.iso(NOON + timedelta(seconds=10))


class TestDryRuns:
    """They say who would get what, and what would change, and leave nothing behind that would be sent."""

    def test_of_a_campaign_says_what_its_start_would_and_sends_nothing(self, work: Work) -> None:
        before = {(item["PK"]["S"], item["SK"]["S"]): item for item in work.service.items()}
        path = path_of(campaign(work.service, query="?dry_run=true"))
        work.route()
        assert work.service.get(path) == Answer(200, {**TRIED, **ROUTED, "state": "completed"}, {})
        assert work.service.get(f"{path}/recipients") == Answer(200, {"items": ROWS, "next": None}, {})
        assert work.publish() == []
        after = {(item["PK"]["S"], item["SK"]["S"]): item for item in work.service.items()}
        assert {key: item for key, item in after.items() if key in before} == before
        kinds = sorted(sk.partition("#")[0] for pk, sk in after.keys() - before.keys())
        assert kinds == ["BULK", "CHUNK", "CONTENT", *["DRYRUN"] * 4]
        # The one that sends is not kept from it.
        path = path_of(campaign(work.service, key="key-2"))
        work.route()
        expected = {**STARTED, **ROUTED, "state": "completed", "handed_over": 1}
        assert work.service.get(path) == Answer(200, expected, {})

    def test_of_what_was_sent_it_says_the_same_again(self, work: Work) -> None:
        path = path_of(campaign(work.service))
        work.route()
        tried = path_of(work.service.post(f"{path}/dry-run", {}, headers=KEY))
        work.route()
        assert work.service.get(tried) == Answer(200, {**TRIED, **ROUTED, "state": "completed"}, {})
        assert work.service.get(f"{tried}/recipients") == work.service.get(f"{path}/recipients")

    @pytest.mark.parametrize(
        ("asked", "channels", "changes"),
        [
            ({}, {"text": 1}, []),
            ({"policy": None, "messages": None}, {"text": 1}, []),
            # It is asked, and nothing would change.
            ({"policy": POLICY_OFF}, {"text": 1}, []),
            ({"messages": CAMPAIGN["messages"]}, {"text": 1}, []),
            (
                {"messages": CALLED},
                {"text": 1, "call": 1},
                [(("suppress", None, "LANDLINE"), ("deliver", "call", "LANDLINE"), 1)],
            ),
            (
                {"messages": EMAIL_ONLY},
                {"email": 1},
                [
                    (("deliver", "text", "TEXT_ENABLED"), ("suppress", None, "PHONE_ON_FILE"), 1),
                    (("suppress", None, "LANDLINE"), ("suppress", None, "NO_VALID_EMAIL"), 1),
                    (("suppress", None, "NO_VALID_PHONE"), ("deliver", "email", "NO_VALID_PHONE"), 1),
                    (("suppress", None, "NO_VALID_PHONE"), ("suppress", None, "NO_VALID_EMAIL"), 1),
                ],
            ),
            (
                {"messages": EMAIL_ONLY, "policy": {**POLICY_OFF, "email_when_no_phone_channel": True}},
                {"email": 2},
                [
                    (("deliver", "text", "TEXT_ENABLED"), ("deliver", "email", "NO_PHONE_CHANNEL"), 1),
                    (("suppress", None, "LANDLINE"), ("suppress", None, "NO_VALID_EMAIL"), 1),
                    (("suppress", None, "NO_VALID_PHONE"), ("deliver", "email", "NO_VALID_PHONE"), 1),
                    (("suppress", None, "NO_VALID_PHONE"), ("suppress", None, "NO_VALID_EMAIL"), 1),
                ],
            ),
        ],
        ids=["nothing", "nothing in words", "policy as it is", "messages as they are", "call too", "email", "both"],
    )
    def test_it_says_what_another_policy_or_other_messages_would_change(
        self, work: Work, asked: dict[str, Any], channels: dict[str, int], changes: list[Any]
    ) -> None:
        path = path_of(campaign(work.service))
        work.route()
        work.publish()
        tried = path_of(work.service.post(f"{path}/dry-run", asked, headers=KEY))
        work.route()
        answer = work.service.get(tried)
        routed = sum(channels.values())
        expected = {
            **TRIED,
            **ROUTED,
            "state": "completed",
            "routed": routed,
            "suppressed": 4 - routed,
            "channels": list(asked.get("messages") or {"text": None}),
            "by_channel": channels,
            "by_reason": answer.body["by_reason"],
            "changes": [
                {
                    "from": dict(zip(("outcome", "channel", "reason"), was, strict=True)),
                    "to": dict(zip(("outcome", "channel", "reason"), would_be, strict=True)),
                    "patients": patients,
                }
                for was, would_be, patients in changes
            ],
        }
        assert answer == Answer(200, expected, {})
        assert sum(answer.body["by_reason"].values()) == 6
        # Nothing of it is kept: what is sent stays as it was.
        assert work.service.get(path).body["by_channel"] == {"text": 1}
        assert work.publish() == []

    def test_what_would_change_is_listed_with_what_it_is_now(self, work: Work) -> None:
        path = path_of(campaign(work.service))
        tried = path_of(work.service.post(f"{path}/dry-run", {"messages": CALLED}, headers=KEY))
        work.route()
        now = {"outcome": "suppress", "channel": None, "reason": "LANDLINE"}
        called = {
            **row(
                3,
                "p-3",
                "deliver",
                "call",
                "LANDLINE",
                "Called: +1 503-555-0102 is a landline, which cannot be texted.",
            ),
            "before": now,
        }
        changed = work.service.get(f"{tried}/recipients?outcome=changed")
        assert changed == Answer(200, {"items": [called], "next": None}, {})
        every = work.service.get(f"{tried}/recipients").body["items"]
        assert [each.get("before") for each in every] == [
            {name: each[name] for name in ("outcome", "channel", "reason")} for each in ROWS[:2]
        ] + [now, {"outcome": "suppress", "channel": None, "reason": "NO_VALID_PHONE"}, None, None]
        # Of one that sends, nothing would change.
        assert work.service.get(f"{path}/recipients?outcome=changed") == Answer(200, {"items": [], "next": None}, {})

    def test_of_an_automation_says_what_its_trigger_would(self, work: Work) -> None:
        assert work.service.put("north/patients/p-1/do-not-contact", {"enabled": True}).status == 200
        text = "patient_id,first_name,when\n" + "".join(f"{name},Pat,now\n" for name in PATIENTS)
        body = {"list": {"key": upload(work.service, text)}}
        path = path_of(work.service.post("north/automations/reminder/dry-run", body, headers=KEY))
        work.route()
        expected = {
            **TRIED,
            "kind": "automation",
            "name": "Reminder",
            "channels": ["text", "call", "email"],
            "state": "completed",
            "total": 4,
            "done": 4,
            "routed": 2,
            "suppressed": 2,
            "by_channel": {"call": 1, "email": 1},
            "by_reason": {"DO_NOT_CONTACT": 1, "LANDLINE": 1, "NO_VALID_PHONE": 2},
            "rate": RATE,
        }
        assert work.service.get(path) == Answer(200, expected, {})

    def test_of_one_that_is_switched_off_says_so(self, work: Work) -> None:
        off = {**REMINDER, "enabled": False}
        assert work.service.put("north/automations/reminder", off).status == 200
        body = {"patient_ids": ["p-1"]}
        path = path_of(work.service.post("north/automations/reminder/dry-run", body, headers=KEY))
        work.route()
        (item,) = work.service.get(f"{path}/recipients").body["items"]
        off_row = row(
            1, "p-1", "suppress", None, "AUTOMATION_DISABLED", "Nothing sent: the automation is switched off."
        )
        assert item == {**off_row, "remedy": {"code": "ENABLE_AUTOMATION", "message": "Switch the automation on."}}

    def test_of_an_automation_over_patients_says_who_would_get_what(self, work: Work) -> None:
        """Where only patients are named, nothing says what fills the placeholders, and nothing has to."""
        body = {"patient_ids": list(PATIENTS)}
        path = path_of(work.service.post("north/automations/reminder/dry-run", body, headers=KEY))
        work.route()
        answer = work.service.get(path).body
        assert answer["by_channel"] == {"text": 1, "call": 1, "email": 1}

    def test_what_if_of_a_broadcast_has_no_placeholders_either(self, work: Work) -> None:
        path = path_of(broadcast(work.service))
        asked = {"messages": {"text": {"body": "Hi $first_name."}}}
        answer = work.service.post(f"{path}/dry-run", asked, headers=KEY)
        message = "nothing fills placeholders here: what differs from patient to patient is a campaign's context"
        assert answer == invalid((["body", "messages"], "placeholder", message))

    @pytest.mark.parametrize(
        ("asked", "error"),
        [
            (
                {"policy": {"text_everybody": True}},
                (["body", "policy", "text_everybody"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
            (
                {"messages": {}},
                (["body", "messages"], "value_error", "at least one of text, call and email has content"),
            ),
            ({"name": "n"}, (["body", "name"], "extra_forbidden", "Extra inputs are not permitted")),
        ],
    )
    def test_what_cannot_be_asked_is_refused_by_field(
        self, work: Work, asked: dict[str, Any], error: tuple[list[str | int], str, str]
    ) -> None:
        path = path_of(campaign(work.service))
        assert work.service.post(f"{path}/dry-run", asked, headers=KEY) == invalid(error)
        body = {**asked, "patient_ids": ["p-1"]}
        assert work.service.post("north/automations/reminder/dry-run", body, headers=KEY) == invalid(error)

    @pytest.mark.parametrize("over", [{}, {"patient_ids": ["p-1"], "list": {"key": "lists/north/list.csv"}}])
    def test_an_automation_is_tried_over_patients_or_a_list(self, work: Work, over: dict[str, Any]) -> None:
        error = invalid((["body"], "value_error", "give either patient_ids or a list"))
        assert work.service.post("north/automations/reminder/dry-run", over, headers=KEY) == error


NOT_NOW = {
    "pause": "there is nothing to pause",
    "resume": "it cannot go on",
    "cancel": "there is nothing to cancel",
}


def not_now(state: str, action: str) -> Answer:
    return problem(409, "not-now", "Conflict", f"It is {state}: {NOT_NOW[action]}.")


class TestSteering:
    """Pause, resume and cancel in every state: what each answers, and that asking twice changes nothing more."""

    @staticmethod
    def pending(work: Work) -> str:
        return path_of(campaign(work.service, starts_at=clock.iso(datetime.now(UTC) + timedelta(hours=1))))

    @staticmethod
    def queued(work: Work) -> str:
        return path_of(campaign(work.service))

    @staticmethod
    def running(work: Work) -> str:
        path = path_of(campaign(work.service))
        for event in work.queued():
            assert work.service.run("StartBulkFunction", event) == []
        return path

    @classmethod
    def paused(cls, work: Work) -> str:
        path = cls.running(work)
        assert work.service.post(f"{path}/pause").status == 200
        return path

    @staticmethod
    def completed(work: Work) -> str:
        path = path_of(campaign(work.service))
        work.route()
        return path

    @classmethod
    def cancelled(cls, work: Work) -> str:
        path = cls.running(work)
        assert work.service.post(f"{path}/cancel").status == 200
        return path

    @classmethod
    def failed(cls, work: Work) -> str:
        path = cls.queued(work)
        upload(work.service, csv_of(["p-2"]))
        work.route()
        return path

    INTO: Mapping[str, tuple[str | None, str | None, str | None]] = {
        # The state after pause, resume and cancel; None where it is refused.
        "pending": ("paused", "pending", "cancelled"),
        "queued": ("paused", "queued", "cancelled"),
        "running": ("paused", "running", "cancelled"),
        "paused": ("paused", "queued", "cancelled"),
        "completed": (None, None, None),
        "cancelled": (None, None, "cancelled"),
        "failed": (None, None, "cancelled"),
    }

    @pytest.mark.parametrize("action", NOT_NOW)
    @pytest.mark.parametrize("state", INTO)
    def test_in_each_state_it_answers_what_it_then_is_or_why_not(self, work: Work, state: str, action: str) -> None:
        path = getattr(self, state)(work)
        before = work.service.get(path)
        assert before.body["state"] == state
        after = self.INTO[state][list(NOT_NOW).index(action)]
        if after is None:
            items = work.service.items()
            assert work.service.post(f"{path}/{action}") == not_now(state, action)
            assert work.service.items() == items
            assert work.service.get(path) == before
            return
        expected = Answer(200, {**before.body, "state": after}, {})
        assert work.service.post(f"{path}/{action}") == expected
        items = work.service.items()
        assert work.service.post(f"{path}/{action}") == expected
        assert work.service.items() == items
        assert work.service.get(path) == expected

    def test_paused_no_further_patient_is_routed_until_it_is_resumed(self, work: Work) -> None:
        path = self.running(work)
        assert work.service.post(f"{path}/pause").body["state"] == "paused"
        (chunk,) = work.chunks()
        assert work.service.run("RouteBatchFunction", chunk) == []
        assert work.service.get(path) == Answer(200, {**STARTED, "state": "paused", "total": 6}, {})
        assert work.service.post(f"{path}/resume").body["state"] == "queued"
        assert len(work.route()) == 1
        # What was queued before it was paused is passed by.
        assert work.service.run("RouteBatchFunction", chunk) == []
        expected = {**STARTED, **ROUTED, "state": "completed", "handed_over": 1}
        assert work.service.get(path) == Answer(200, expected, {})

    def test_resumed_nobody_gets_a_second_message(self, work: Work) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = path_of(campaign(work.service))
        work.route()
        for _ in range(3):
            assert work.service.post(f"{path}/pause").status == 200
            work.send()
            assert work.service.carriers.so_far() == []
            assert work.service.post(f"{path}/resume").status == 200
            work.route()
        work.send()
        work.send()
        assert len(work.service.carriers.so_far()) == 1
        expected = {**STARTED, **ROUTED, "sender": "service", "state": "completed", "sent": 1}
        assert work.service.get(path).body == {**expected, "rate": work.service.get(path).body["rate"]}

    def test_cancelled_what_is_routed_and_not_sent_is_withdrawn(self, work: Work) -> None:
        assert work.service.put("north", CLINIC).status == 200
        path = path_of(campaign(work.service))
        work.route()
        assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
        work.route()
        work.send()
        expected = {**STARTED, **ROUTED, "sender": "service", "state": "cancelled", "withdrawn": 1}
        assert work.service.get(path).body == {**expected, "rate": work.service.get(path).body["rate"]}
        assert work.service.carriers.so_far() == []

    def test_a_dry_run_is_cancelled_and_never_paused(self, work: Work) -> None:
        path = path_of(campaign(work.service, query="?dry_run=true"))
        for action in ("pause", "resume", "dry-run"):
            assert work.service.post(f"{path}/{action}").status == 404
        cancelled = Answer(200, {**TRIED, "state": "cancelled"}, {})
        assert work.service.post(f"{path}/cancel") == cancelled
        assert work.service.post(f"{path}/cancel") == cancelled

    def test_a_dry_run_that_is_cancelled_while_it_runs_tells_no_more(self, work: Work) -> None:
        path = path_of(campaign(work.service, query="?dry_run=true"))
        for event in work.queued():
            assert work.service.run("StartBulkFunction", event) == []
        assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
        assert work.service.run("RouteBatchFunction", *work.chunks()) == []
        assert work.service.get(path) == Answer(200, {**TRIED, "state": "cancelled", "total": 6}, {})
        assert not [item for item in work.service.items() if item["SK"]["S"].startswith("DRYRUN#")]

    @pytest.mark.parametrize("action", NOT_NOW)
    def test_what_is_not_known_is_not_found(self, work: Work, action: str) -> None:
        path = path_of(campaign(work.service))
        for kind in ("broadcast", "campaign"):
            unknown = problem(404, f"unknown-{kind}", "Not Found", f"There is no such {kind}.")
            assert work.service.post(f"north/{kind}s/none/{action}") == unknown
        unknown = problem(404, "unknown-broadcast", "Not Found", "There is no such broadcast.")
        assert work.service.post(f"{path.replace('campaigns', 'broadcasts')}/{action}") == unknown
        assert work.service.post(f"{path.replace('north', 'south')}/{action}") == OTHER_PRACTICE
        other = work.service.post(f"{path.replace('north', 'south')}/{action}", practice_ids=["south"])
        assert other == UNKNOWN_PRACTICE

    def test_whoever_is_overtaken_looks_again(self, work: Work) -> None:
        path = self.running(work)
        overtaken: list[bool] = []

        def first(_: object) -> None:
            if not overtaken:
                overtaken.append(True)
                assert bulks.change("north", path.rpartition("/")[2], "pause")

        with fault(clients.dynamodb(), "TransactWriteItems", first):
            answer = work.service.post(f"{path}/cancel")
        assert answer == Answer(200, {**STARTED, "state": "cancelled", "total": 6}, {})


def pages(service: Service, path: str, limit: int) -> list[dict[str, Any]]:
    """All rows, page by page; every page is full but the last."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        joint = "&" if "?" in path else "?"
        page = service.get(f"{path}{joint}limit={limit}{cursor}")
        assert page == Answer(200, {"items": page.body["items"], "next": page.body["next"] and CURSOR}, {})
        found += page.body["items"]
        if page.body["next"] is None:
            return found
        assert len(page.body["items"]) == limit
        assert page.body["next"] not in cursor
        cursor = f"&cursor={page.body['next']}"


def csv_pages(service: Service, path: str, limit: int) -> list[list[str]]:
    """All rows of the CSV that is answered, page by page, without their headers."""
    found: list[list[str]] = []
    query = f"?limit={limit}"
    while True:
        answer = service.get(f"{path}{query}", headers={"accept": "text/csv"})
        assert (answer.status, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
        assert answer.headers["cache-control"] == "no-store"
        header, *rows = csv.reader(io.StringIO(answer.body, newline=""))
        assert header == list(recipients.COLUMNS)
        found += rows
        if "link" not in answer.headers:
            return found
        assert len(rows) == limit
        assert f"<{query}>" not in answer.headers["link"]
        query, _, rest = answer.headers["link"].removeprefix("<").partition(">")
        assert (query[0], rest) == ("?", '; rel="next"')


class TestRecipients:
    PATHS: Mapping[str, Callable[[Work], Answer]] = {
        "broadcasts": lambda work: broadcast(work.service, *PATIENTS, "p-9", "p-1"),
        "campaigns": lambda work: campaign(work.service),
        "dry-runs": lambda work: campaign(work.service, query="?dry_run=true"),
    }

    @pytest.fixture(params=PATHS)
    def path(self, request: pytest.FixtureRequest, work: Work) -> str:
        path = path_of(self.PATHS[request.param](work))
        assert f"/{request.param}/" in path
        work.route()
        return path

    def test_all_rows_are_listed_in_the_lists_order(self, work: Work, path: str) -> None:
        assert work.service.get(f"{path}/recipients") == Answer(200, {"items": ROWS, "next": None}, {})

    def test_who_gets_nothing_is_listed_with_what_would_help(self, work: Work, path: str) -> None:
        # Who is in the list twice does get the message.
        assert work.service.get(f"{path}/unreachable") == Answer(200, {"items": ROWS[1:5], "next": None}, {})

    @pytest.mark.parametrize(
        ("outcome", "expected"),
        [
            ("deliver", ROWS[:1]),
            ("suppress", ROWS[1:4]),
            ("refused", ROWS[4:]),
            ("unreachable", ROWS[1:5]),
            ("changed", []),
        ],
    )
    def test_those_of_one_outcome_are_listed(
        self, work: Work, path: str, outcome: str, expected: list[dict[str, Any]]
    ) -> None:
        answer = work.service.get(f"{path}/recipients?outcome={outcome}")
        assert answer == Answer(200, {"items": expected, "next": None}, {})

    def test_they_are_a_file_for_whoever_accepts_one(self, work: Work, path: str) -> None:
        answer = work.service.get(f"{path}/unreachable", headers={"accept": "text/csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert "link" not in answer.headers
        no_phone = "Nothing sent: no valid phone is on file."
        landline = '"Nothing sent: +1 503-555-0102 is a landline, which cannot be texted."'
        lines = [
            "row,patient_id,outcome,channel,reason,explanation,remedy,before",
            f"2,p-2,suppress,,NO_VALID_PHONE,{no_phone},{ADD_PHONE['message']},",
            f"3,p-3,suppress,,LANDLINE,{landline},Include a call in the message.,",
            f"4,p-4,suppress,,NO_VALID_PHONE,{no_phone},{ADD_PHONE['message']},",
            "5,p-9,refused,,UNKNOWN_PATIENT,The practice has no such patient.,,",
        ]
        assert answer == Answer(200, "".join(f"{line}\r\n" for line in lines), {})
        assert [each[0] for each in csv_pages(work.service, f"{path}/recipients", 1_000)] == list("123456")

    @pytest.mark.parametrize("kind", PATHS)
    def test_until_something_is_routed_nobody_is_listed(self, work: Work, kind: str) -> None:
        path = path_of(self.PATHS[kind](work))
        for which in ("recipients", "unreachable"):
            assert work.service.get(f"{path}/{which}") == Answer(200, {"items": [], "next": None}, {})
            assert csv_pages(work.service, f"{path}/{which}", 10) == []

    def test_a_file_says_what_it_was_before(self, work: Work) -> None:
        path = path_of(campaign(work.service))
        tried = path_of(work.service.post(f"{path}/dry-run", {"messages": EMAIL_ONLY}, headers=KEY))
        work.route()
        rows = csv_pages(work.service, f"{tried}/recipients", 1_000)
        before = ["text", "NO_VALID_PHONE", "LANDLINE", "NO_VALID_PHONE", "", ""]
        assert [each[-1] for each in rows] == before
        assert [each[3] for each in rows] == ["", "", "", "email", "", ""]

    def test_no_cell_begins_a_formula(self, work: Work) -> None:
        path = path_of(broadcast(work.service, "-1", "~2"))
        work.route()
        rows = csv_pages(work.service, f"{path}/recipients", 10)
        assert [each[1] for each in rows] == ["'-1", "~2"]
        assert [each["patient_id"] for each in pages(work.service, f"{path}/recipients", 10)] == ["-1", "~2"]

    @pytest.fixture
    def long(self, work: Work) -> tuple[str, list[dict[str, Any]]]:
        """A campaign over 230 rows, of which one in nine is texted and one in nine suppressed, and its rows."""
        names = [f"p-{n % 9}" if n % 9 in (1, 2) else f"x-{n}" for n in range(230)]
        path = path_of(campaign(work.service, text=csv_of(names)))
        assert len(work.route()) == 3
        every = pages(work.service, f"{path}/recipients", 1_000)
        assert [(each["row"], each["patient_id"]) for each in every] == list(enumerate(names, 1))
        return path, every

    def test_pages_give_each_row_once(self, work: Work, long: tuple[str, list[dict[str, Any]]]) -> None:
        path, every = long
        unreachable = [each for each in every if each["outcome"] != "deliver" and each["reason"] != "DUPLICATE"]
        assert (len(every), len(unreachable)) == (230, 179)
        for limit in (17, 99, 100, 101, 230):
            assert pages(work.service, f"{path}/recipients", limit) == every
            assert pages(work.service, f"{path}/unreachable", limit) == unreachable
        for outcome in ("deliver", "suppress", "refused"):
            expected = [each for each in every if each["outcome"] == outcome]
            assert pages(work.service, f"{path}/recipients?outcome={outcome}", 60) == expected

    def test_so_do_those_of_a_file(self, work: Work, long: tuple[str, list[dict[str, Any]]]) -> None:
        path, every = long
        whole = csv_pages(work.service, f"{path}/recipients", 1_000)
        assert [each[0] for each in whole] == [str(each["row"]) for each in every]
        for limit in (64, 100, 230):
            assert csv_pages(work.service, f"{path}/recipients", limit) == whole
        unreachable = csv_pages(work.service, f"{path}/unreachable", 1_000)
        assert csv_pages(work.service, f"{path}/unreachable", 50) == unreachable

    def test_the_next_page_of_a_file_asks_for_the_same(
        self, work: Work, long: tuple[str, list[dict[str, Any]]]
    ) -> None:
        path, _ = long
        answer = work.service.get(f"{path}/recipients?outcome=refused&limit=3", headers={"accept": "text/csv"})
        assert answer.headers["link"].startswith("<?outcome=refused&limit=3&cursor=")

    def test_rows_of_which_there_are_few_are_found_however_far_apart(
        self, work: Work, monkeypatch: pytest.MonkeyPatch, long: tuple[str, list[dict[str, Any]]]
    ) -> None:
        path, every = long
        monkeypatch.setattr(recipients, "MAX_OBJECTS", 1)
        monkeypatch.setattr(recipients, "MAX_CHUNKS", 1)
        found: list[dict[str, Any]] = []
        cursor, count = "", 0
        # A page may be short, or empty, and yet have a next.
        while True:
            page = work.service.get(f"{path}/recipients?outcome=deliver&limit=100{cursor}")
            assert page.status == 200
            found += page.body["items"]
            count += 1
            if page.body["next"] is None:
                break
            cursor = f"&cursor={page.body['next']}"
        assert (found, count) == ([each for each in every if each["outcome"] == "deliver"], 3)

    @pytest.mark.parametrize(
        ("query", "error"),
        [
            ("limit=0", (["query", "limit"], "greater_than_equal", "Input should be greater than or equal to 1")),
            ("limit=1001", (["query", "limit"], "less_than_equal", "Input should be less than or equal to 1000")),
            *(
                (f"cursor={cursor}", (["query", "cursor"], "cursor", "not a cursor that this list has given"))
                for cursor in ("", "MQ", "x", "MDAwMDAwIDEyMzQ", "w6k", "MDAwMDAw")
            ),
            ("page=2", (["query", "page"], "extra_forbidden", "there is no such parameter here")),
        ],
    )
    def test_what_cannot_be_asked_is_refused_by_parameter(
        self, work: Work, query: str, error: tuple[list[str | int], str, str]
    ) -> None:
        path = path_of(campaign(work.service))
        for which in ("recipients", "unreachable"):
            assert work.service.get(f"{path}/{which}?{query}") == invalid(error)

    def test_of_outcomes_only_those_that_there_are(self, work: Work) -> None:
        path = path_of(campaign(work.service))
        expected = "Input should be 'deliver', 'suppress', 'refused', 'changed' or 'unreachable'"
        error = invalid((["query", "outcome"], "literal_error", expected))
        assert work.service.get(f"{path}/recipients?outcome=sent") == error
        unknown = invalid((["query", "outcome"], "extra_forbidden", "there is no such parameter here"))
        assert work.service.get(f"{path}/unreachable?outcome=deliver") == unknown

    @pytest.mark.parametrize("which", ["recipients", "unreachable"])
    def test_what_is_not_known_is_not_found(self, work: Work, which: str) -> None:
        path = path_of(campaign(work.service))
        for kind in ("broadcast", "campaign", "dry-run"):
            unknown = problem(404, f"unknown-{kind}", "Not Found", f"There is no such {kind}.")
            assert work.service.get(f"north/{kind}s/none/{which}") == unknown
            if kind != "campaign":
                assert work.service.get(f"north/{kind}s/{path.rpartition('/')[2]}/{which}") == unknown
        assert work.service.get(f"{path.replace('north', 'south')}/{which}") == OTHER_PRACTICE

    def test_what_is_kept_no_longer_is_not_found(self, work: Work) -> None:
        path = path_of(campaign(work.service))
        work.route()
        bucket = work.service.environment["LISTS_BUCKET"]
        for each in clients.s3().list_objects_v2(Bucket=bucket, Prefix="results/")["Contents"]:
            clients.s3().delete_object(Bucket=bucket, Key=each["Key"])
        answer = work.service.get(f"{path}/recipients")
        assert (answer.status, answer.body["status"]) == (404, 404)
        # A problem's type is a URI.
        assert " " not in answer.body["type"]
        # How far it came is kept.
        assert work.service.get(path).body["done"] == 6


def quotas(service: Service) -> dict[str, int]:
    """How many texts of broadcasts each day has taken."""
    return {
        item["SK"]["S"].partition("#")[2]: int(item["used"]["N"])
        for item in service.items()
        if (item["PK"]["S"], item["SK"]["S"][:6]) == ("PRACTICE#north", "QUOTA#")
    }


def exceeded(left: int) -> Answer:
    detail = f"Of the day's texts by broadcasts {left} are left: choose fewer patients, or another day."
    return problem(409, "quota-exceeded", "Conflict", detail)


def people(count: int, first: int = 0) -> Iterable[str]:
    return [f"x-{n}" for n in range(first, first + count)]


class TestQuota:
    """A day has so many texts of broadcasts, by the practice's own clock, and not one more."""

    TODAY = "2026-11-25"

    @pytest.fixture(autouse=True)
    def noon(self) -> Iterable[time_machine.Traveller]:
        with time_machine.travel(NOON, tick=False) as time:
            yield time

    def test_what_is_left_is_named_and_taken_to_the_last(self, work: Work) -> None:
        service = work.service
        assert broadcast(service, *people(1_800), key="k-1").status == 202
        assert broadcast(service, *people(1_201), key="k-2") == exceeded(1_200)
        assert quotas(service) == {self.TODAY: 1_800}
        assert broadcast(service, *people(1_200), key="k-2").status == 202
        assert quotas(service) == {self.TODAY: 3_000}
        assert broadcast(service, "p-1", key="k-3") == exceeded(0)
        assert len(bulk_items(service)) == 2

    def test_a_patient_who_is_named_twice_takes_one(self, work: Work) -> None:
        assert broadcast(work.service, "p-1", "p-2", "p-1").status == 202
        assert quotas(work.service) == {self.TODAY: 2}

    def test_the_same_key_again_takes_nothing_more(self, work: Work) -> None:
        for _ in range(3):
            assert broadcast(work.service, *people(2_000)).status == 202
        assert quotas(work.service) == {self.TODAY: 2_000}

    @pytest.mark.parametrize(("limit", "count", "left"), [(0, 1, 0), (5, 6, 5), (5, 5, None), (10_000, 3_000, None)])
    def test_a_practice_may_have_its_own(self, work: Work, limit: int, count: int, left: int | None) -> None:
        practice = {**PRACTICE, "broadcast_texts_per_day": limit}
        assert work.service.put("north", practice).body["broadcast_texts_per_day"] == limit
        answer = broadcast(work.service, *people(count))
        assert answer.status == 202 if left is None else answer == exceeded(left)
        assert quotas(work.service) == ({self.TODAY: count} if left is None else {})

    def test_lowered_below_what_is_taken_none_are_left(self, work: Work) -> None:
        assert broadcast(work.service, *people(100)).status == 202
        assert work.service.put("north", {**PRACTICE, "broadcast_texts_per_day": 50}).status == 200
        assert broadcast(work.service, "p-1", key="k-2") == exceeded(0)
        assert broadcast(work.service, *people(60), key="k-2") == exceeded(0)

    def test_another_day_has_its_own(self, work: Work) -> None:
        service = work.service
        assert broadcast(service, *people(3_000), key="k-1").status == 202
        tomorrow = "2026-11-26T12:00:00Z"
        assert broadcast(service, *people(3_000), key="k-2", starts_at=tomorrow).status == 202
        assert broadcast(service, "p-1", key="k-3", starts_at=tomorrow) == exceeded(0)
        assert broadcast(service, "p-1", key="k-4") == exceeded(0)
        assert quotas(service) == {self.TODAY: 3_000, "2026-11-26": 3_000}

    @pytest.mark.parametrize(
        ("starts_at", "day"),
        [
            # Los Angeles is 8 hours behind.
            ("2026-11-26T07:59:59.999999Z", "2026-11-25"),
            ("2026-11-26T08:00:00Z", "2026-11-26"),
            ("2026-11-26T00:00:00+09:00", "2026-11-25"),
            ("2026-12-25T00:00:00-08:00", "2026-12-25"),
        ],
    )
    def test_a_day_is_the_practices_own(self, work: Work, starts_at: str, day: str) -> None:
        assert broadcast(work.service, starts_at=starts_at).status == 202
        assert quotas(work.service) == {day: 1}

    @pytest.mark.parametrize("starts_at", ["2026-11-24T12:00:00Z", "2020-01-01T00:00:00Z"])
    def test_what_should_have_started_on_an_earlier_day_starts_and_counts_today(
        self, work: Work, starts_at: str
    ) -> None:
        assert broadcast(work.service, *people(3_000), key="k-1").status == 202
        assert broadcast(work.service, "p-1", key="k-2", starts_at=starts_at) == exceeded(0)
        assert quotas(work.service) == {self.TODAY: 3_000}

    def test_another_practice_has_its_own(self, work: Work) -> None:
        service = work.service
        assert service.put("south", {**PRACTICE, "lines": SOUTH_LINES}, practice_ids=["south"]).status == 200
        assert broadcast(service, *people(3_000)).status == 202
        assert broadcast(service, *people(3_000), path="south").status == 202
        assert quotas(service) == {self.TODAY: 3_000}

    @pytest.mark.parametrize(
        "start",
        [
            lambda service: broadcast(service, messages=EMAIL_ONLY),
            lambda service: broadcast(service, messages={"call": {"body": "We are closed."}}),
            lambda service: broadcast(service, query="?dry_run=true"),
            lambda service: campaign(service),
            lambda service: service.post("north/automations/reminder/dry-run", {"patient_ids": ["p-1"]}, headers=KEY),
        ],
        ids=["email", "call", "dry run", "campaign", "automation"],
    )
    def test_what_texts_nobody_whom_staff_chose_takes_nothing(
        self, work: Work, start: Callable[[Service], Answer]
    ) -> None:
        assert work.service.put("north", {**PRACTICE, "broadcast_texts_per_day": 0}).status == 200
        path = path_of(start(work.service))
        assert quotas(work.service) == {}
        cancelled = work.service.post(f"{path}/cancel")
        assert (cancelled.status, quotas(work.service)) == (200, {})

    @pytest.mark.parametrize("more", [{}, {"starts_at": "2026-11-25T13:00:00Z"}], ids=["queued", "pending"])
    @pytest.mark.parametrize("paused", [False, True])
    def test_cancelled_before_it_begins_it_gives_its_texts_back_once(
        self, work: Work, more: dict[str, Any], paused: bool
    ) -> None:
        path = path_of(broadcast(work.service, *people(2_000), **more))
        assert broadcast(work.service, *people(1_001), key="k-2") == exceeded(1_000)
        if paused:
            assert work.service.post(f"{path}/pause").status == 200
            assert quotas(work.service) == {self.TODAY: 2_000}
        for _ in range(2):
            assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
            assert quotas(work.service) == {self.TODAY: 0}
        assert broadcast(work.service, *people(3_000), key="k-2").status == 202
        # Its key is that of the one that was cancelled.
        assert broadcast(work.service, *people(2_000), **more).body["state"] == "cancelled"
        assert quotas(work.service) == {self.TODAY: 3_000}

    def test_cancelled_on_another_day_it_gives_back_to_its_own(self, work: Work, noon: time_machine.Traveller) -> None:
        today = path_of(broadcast(work.service, *people(3), key="k-1"))
        assert work.service.post(f"{today}/pause").status == 200
        later = path_of(broadcast(work.service, *people(4), key="k-2", starts_at="2026-11-27T18:00:00Z"))
        noon.shift(timedelta(days=1))
        assert broadcast(work.service, *people(5), key="k-3").status == 202
        assert quotas(work.service) == {self.TODAY: 3, "2026-11-26": 5, "2026-11-27": 4}
        for path in (today, later):
            assert work.service.post(f"{path}/cancel").status == 200
        assert quotas(work.service) == {self.TODAY: 0, "2026-11-26": 5, "2026-11-27": 0}

    @pytest.mark.parametrize("paused", [False, True])
    def test_cancelled_after_it_has_begun_it_gives_nothing_back(self, work: Work, paused: bool) -> None:
        path = path_of(broadcast(work.service, "p-1", "p-2"))
        for event in work.queued():
            assert work.service.run("StartBulkFunction", event) == []
        if paused:
            assert work.service.post(f"{path}/pause").status == 200
            assert work.service.post(f"{path}/resume").status == 200
        assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
        assert quotas(work.service) == {self.TODAY: 2}

    def test_begun_while_it_is_cancelled_it_gives_nothing_back(self, work: Work) -> None:
        path = path_of(broadcast(work.service, "p-1", "p-2"))
        (event,) = work.queued()
        begun: list[bool] = []

        def first(_: object) -> None:
            if not begun:
                begun.append(True)
                assert work.service.run("StartBulkFunction", event) == []

        with fault(clients.dynamodb(), "TransactWriteItems", first):
            assert work.service.post(f"{path}/cancel").body["state"] == "cancelled"
        assert quotas(work.service) == {self.TODAY: 2}

    def test_the_table_being_busy_takes_it_once(self, work: Work) -> None:
        conflicts = iter([True, True])

        def busy(_: object) -> Any:
            return client_error("TransactionConflictException") if next(conflicts, False) else None

        with fault(clients.dynamodb(), "TransactWriteItems", busy):
            assert broadcast(work.service, *people(7)).status == 202
        assert quotas(work.service) == {self.TODAY: 7}

    def test_eight_at_once_take_seven_times_400_of_3000(self, work: Work) -> None:
        taken, refused = self.at_once([400] * 8)
        assert (taken, refused) == ([400] * 7, [(400, 200)])
        assert quotas(work.service) == {self.TODAY: 2_800}

    @pytest.mark.parametrize("sizes", [[400] * 24, [1_700, 900, 500, 300] * 6, [3_000, 1] * 12])
    def test_however_many_there_are_at_once_each_refusal_names_what_was_left(
        self, work: Work, sizes: list[int]
    ) -> None:
        taken, refused = self.at_once(sizes)
        used = quotas(work.service)[self.TODAY]
        assert used == sum(taken) <= 3_000
        assert sorted([*taken, *(texts for texts, _ in refused)]) == sorted(sizes)
        # As much as was left then: never less than is left now, and less than was asked for.
        assert all(3_000 - used <= left < texts for texts, left in refused)

    @staticmethod
    def at_once(sizes: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Start broadcasts in threads: give those that are taken, and the others with what is said to be left."""
        practice = practices.read("north")
        assert practice

        def start(numbered: tuple[int, int]) -> int | None:
            number, texts = numbered
            order = Order(
                practice_id="north",
                bulk_id=f"bulk-{number}",
                kind="broadcast",
                name="Closed",
                line="main",
                content=Content({"text": "Closed."}),
                list=Listed("broadcasts/north/list.jsonl", "etag", 1, "jsonl", 0),
                by="staff-7",
                request="digest",
                is_dry_run=False,
                texts=texts,
            )
            try:
                bulks.start(order, practice, 400)
            except QuotaExceeded as refused:
                return refused.left
            return None

        with ThreadPoolExecutor(8) as threads:
            left = list(threads.map(start, enumerate(sizes)))
        answers = list(zip(sizes, left, strict=True))
        return [texts for texts, left in answers if left is None], [
            (texts, left) for texts, left in answers if left is not None
        ]
