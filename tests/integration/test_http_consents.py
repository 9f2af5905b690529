"""Consent over HTTP: numbers and their history, the report of opt-outs, replies to be read, staff's word, imports."""

import base64
import csv
import io
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from functions.consents.handler import RESERVE, handler
from patient_contact import aws, consents, log, numbers, reviews, table
from patient_contact.consent import MAX_OPEN_REVIEWS
from tests.integration.service import (
    BUSY,
    CELL,
    CONTACT_INFO,
    CSV_HEADER,
    IMPORT,
    LANDLINE,
    PRACTICE,
    STALE,
    TIME,
    UNKNOWN_PATIENT,
    UNKNOWN_PRACTICE,
    Answer,
    Context,
    Matching,
    Service,
    client_error,
    fault,
    invalid,
    problem,
    receipt,
    reply,
    throttled,
    time_of_event,
)

MAIN, BILLING = "+15035559000", "+15035559001"
ON_MAIN = consents.NumberLine("north", CELL, "main")
PATIENT = "north/patients/p-1"
CONSENT = f"{PATIENT}/sms-consent"
SEARCH = "north/numbers/search"
REPORT = "north/reports/opt-outs"
REVIEWS = "north/consent-reviews"
UNKNOWN_REVIEW = problem(404, "unknown-review", "Not Found", "There is no such review.")
ANSWERED = "the patient has said by a keyword what they want"


def review_closed(how: str = ANSWERED) -> Answer:
    return problem(409, "review-closed", "Conflict", f"The review was closed before: {how}.")


REVIEW_OPEN = problem(
    409,
    "review-open",
    "Conflict",
    "A reply that may be an opt-out waits to be read: close its review first.",
)
ONLY_THE_PATIENT = invalid(
    (
        ["body", "status"],
        "opted_out_by_the_patient",
        "the patient opted out by replying; only they can opt in again, by replying START",
    )
)
NO_EVIDENCE = invalid((["body", "evidence"], "missing", "opting in for a patient needs evidence of their wish"))
NO_CURSOR = invalid((["query", "cursor"], "cursor", "not a cursor that this list has given"))
UNKNOWN_LINE = invalid((["query", "line"], "unknown_line", "the practice has no such line"))
KEYED = Matching(r"[0-9a-f]{64}")


def number(n: int) -> str:
    return f"+15035550{n:03}"


def at(second: int) -> str:
    """A moment long ago, as SNS writes it."""
    return f"2024-05-06T12:{second // 60:02}:{second % 60:02}.000Z"


def iso(second: int) -> str:
    """The same, as we write it."""
    return at(second).replace(".000Z", ".000000Z")


def consent(service: Service, of: str = CELL, line: str = "main") -> str:
    """What is in force."""
    told = service.post(SEARCH, {"phone_number": of}).body["sms_consent"]
    return next((each["status"] for each in told if each["line"] == line), "opted_in")


def history(service: Service, of: str = CELL) -> list[dict[str, Any]]:
    answer = service.post(f"{SEARCH}?limit=100", {"phone_number": of})
    assert answer.status == 200
    items: list[dict[str, Any]] = answer.body["history"]
    return items


def listed(service: Service) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = service.get(f"{REVIEWS}?limit=100").body["items"]
    return items


def reported(service: Service, query: str = "") -> list[tuple[str, str]]:
    items = service.get(f"{REPORT}?limit=100{query}").body["items"]
    return [(each["phone_number"], each["line"]) for each in items]


def pages(ask: Callable[[str], Answer], limit: int, name: str = "items") -> Iterator[list[Any]]:
    """Each page of a list, asked for with its cursor, in which no number can be read."""
    cursor = ""
    while True:
        answer = ask(f"?limit={limit}{cursor}")
        assert answer.status == 200
        assert len(answer.body[name]) <= limit
        yield answer.body[name]
        if answer.body["next"] is None:
            return
        assert no_number_in(answer.body["next"])
        cursor = f"&cursor={answer.body['next']}"


def no_number_in(cursor: str) -> bool:
    return re.search(r"503555|\+1", base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()) is None


def share(service: Service, count: int, of: str = CELL) -> None:
    """Let so many more patients have a number on file."""
    shares = [numbers.share_op("north", of, f"s-{n:03}") for n in range(count)]
    for start in range(0, count, 100):
        table.transact(shares[start : start + 100])


def file(*rows: str) -> str:
    return "\n".join([CSV_HEADER, *rows, ""])


def row(of: str = CELL, line: str = "main", status: str = "opted_out", said: str = at(0), source: str = "old") -> str:
    return f"{of},{line},{status},{said},{source}"


class TestSearch:
    def test_of_a_number_that_nobody_has_nothing_is_known(self, north: Service) -> None:
        assert north.post(SEARCH, {"phone_number": number(199)}) == Answer(
            200,
            {
                "phone_number": number(199),
                "status": "valid",
                "suspect": False,
                "line_type": "unknown",
                "looked_up_at": None,
                "evidence": None,
                "sms_consent": [],
                "patients": [],
                "more_patients": False,
                "changes": [],
                "history": [],
                "next": None,
            },
            {},
        )

    def test_all_that_is_known_of_a_number_is_told(self, north: Service) -> None:
        assert north.put("north/patients/p-2/contact-info", CONTACT_INFO).status == 200
        assert north.record_replies(reply("STOP", "message-1", at=at(1))) == []
        assert north.record_replies(reply("no more texts", "message-2", at=at(2))) == []
        opt_out = {"phone_number": CELL, "line": "billing", "status": "opted_out", "note": "called us"}
        assert north.put(CONSENT, opt_out, sub="staff-8").status == 200
        assert north.import_csv(file(row(line="billing", said=at(3)))).status == 200
        assert north.record_receipts(receipt("TEXT_UNREACHABLE")) == []
        evidence = {
            "source": "receipt",
            "code": "TEXT_UNREACHABLE",
            "at": "2025-11-24T16:00:00.000000Z",
            "provider_message_id": "provider-1",
        }
        assert north.post(SEARCH, {"phone_number": "(503) 555-0101"}) == Answer(
            200,
            {
                "phone_number": CELL,
                "status": "valid",
                "suspect": True,
                "line_type": "unknown",
                "looked_up_at": None,
                "evidence": evidence,
                "sms_consent": [
                    {
                        "line": "billing",
                        "status": "opted_out",
                        "source": "staff",
                        "actor": "staff-8",
                        "said_at": TIME,
                        "recorded_at": TIME,
                    },
                    {
                        "line": "main",
                        "status": "opted_out",
                        "source": "keyword",
                        "actor": None,
                        "said_at": iso(1),
                        "recorded_at": TIME,
                    },
                ],
                "patients": ["p-1", "p-2"],
                "more_patients": False,
                "changes": [
                    {"at": TIME, "status": "valid", "suspect": True, "line_type": "unknown", "evidence": evidence}
                ],
                "history": [
                    {
                        "line": "billing",
                        "status": "opted_out",
                        "in_force": "opted_out",
                        "source": "import",
                        "actor": "staff-7",
                        "evidence": "old",
                        "said_at": iso(3),
                        "recorded_at": TIME,
                    },
                    {
                        "line": "billing",
                        "status": "opted_out",
                        "in_force": "opted_out",
                        "source": "staff",
                        "actor": "staff-8",
                        "note": "called us",
                        "said_at": TIME,
                        "recorded_at": TIME,
                    },
                    {
                        "line": "main",
                        "status": "under_review",
                        "in_force": "opted_out",
                        "source": "keyword",
                        "text": "no more texts",
                        "review_id": "2024-05-20~message-2",
                        "said_at": iso(2),
                        "recorded_at": TIME,
                    },
                    {
                        "line": "main",
                        "status": "opted_out",
                        "in_force": "opted_out",
                        "source": "keyword",
                        "said_at": iso(1),
                        "recorded_at": TIME,
                    },
                ],
                "next": None,
            },
            {},
        )

    def test_a_line_type_that_was_looked_up_is_told_with_its_time_and_evidence(self, north: Service) -> None:
        body = {"phones": [{"number": number(104)}], "emails": []}
        assert north.put("north/patients/p-2/contact-info", body).status == 200
        told = north.post(SEARCH, {"phone_number": number(104)}).body
        assert (told["line_type"], told["looked_up_at"]) == ("text_enabled", TIME)
        found = {"source": "lookup", "code": "MOBILE", "at": TIME}
        assert told["changes"] == [
            {"at": TIME, "status": "valid", "suspect": False, "line_type": "text_enabled", "evidence": found}
        ]

    @pytest.mark.parametrize("limit", range(1, 9))
    def test_its_history_comes_page_by_page_newest_first(self, north: Service, limit: int) -> None:
        # Two of one file are recorded at the same moment, and so are two of one batch.
        for n, text in enumerate(("START", "STOP", "no more texts")):
            assert north.record_replies(reply(text, f"message-{n}", at=at(9 - n))) == []
        assert north.import_csv(file(row(), row(line="billing"), row(source="older"))).status == 200
        assert north.put(CONSENT, {"phone_number": CELL, "line": "main", "status": "opted_out"}).status == 200
        whole = history(north)
        assert len(whole) == 7
        assert [each["recorded_at"] for each in whole] == sorted((each["recorded_at"] for each in whole), reverse=True)
        assert [each["source"] for each in whole] == ["staff", *["import"] * 3, *["keyword"] * 3]
        found = list(
            pages(lambda query: north.post(SEARCH + query, {"phone_number": CELL}), limit=limit, name="history")
        )
        assert [each for page in found for each in page] == whole
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)

    @pytest.mark.parametrize(("others", "named", "more"), [(98, 99, False), (99, 100, False), (100, 100, True)])
    def test_of_those_who_share_it_a_hundred_are_named(
        self, north: Service, others: int, named: int, more: bool
    ) -> None:
        share(north, others)
        told = north.post(SEARCH, {"phone_number": CELL}).body
        assert told["patients"] == ["p-1", *(f"s-{n:03}" for n in range(others))][:named]
        assert told["more_patients"] is more

    def test_nothing_that_other_practices_know_is_told(self, north: Service) -> None:
        lines = [{"id": "main", "name": "Main", "phone_number": "+15035559100"}]
        assert north.put("south", PRACTICE | {"lines": lines}, practice_ids=["south"]).status == 200
        assert north.record_replies(reply("STOP")) == []
        told = north.post("south/numbers/search", {"phone_number": CELL}, practice_ids=["south"]).body
        assert (told["sms_consent"], told["patients"], told["history"]) == ([], [], [])

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({"phone_number": "555 CALL ME"}, (["body", "phone_number"], "not_a_number", "not a valid phone number")),
            ({}, (["body", "phone_number"], "missing", "Field required")),
            (
                {"phone_number": CELL, "line": "main"},
                (["body", "line"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
        ],
    )
    def test_what_is_no_number_is_refused(
        self, north: Service, body: object, error: tuple[list[str | int], str, str]
    ) -> None:
        assert north.post(SEARCH, body) == invalid(error)

    @pytest.mark.parametrize(
        "cursor", ["x", "!", "", "MDAwMDAwMDAwNQ", base64.urlsafe_b64encode(b"main " + iso(1).encode()).decode()]
    )
    def test_a_cursor_of_another_list_is_refused(self, north: Service, cursor: str) -> None:
        assert north.post(f"{SEARCH}?cursor={cursor}", {"phone_number": CELL}) == NO_CURSOR

    def test_an_unknown_practice_is_not_found(self, service: Service) -> None:
        assert service.post(SEARCH, {"phone_number": CELL}) == UNKNOWN_PRACTICE

    def test_a_busy_table_is_no_answer_that_nothing_is_known(self, north: Service) -> None:
        with throttled("GetItem"):
            assert north.post(SEARCH, {"phone_number": CELL}) == BUSY


REPORTED = [(number(111), "main"), (number(110), "main"), (number(112), "main"), (number(110), "billing")]


@pytest.fixture
def opted_out(north: Service) -> Service:
    """Four opt-outs: on the main line at seconds 1, 2 and 3, on another at second 1."""
    lines = {"main": MAIN, "billing": BILLING}
    for second, (of, line) in zip((1, 2, 3, 1), REPORTED, strict=True):
        message = reply("STOP", f"message-{line}-{second}", at=at(second), number=of, line=lines[line])
        assert north.record_replies(message) == []
    return north


class TestReport:
    def test_it_lists_who_is_opted_out_line_by_line_the_first_said_first(self, opted_out: Service) -> None:
        opt_out = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert opted_out.put(CONSENT, opt_out, sub="staff-8").status == 200
        assert opted_out.import_csv(file(row(number(113), said=at(0)))).status == 200

        def item(of: str, line: str, source: str, said_at: object, actor: str | None = None) -> dict[str, object]:
            return {
                "phone_number": of,
                "line": line,
                "source": source,
                "actor": actor,
                "said_at": said_at,
                "recorded_at": TIME,
            }

        items = [
            item(number(113), "main", "import", iso(0), "staff-7"),
            item(number(111), "main", "keyword", iso(1)),
            item(number(110), "main", "keyword", iso(2)),
            item(number(112), "main", "keyword", iso(3)),
            item(CELL, "main", "staff", TIME, "staff-8"),
            item(number(110), "billing", "keyword", iso(1)),
        ]
        assert opted_out.get(REPORT) == Answer(200, {"items": items, "next": None}, {})
        assert opted_out.get(f"{REPORT}?line=main") == Answer(200, {"items": items[:5], "next": None}, {})
        assert opted_out.get(f"{REPORT}?line=billing") == Answer(200, {"items": items[5:], "next": None}, {})

    def test_there_may_be_nobody(self, north: Service) -> None:
        assert north.get(REPORT) == Answer(200, {"items": [], "next": None}, {})

    @pytest.mark.parametrize("limit", range(1, 6))
    @pytest.mark.parametrize(("query", "whole"), [("", REPORTED), ("&line=main", REPORTED[:3])])
    def test_it_comes_page_by_page_across_lines_and_is_whole(
        self, opted_out: Service, limit: int, query: str, whole: list[tuple[str, str]]
    ) -> None:
        found = list(pages(lambda asked: opted_out.get(f"{REPORT}{asked}{query}"), limit))
        assert [(each["phone_number"], each["line"]) for page in found for each in page] == whole

    @pytest.mark.parametrize("limit", range(1, 6))
    def test_as_csv_the_link_header_leads_to_the_next_page(self, opted_out: Service, limit: int) -> None:
        path: str | None = f"{REPORT}?limit={limit}&since=2024-05-06"
        rows: list[list[str]] = []
        while path:
            answer = opted_out.get(path, headers={"accept": "text/csv"})
            assert answer.status == 200
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            assert answer.headers["cache-control"] == "no-store"
            header, *page = csv.reader(io.StringIO(answer.body, newline=""), strict=True)
            assert header == ["phone_number", "line", "source", "actor", "said_at", "recorded_at"]
            assert len(page) <= limit
            rows += page
            link = re.fullmatch(r'<(\?.*cursor=([^&]*).*)>; rel="next"', answer.headers.get("link", ""))
            assert (link is None) is ("link" not in answer.headers)
            assert link is None or no_number_in(link[2])
            path = f"{REPORT}{link[1]}" if link else None
        assert [(each[0], each[1]) for each in rows] == [(f"'{of}", line) for of, line in REPORTED]
        assert all(each[2:4] == ["keyword", ""] and each[5] == TIME for each in rows)

    @pytest.mark.parametrize("sub", ["=cmd|' /C calc'!A0", "@staff", "-staff", "+staff"])
    def test_as_csv_nobodys_name_starts_a_formula(self, north: Service, sub: str) -> None:
        opt_out = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put(CONSENT, opt_out, sub=sub).status == 200
        answer = north.get(REPORT, headers={"accept": "text/csv"})
        _, (of, *_, actor, _, _) = csv.reader(io.StringIO(answer.body, newline=""), strict=True)
        assert (of, actor) == (f"'{CELL}", f"'{sub}")

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("text/csv", "text/csv; charset=utf-8"),
            ("text/csv, */*;q=0.1", "text/csv; charset=utf-8"),
            ("application/json", "application/json"),
            ("*/*", "application/json"),
            ("text/html", "application/json"),
        ],
    )
    def test_it_is_json_unless_csv_is_accepted(self, opted_out: Service, accept: str, kind: str) -> None:
        assert opted_out.get(REPORT, headers={"accept": accept}).headers["content-type"] == kind

    @pytest.mark.parametrize(
        ("since", "first"),
        [
            ("2024-05-06", 0),
            ("2024-05-06T12:00:01Z", 0),
            ("2024-05-06T12:00:01.000001Z", 1),
            ("2024-05-06T12:00:02Z", 1),
            ("2024-05-06T05:00:03-07:00", 2),
            # Without an offset, and as a day, in Los Angeles.
            ("2024-05-06T05:00:03", 2),
            ("2024-05-06T12:00:03", 3),
            ("2024-05-06T12:00:04Z", 3),
            ("2024-05-07", 3),
            ("1971-01-01", 0),
            ("9998-12-31", 3),
        ],
    )
    @pytest.mark.parametrize("limit", [1, 100])
    def test_it_lists_what_was_said_since_a_day_or_a_moment(
        self, opted_out: Service, since: str, first: int, limit: int
    ) -> None:
        query = f"&line=main&since={since}"
        found = pages(lambda asked: opted_out.get(f"{REPORT}{asked}{query}"), limit)
        assert [(each["phone_number"], each["line"]) for page in found for each in page] == REPORTED[first:3]

    @pytest.mark.parametrize(
        ("since", "message"),
        [
            ("yesterday", "not a time in ISO 8601, like 2026-11-20T17:02:11Z or 2026-11-20"),
            ("11/20/2026", "not a time in ISO 8601, like 2026-11-20T17:02:11Z or 2026-11-20"),
            ("2026-13-01", "not a time in ISO 8601, like 2026-11-20T17:02:11Z or 2026-11-20"),
            ("0001-01-01", "not a time of our days"),
            ("9999-12-31", "not a time of our days"),
        ],
    )
    def test_since_a_time_that_is_none_is_refused(self, north: Service, since: str, message: str) -> None:
        assert north.get(f"{REPORT}?since={since}") == invalid((["query", "since"], "time", message))

    def test_an_unknown_line_is_refused(self, north: Service) -> None:
        assert north.get(f"{REPORT}?line=other") == UNKNOWN_LINE

    @pytest.mark.parametrize("cursor", ["x", "", "bWFpbg", base64.urlsafe_b64encode(b"main +15035550101").decode()])
    def test_a_cursor_of_another_list_is_refused(self, north: Service, cursor: str) -> None:
        assert north.get(f"{REPORT}?cursor={cursor}") == NO_CURSOR

    def test_a_cursor_on_a_line_that_is_not_asked_for_is_refused(self, opted_out: Service) -> None:
        """It would leave out whoever said so earlier on the line that is."""
        cursor = opted_out.get(f"{REPORT}?limit=2&line=main").body["next"]
        assert opted_out.get(f"{REPORT}?line=billing&cursor={cursor}") == NO_CURSOR

    def test_an_unknown_practice_is_not_found(self, service: Service) -> None:
        assert service.get(REPORT) == UNKNOWN_PRACTICE

    def test_who_has_opted_in_again_is_gone_and_who_opted_out_anew_is_there_once(self, opted_out: Service) -> None:
        again = [
            reply("START", "message-5", at=at(5), number=number(110)),
            reply("STOP", "message-6", at=at(6), number=number(111)),
            reply("STOP", "message-0", at=at(0), number=number(112)),
        ]
        assert opted_out.record_replies(*again) == []
        assert reported(opted_out) == [(number(112), "main"), (number(111), "main"), (number(110), "billing")]

    def test_an_opt_out_that_only_the_patient_can_undo_is_there_whatever_staff_said_later(self, north: Service) -> None:
        opt_in = {"phone_number": CELL, "line": "main", "status": "opted_in", "evidence": "portal"}
        assert north.put(CONSENT, opt_in).status == 200
        assert north.record_replies(reply("STOP", at=at(1))) == []
        assert reported(north) == [(CELL, "main")]

    def test_one_under_review_is_not_opted_out(self, north: Service) -> None:
        assert north.record_replies(reply("no more texts")) == []
        assert reported(north) == []

    def test_what_the_index_has_yet_to_forget_is_left_out_and_the_rest_is_whole(self, opted_out: Service) -> None:
        """The index follows the table a little later; the items themselves are read."""
        key = table.number_pk("north", number(110)), "OPTOUT#main"
        item = table.get(key)
        assert item is not None
        table.put(item | {"GSI1SK": f"{iso(2)}#of-another-time"})
        stale = fault(aws.dynamodb(), "BatchGetItem", lambda _: None)
        with stale as requests:
            found = pages(lambda asked: opted_out.get(f"{REPORT}{asked}"), 1)
            assert [each["phone_number"] for page in found for each in page] == [of for of, _ in REPORTED]
        assert all(request["RequestItems"] for request in requests)


class TestReviews:
    def test_they_are_listed_the_first_due_first_with_the_patients_concerned(self, north: Service) -> None:
        assert north.put("north/patients/p-2/contact-info", CONTACT_INFO).status == 200
        now = datetime.now(UTC)
        later = reply("Please stop texting me 🛑", "message-1", at=time_of_event(), number=number(120))
        days = [reply("wrong number", f"message-{n}", at=f"2024-05-{n:02}T18:00:00.000Z") for n in (8, 7)]
        billing = reply("stop it", "message-2", at="2024-05-06T18:00:00.000Z", number=LANDLINE, line=BILLING)
        for message in (later, *days, billing):
            assert north.record_replies(message) == []

        def item(id_: str, due_on: object, said_at: object, of: str, text: str, **more: object) -> dict[str, object]:
            return {
                "review_id": f"{due_on}~{id_}",
                "due_on": due_on,
                "overdue": True,
                "phone_number": of,
                "line": "main",
                "wish": "opted_out",
                "text": text,
                "said_at": said_at,
                "recorded_at": TIME,
                "sms_consent": "under_review",
                "patients": ["p-1", "p-2"],
                "more_patients": False,
                **more,
            }

        answer = north.get(REVIEWS)
        due_on = answer.body["items"][-1]["due_on"]
        assert 11 <= (datetime.fromisoformat(due_on).date() - now.date()).days <= 20
        text = "Please stop texting me 🛑"
        items = [
            item("message-2", "2024-05-20", "2024-05-06T18:00:00.000000Z", LANDLINE, "stop it", line="billing"),
            item("message-7", "2024-05-21", "2024-05-07T18:00:00.000000Z", CELL, "wrong number"),
            item("message-8", "2024-05-22", "2024-05-08T18:00:00.000000Z", CELL, "wrong number"),
            item("message-1", due_on, TIME, number(120), text, overdue=False, patients=[]),
        ]
        assert answer == Answer(200, {"items": items, "next": None}, {})

    def test_there_may_be_none(self, north: Service) -> None:
        assert north.get(REVIEWS) == Answer(200, {"items": [], "next": None}, {})

    @pytest.mark.parametrize("limit", range(1, 7))
    def test_they_come_page_by_page(self, north: Service, limit: int) -> None:
        messages = [
            reply(
                "no more texts", f"message-{n}", at=f"2024-05-{6 + n // 2:02}T18:00:00.000Z", number=number(120 + n % 3)
            )
            for n in range(5)
        ]
        assert north.record_replies(*messages) == []
        whole = [each["review_id"] for each in listed(north)]
        assert whole == [f"2024-05-{20 + n // 2}~message-{n}" for n in range(5)]
        found = list(pages(lambda query: north.get(REVIEWS + query), limit))
        assert [each["review_id"] for page in found for each in page] == whole
        assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)

    @pytest.mark.parametrize(("others", "more"), [(99, False), (100, True)])
    def test_of_those_who_share_the_number_a_hundred_are_named(self, north: Service, others: int, more: bool) -> None:
        share(north, others)
        assert north.record_replies(reply("no more texts")) == []
        (review,) = listed(north)
        assert (len(review["patients"]), review["more_patients"]) == (100, more)

    def test_a_message_of_1_600_characters_is_kept_whole(self, north: Service) -> None:
        text = f"Please stop texting me. {'é☎👍 ' * 400}"[:1_600]
        assert north.record_replies(reply(text)) == []
        assert [each["text"] for each in listed(north)] == [text]
        assert [each["text"] for each in history(north)] == [text]

    @pytest.mark.parametrize("cursor", ["x", "", "bWFpbg", "KzE1MDM1NTUwMTAx"])
    def test_a_cursor_of_another_list_is_refused(self, north: Service, cursor: str) -> None:
        assert north.get(f"{REVIEWS}?cursor={cursor}") == NO_CURSOR

    def test_those_of_an_unknown_practice_are_not_found(self, service: Service) -> None:
        assert service.get(REVIEWS) == UNKNOWN_PRACTICE

    def test_those_of_another_practice_are_its_own(self, north: Service) -> None:
        lines = [{"id": "main", "name": "Main", "phone_number": "+15035559100"}]
        assert north.put("south", PRACTICE | {"lines": lines}, practice_ids=["south"]).status == 200
        assert north.record_replies(reply("no more texts", at=at(0))) == []
        assert north.get("south/consent-reviews", practice_ids=["south"]).body["items"] == []
        path = "south/consent-reviews/2024-05-20~message-1"
        assert north.post(path, {"outcome": "opted_out"}, practice_ids=["south"]) == UNKNOWN_REVIEW
        assert len(listed(north)) == 1


def audits(service: Service, outcome: object) -> list[dict[str, Any]]:
    """The audit lines of closing the review."""
    (handler,) = logging.getLogger("consents").handlers
    assert isinstance(handler, logging.StreamHandler)
    logged = io.StringIO()
    before = handler.setStream(logged)
    try:
        assert service.post(f"{REVIEWS}/{REVIEW}", outcome).status == 200
    finally:
        handler.setStream(before or sys.stdout)
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    return [line for line in lines if line["message"] == "audit"]


REVIEW = "2024-05-20~message-1"
OPTED_OUT = {"outcome": "opted_out"}
NOT_A_REQUEST = {"outcome": "not_a_request"}


class TestCloseReview:
    def closed(self, outcome: str, sms_consent: str, by: str = "staff-7") -> Answer:
        body = {
            "review_id": REVIEW,
            "phone_number": CELL,
            "line": "main",
            "outcome": outcome,
            "closed_by": by,
            "closed_at": TIME,
            "sms_consent": sms_consent,
        }
        return Answer(200, body, {})

    @pytest.fixture
    def asked(self, north: Service) -> Service:
        """A patient wrote at second 1."""
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        assert [each["review_id"] for each in listed(north)] == [REVIEW]
        return north

    def test_as_an_opt_out_it_counts_from_when_it_was_said(self, asked: Service) -> None:
        answer = asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT | {"note": "means all texts"}, sub="staff-8")
        assert answer == self.closed("opted_out", "opted_out", by="staff-8")
        assert listed(asked) == []
        assert reported(asked) == [(CELL, "main")]
        assert history(asked)[0] == {
            "line": "main",
            "status": "opted_out",
            "in_force": "opted_out",
            "source": "staff",
            "actor": "staff-8",
            "note": "means all texts",
            "review_id": REVIEW,
            "said_at": iso(1),
            "recorded_at": TIME,
        }
        (shown,) = asked.get(PATIENT).body["sms_consent"]["numbers"]
        assert (shown["status"], shown["source"]) == ("opted_out", "staff")

    def test_as_no_request_it_lets_texts_go_out_again(self, asked: Service) -> None:
        answer = asked.post(f"{REVIEWS}/{REVIEW}", NOT_A_REQUEST | {"note": "a joke"}, sub="staff-8")
        assert answer == self.closed("not_a_request", "opted_in", by="staff-8")
        assert listed(asked) == []
        assert reported(asked) == []
        assert history(asked)[0] == {
            "line": "main",
            "status": "not_a_request",
            "in_force": "opted_in",
            "source": "staff",
            "actor": "staff-8",
            "note": "a joke",
            "review_id": REVIEW,
            "said_at": iso(1),
            "recorded_at": TIME,
        }
        assert asked.get(PATIENT).body["sms_consent"] == {"status": "Opted In", "numbers": []}

    @pytest.mark.parametrize(("outcome", "in_force"), [("opted_out", "opted_out"), ("not_a_request", "opted_in")])
    def test_the_same_again_changes_nothing_and_answers_as_the_first(
        self, asked: Service, outcome: str, in_force: str
    ) -> None:
        first = asked.post(f"{REVIEWS}/{REVIEW}", {"outcome": outcome})
        before = asked.items()
        again = asked.post(f"{REVIEWS}/{REVIEW}", {"outcome": outcome, "note": "once more"}, sub="someone-else")
        assert again == first == self.closed(outcome, in_force)
        assert asked.items() == before

    @pytest.mark.parametrize(
        ("first", "second", "how"),
        [(OPTED_OUT, NOT_A_REQUEST, "as an opt-out"), (NOT_A_REQUEST, OPTED_OUT, "as no request")],
    )
    def test_otherwise_than_before_is_refused_and_changes_nothing(
        self, asked: Service, first: object, second: object, how: str
    ) -> None:
        assert asked.post(f"{REVIEWS}/{REVIEW}", first).status == 200
        before = asked.items()
        assert asked.post(f"{REVIEWS}/{REVIEW}", second) == review_closed(how)
        assert asked.items() == before

    @pytest.mark.parametrize("outcome", [OPTED_OUT, NOT_A_REQUEST])
    @pytest.mark.parametrize(("text", "in_force"), [("START", "opted_in"), ("STOP", "opted_out")])
    def test_one_that_the_patient_has_answered_by_keyword_is_closed(
        self, asked: Service, outcome: object, text: str, in_force: str
    ) -> None:
        assert asked.record_replies(reply(text, "message-2", at=at(2))) == []
        before = asked.items()
        assert asked.post(f"{REVIEWS}/{REVIEW}", outcome) == review_closed()
        assert asked.items() == before
        assert consent(asked) == in_force

    def test_one_that_the_patient_answers_at_that_very_moment_is_theirs(self, asked: Service) -> None:
        started: list[int] = []

        def first_the_patient(_: object) -> None:
            if not started:
                started.append(1)
                assert asked.record_replies(reply("START", "message-2", at=at(2))) == []

        with fault(aws.dynamodb(), "TransactWriteItems", first_the_patient):
            assert asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == review_closed()
        assert consent(asked) == "opted_in"
        assert reported(asked) == []

    def test_one_that_two_close_at_once_is_closed_once(self, asked: Service) -> None:
        started: list[int] = []

        def first_somebody_else(_: object) -> None:
            if not started:
                started.append(1)
                reviews.close("north", REVIEW, "opted_out", "staff-8", None)

        with fault(aws.dynamodb(), "TransactWriteItems", first_somebody_else):
            answer = asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT)
        assert answer == self.closed("opted_out", "opted_out", by="staff-8")
        assert [each["status"] for each in history(asked)] == ["opted_out", "under_review"]

    @pytest.fixture
    def asked_late(self, north: Service) -> Service:
        """Staff opted the number in, and then came what the patient had written before."""
        opt_in = {"phone_number": CELL, "line": "main", "status": "opted_in", "evidence": "signed_form"}
        assert north.put(CONSENT, opt_in).status == 200
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        assert consent(north) == "under_review"
        return north

    def test_as_an_opt_out_it_counts_from_now_where_staff_have_opted_in_since(self, asked_late: Service) -> None:
        assert asked_late.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == self.closed("opted_out", "opted_out")
        newest = history(asked_late)[0]
        assert (newest["status"], newest["in_force"], newest["source"]) == ("opted_out", "opted_out", "staff")
        assert newest["said_at"] == newest["recorded_at"]
        assert reported(asked_late) == [(CELL, "main")]
        before = asked_late.items()
        assert asked_late.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == self.closed("opted_out", "opted_out")
        assert asked_late.items() == before

    def test_a_start_that_the_patient_said_since_ends_it_all_the_same(self, asked_late: Service) -> None:
        assert asked_late.record_replies(reply("START", "message-2", at=at(2))) == []
        assert asked_late.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == review_closed()
        assert consent(asked_late) == "opted_in"

    def test_so_it_does_for_an_opt_in_that_staff_record_at_that_very_moment(self, north: Service) -> None:
        """What may be an opt-in does not keep staff from opting in."""
        lines: Any = PRACTICE["lines"]
        left = PRACTICE | {"lines": [lines[0] | {"review_words": ["YES"]}, lines[1]]}
        assert north.put("north", left).status == 200
        assert north.put(CONSENT, OPT_OUT).status == 200
        assert north.record_replies(reply("YES", at=at(1))) == []
        started: list[int] = []

        def first_staff(_: object) -> None:
            if not started:
                started.append(1)
                consents.record(ON_MAIN, consents.by_staff("opted_in", "staff-8"))

        with fault(aws.dynamodb(), "TransactWriteItems", first_staff):
            assert north.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == self.closed("opted_out", "opted_out")
        assert (consent(north), reported(north)) == ("opted_out", [(CELL, "main")])

    @pytest.mark.parametrize("outcome", [OPTED_OUT, NOT_A_REQUEST])
    def test_who_shares_the_number_is_named_in_the_audit_line_by_hash(self, asked: Service, outcome: object) -> None:
        assert asked.put("north/patients/p-2/contact-info", CONTACT_INFO).status == 200
        assert [audit["patients"] for audit in audits(asked, outcome)] == [
            [log.keyed_hash("north", patient_id) for patient_id in ("p-1", "p-2")]
        ]

    def test_one_that_is_older_than_a_start_never_comes_to_the_list(self, north: Service) -> None:
        assert north.record_replies(reply("START", "message-2", at=at(2))) == []
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        assert listed(north) == []
        assert [(each["status"], each["in_force"]) for each in history(north)] == [
            ("under_review", "opted_in"),
            ("opted_in", "opted_in"),
        ]
        assert north.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == UNKNOWN_REVIEW

    def test_a_start_after_it_opts_in_again(self, asked: Service) -> None:
        assert asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT).status == 200
        assert asked.record_replies(reply("START", "message-2", at=at(2))) == []
        assert consent(asked) == "opted_in"

    def test_staff_may_undo_with_evidence_what_staff_read(self, asked: Service) -> None:
        """It was no keyword: the patient's own words are as good as what they tell staff later."""
        assert asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT).status == 200
        opt_in = {"phone_number": CELL, "line": "main", "status": "opted_in", "evidence": "recorded_call"}
        assert asked.put(CONSENT, opt_in).status == 200
        assert consent(asked) == "opted_in"

    def test_one_of_two_leaves_the_other_and_no_text_goes_out(self, asked: Service) -> None:
        assert asked.record_replies(reply("wrong number", "message-2", at=at(2))) == []
        assert asked.post(f"{REVIEWS}/{REVIEW}", NOT_A_REQUEST) == self.closed("not_a_request", "under_review")
        assert [each["review_id"] for each in listed(asked)] == ["2024-05-20~message-2"]

    def test_one_that_never_replaced_an_opt_out_leaves_it(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", "message-0", at=at(0)), reply("no more texts", at=at(1))) == []
        assert north.post(f"{REVIEWS}/{REVIEW}", NOT_A_REQUEST) == self.closed("not_a_request", "opted_out")

    @pytest.mark.parametrize("outcome", [OPTED_OUT, NOT_A_REQUEST])
    def test_a_yes_that_is_left_to_staff_opts_nobody_in_however_it_is_closed(
        self, north: Service, outcome: object
    ) -> None:
        lines: Any = PRACTICE["lines"]
        left = PRACTICE | {"lines": [lines[0] | {"review_words": ["YES"]}, lines[1]]}
        assert north.put("north", left).status == 200
        assert north.record_replies(reply("STOP", "message-0", at=at(0)), reply("YES", at=at(1))) == []
        assert [(each["wish"], each["sms_consent"]) for each in listed(north)] == [("opted_in", "opted_out")]
        assert north.post(f"{REVIEWS}/{REVIEW}", outcome).body["sms_consent"] == "opted_out"
        assert (listed(north), consent(north)) == ([], "opted_out")

    @pytest.mark.parametrize("review_id", ["2024-05-20~message-2", "2024-05-21~message-1"])
    def test_an_unknown_one_is_not_found(self, asked: Service, review_id: str) -> None:
        assert asked.post(f"{REVIEWS}/{review_id}", OPTED_OUT) == UNKNOWN_REVIEW

    @pytest.mark.parametrize("review_id", ["message-1", "2024-5-20~message-1", "2024-05-20~a:b"])
    def test_what_is_no_id_is_refused(self, asked: Service, review_id: str) -> None:
        assert asked.post(f"{REVIEWS}/{review_id}", OPTED_OUT).status == 422

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({}, (["body", "outcome"], "missing", "Field required")),
            (
                {"outcome": "opted_in"},
                (["body", "outcome"], "literal_error", "Input should be 'opted_out' or 'not_a_request'"),
            ),
            (
                OPTED_OUT | {"note": "x" * 1_001},
                (["body", "note"], "string_too_long", "String should have at most 1000 characters"),
            ),
            (
                OPTED_OUT | {"source": "keyword"},
                (["body", "source"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
        ],
    )
    def test_what_staff_cannot_say_is_refused_and_changes_nothing(
        self, asked: Service, body: object, error: tuple[list[str | int], str, str]
    ) -> None:
        before = asked.items()
        assert asked.post(f"{REVIEWS}/{REVIEW}", body) == invalid(error)
        assert asked.items() == before

    def test_a_busy_table_closes_nothing_and_the_same_again_does(self, asked: Service) -> None:
        before = asked.items()
        with throttled("TransactWriteItems"):
            assert asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == BUSY
        assert asked.items() == before
        assert asked.post(f"{REVIEWS}/{REVIEW}", OPTED_OUT) == self.closed("opted_out", "opted_out")

    def test_one_keyword_ends_as_many_as_may_be_open_in_one_transaction(self, north: Service) -> None:
        messages = [reply("no more texts", f"message-{n}", at=at(n)) for n in range(MAX_OPEN_REVIEWS)]
        assert north.record_replies(*messages) == []
        assert len(listed(north)) == MAX_OPEN_REVIEWS
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: None) as requests:
            assert north.record_replies(reply("STOP", "message-99", at=at(99))) == []
        assert len(requests[-1]["TransactItems"]) <= 100
        assert listed(north) == []


OPT_OUT = {"phone_number": CELL, "line": "main", "status": "opted_out"}
OPT_IN = {"phone_number": CELL, "line": "main", "status": "opted_in"}
EVIDENCE = ["signed_form", "recorded_call", "portal"]


class TestConsentByStaff:
    def test_nobody_is_opted_in_without_evidence_and_nothing_is_written(self, north: Service) -> None:
        before = north.items()
        assert north.put(CONSENT, OPT_IN) == NO_EVIDENCE
        assert north.put(CONSENT, OPT_IN | {"note": "they told me"}) == NO_EVIDENCE
        assert north.items() == before

    @pytest.mark.parametrize("evidence", EVIDENCE)
    def test_an_opt_out_by_staff_is_undone_with_evidence(self, north: Service, evidence: str) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        answer = north.put(CONSENT, OPT_IN | {"evidence": evidence})
        assert answer.status == 200
        assert answer.body["sms_consent"] == {
            "status": "Opted In",
            "numbers": [
                {"phone_number": CELL, "line": "main", "status": "opted_in", "source": "staff", "recorded_at": TIME}
            ],
        }
        assert reported(north) == []

    def test_an_imported_opt_out_is_undone_with_evidence(self, north: Service) -> None:
        assert north.import_csv(file(row())).body["changes"] != []
        assert north.put(CONSENT, OPT_IN) == NO_EVIDENCE
        assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}).status == 200
        assert consent(north) == "opted_in"

    def test_evidence_of_another_kind_is_refused(self, north: Service) -> None:
        before = north.items()
        assert north.put(CONSENT, OPT_IN | {"evidence": "they told me"}) == invalid(
            (["body", "evidence"], "literal_error", "Input should be 'signed_form', 'recorded_call' or 'portal'")
        )
        assert north.items() == before

    @pytest.mark.parametrize("evidence", EVIDENCE)
    def test_an_opt_out_by_keyword_only_the_patient_can_undo(self, north: Service, evidence: str) -> None:
        assert north.record_replies(reply("STOP", at=at(1))) == []
        before = north.items()
        assert north.put(CONSENT, OPT_IN | {"evidence": evidence}) == ONLY_THE_PATIENT
        assert north.items() == before
        assert north.record_replies(reply("START", "message-2", at=at(2))) == []
        assert north.put(CONSENT, OPT_IN | {"evidence": evidence}).status == 200

    def test_also_when_an_opt_out_by_staff_came_after_it(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", at=at(1))) == []
        assert north.put(CONSENT, OPT_OUT).status == 200
        before = north.items()
        assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}) == ONLY_THE_PATIENT
        assert north.items() == before

    def test_not_when_it_came_on_another_line(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", at=at(1), line=BILLING)) == []
        assert north.put(CONSENT, OPT_OUT).status == 200
        assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}).status == 200
        assert (consent(north), consent(north, line="billing")) == ("opted_in", "opted_out")

    def test_nobody_is_opted_in_while_a_reply_that_may_be_an_opt_out_waits(self, north: Service) -> None:
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        before = north.items()
        assert north.put(CONSENT, OPT_IN) == NO_EVIDENCE
        assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}) == REVIEW_OPEN
        assert north.items() == before
        assert north.post(f"{REVIEWS}/{REVIEW}", NOT_A_REQUEST).status == 200
        assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}).status == 200

    def test_staff_may_opt_out_while_it_waits_and_it_stays_to_be_read(self, north: Service) -> None:
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        assert north.put(CONSENT, OPT_OUT).status == 200
        assert consent(north) == "opted_out"
        assert [each["sms_consent"] for each in listed(north)] == ["opted_out"]

    def test_a_stop_at_that_very_moment_is_seen(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        stopped: list[int] = []

        def first_the_patient(_: object) -> None:
            if not stopped:
                stopped.append(1)
                assert north.record_replies(reply("STOP", at=at(1))) == []

        with fault(aws.dynamodb(), "TransactWriteItems", first_the_patient):
            assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}) == ONLY_THE_PATIENT
        assert consent(north) == "opted_out"

    def test_the_history_has_who_said_it_why_and_both_times(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT | {"note": "called us"}, sub="staff-8").status == 200
        opt_in = OPT_IN | {"evidence": "signed_form", "note": "form of May 6"}
        assert north.put(CONSENT, opt_in, sub="staff-9").status == 200
        newest, first = history(north)
        assert newest == {
            "line": "main",
            "status": "opted_in",
            "in_force": "opted_in",
            "source": "staff",
            "actor": "staff-9",
            "evidence": "signed_form",
            "note": "form of May 6",
            "said_at": TIME,
            "recorded_at": TIME,
        }
        assert first == {
            "line": "main",
            "status": "opted_out",
            "in_force": "opted_out",
            "source": "staff",
            "actor": "staff-8",
            "note": "called us",
            "said_at": TIME,
            "recorded_at": TIME,
        }
        assert newest["said_at"] == newest["recorded_at"] > first["recorded_at"]

    @pytest.mark.parametrize("name", ["source", "actor", "recorded_at", "own", "id"])
    def test_source_actor_and_when_it_was_recorded_are_the_servers(self, north: Service, name: str) -> None:
        assert north.put(CONSENT, OPT_OUT | {name: "keyword"}) == invalid(
            (["body", name], "extra_forbidden", "Extra inputs are not permitted")
        )

    @pytest.mark.parametrize("tag", ['"2"', "junk", 'W/"1"'])
    def test_a_stale_tag_is_refused_and_changes_nothing(self, north: Service, tag: str) -> None:
        before = north.items()
        for body in (OPT_OUT, OPT_IN | {"evidence": "portal"}):
            assert north.put(CONSENT, body, headers={"if-match": tag}) == STALE
        assert north.items() == before

    def test_the_current_tag_is_accepted_and_stays_the_current_one(self, north: Service) -> None:
        for body in (OPT_OUT, OPT_IN | {"evidence": "portal"}):
            answer = north.put(CONSENT, body, headers={"if-match": '"1"'})
            assert (answer.status, answer.headers["etag"]) == (200, '"1"')

    def test_a_patient_who_changes_meanwhile_is_seen(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        key = table.patient_pk("north", "p-1"), "PATIENT"

        def change(_: object) -> None:
            patient = table.get(key)
            assert patient is not None
            table.put(patient | {"version": 2})

        with fault(aws.dynamodb(), "TransactWriteItems", change):
            answer = north.put(CONSENT, OPT_IN | {"evidence": "portal"}, headers={"if-match": '"1"'})
        assert answer == STALE
        assert consent(north) == "opted_out"

    def test_an_unknown_patient_is_not_found(self, north: Service) -> None:
        assert north.put("north/patients/p-9/sms-consent", OPT_OUT) == UNKNOWN_PATIENT


class TestSaidAt:
    """Staff say when the patient said so, or signed."""

    SIGNED: ClassVar = OPT_IN | {"evidence": "signed_form", "said_at": "2024-05-06T05:00:05-07:00"}
    ASKED: ClassVar = OPT_OUT | {"said_at": at(3)}

    @pytest.mark.parametrize("body", [SIGNED, ASKED], ids=["opted_in", "opted_out"])
    def test_the_history_has_it_and_when_it_was_recorded(self, north: Service, body: dict[str, Any]) -> None:
        assert north.put(CONSENT, body | {"note": "on paper"}).status == 200
        more = {"evidence": body["evidence"]} if "evidence" in body else {}
        assert history(north) == [
            {
                "line": "main",
                "status": body["status"],
                "in_force": body["status"],
                "source": "staff",
                "actor": "staff-7",
                "note": "on paper",
                "said_at": iso(5) if more else iso(3),
                "recorded_at": TIME,
                **more,
            }
        ]

    @pytest.mark.parametrize("body", [SIGNED, ASKED], ids=["opted_in", "opted_out"])
    def test_the_same_again_answers_with_the_facesheet_and_changes_nothing(
        self, north: Service, body: dict[str, Any]
    ) -> None:
        first = north.put(CONSENT, body)
        before = north.items()
        again = body | {"note": "sent again", "phone_number": "(503) 555-0101", "said_at": body["said_at"]}
        assert north.put(CONSENT, again) == first
        # The same moment, said otherwise.
        utc = {"said_at": iso(5)} if body is self.SIGNED else {"said_at": "2024-05-06T13:00:03+01:00"}
        assert north.put(CONSENT, body | utc) == first
        assert north.items() == before

    @pytest.mark.parametrize(
        "change",
        [
            {"evidence": "portal"},
            {"said_at": "2024-05-06T05:00:05.000001-07:00"},
            {"line": "billing"},
            {"phone_number": LANDLINE},
        ],
        ids=str,
    )
    def test_what_differs_is_another_wish(self, north: Service, change: dict[str, str]) -> None:
        assert north.put(CONSENT, self.SIGNED).status == 200
        assert north.put(CONSENT, self.SIGNED | change).status == 200
        assert len(history(north)) + len(history(north, LANDLINE)) == 2

    def test_what_somebody_else_says_is_another_wish(self, north: Service) -> None:
        assert north.put(CONSENT, self.SIGNED).status == 200
        assert north.put(CONSENT, self.SIGNED, sub="staff-8").status == 200
        assert [each["actor"] for each in history(north)] == ["staff-8", "staff-7"]

    def test_an_opt_in_that_is_sent_again_does_not_undo_a_newer_opt_out(self, north: Service) -> None:
        assert north.put(CONSENT, self.SIGNED).status == 200
        assert north.put(CONSENT, OPT_OUT).status == 200
        assert north.put(CONSENT, self.SIGNED).body["sms_consent"]["status"] == "Opted Out of 1 numbers"
        assert consent(north) == "opted_out"

    @pytest.mark.parametrize("text", ["STOP", "no more texts"])
    def test_nor_is_it_refused_for_what_the_patient_has_written_since(self, north: Service, text: str) -> None:
        assert north.put(CONSENT, self.SIGNED).status == 200
        assert north.record_replies(reply(text, at=at(6))) == []
        before = north.items()
        assert north.put(CONSENT, self.SIGNED).status == 200
        assert north.items() == before

    def test_one_that_comes_after_a_newer_opt_out_is_recorded_and_not_in_force(self, north: Service) -> None:
        assert north.import_csv(file(row(said=at(9)))).status == 200
        answer = north.put(CONSENT, self.SIGNED)
        assert (answer.status, answer.body["sms_consent"]["status"]) == (200, "Opted Out of 1 numbers")
        assert (history(north)[0]["status"], history(north)[0]["in_force"]) == ("opted_in", "opted_out")

    def test_an_opt_out_that_is_older_than_a_start_is_recorded_and_not_in_force(self, north: Service) -> None:
        assert north.record_replies(reply("START", at=at(9))) == []
        assert north.put(CONSENT, self.ASKED).status == 200
        assert (consent(north), reported(north)) == ("opted_in", [])

    def test_at_the_same_moment_the_opt_out_counts(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT | {"said_at": at(5)}).status == 200
        assert north.put(CONSENT, self.SIGNED).status == 200
        assert consent(north) == "opted_out"

    def test_what_only_the_patient_can_undo_is_refused_whenever_it_was_said(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", at=at(1))) == []
        before = north.items()
        assert north.put(CONSENT, self.SIGNED) == ONLY_THE_PATIENT
        assert north.items() == before

    def test_two_who_send_it_at_once_record_it_once(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT | {"phone_number": LANDLINE}).status == 200
        started: list[int] = []

        def first_the_other(_: object) -> None:
            if not started:
                started.append(1)
                said_at = datetime.fromisoformat(self.SIGNED["said_at"])
                consents.record(ON_MAIN, consents.by_staff_at(ON_MAIN, "opted_in", "signed_form", said_at, "staff-7"))

        with fault(aws.dynamodb(), "TransactWriteItems", first_the_other):
            assert north.put(CONSENT, self.SIGNED).status == 200
        assert (len(started), len(history(north))) == (1, 1)

    def test_the_future_is_refused(self, north: Service) -> None:
        before = north.items()
        assert north.put(CONSENT, OPT_OUT | {"said_at": time_of_event(minutes=1)}) == invalid(
            (["body", "said_at"], "time", "lies in the future")
        )
        assert north.items() == before

    @pytest.mark.parametrize(
        "said_at", ["2024-05-06", "2024-05-06T12:00:05", "May 6", "", 1_715_000_405, "0001-01-01T00:00:00Z", []]
    )
    def test_what_is_no_moment_is_refused(self, north: Service, said_at: object) -> None:
        before = north.items()
        assert north.put(CONSENT, OPT_OUT | {"said_at": said_at}) == invalid(
            (["body", "said_at"], "value_error", "not a time in ISO 8601 with its offset, like 2026-11-20T17:02:11Z")
        )
        assert north.items() == before

    def test_null_is_now(self, north: Service) -> None:
        for _ in range(2):
            assert north.put(CONSENT, OPT_OUT | {"said_at": None}).status == 200
        assert len(history(north)) == 2

    def test_its_cursor_tells_nobody_who_guesses_numbers_which_it_is(self, north: Service) -> None:
        """The name of the wish is in the report's cursor: as a hash that nobody but us can compute."""
        assert north.put(CONSENT, self.ASKED).status == 200
        assert north.put(CONSENT, self.ASKED | {"phone_number": LANDLINE}).status == 200
        cursor = north.get(f"{REPORT}?limit=1").body["next"]
        said = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        assert said == Matching(rf"main {re.escape(iso(3))}#[0-9a-f]{{64}}")


class TestShared:
    def test_a_number_of_five_hundred_is_opted_out_in_one_transaction_of_the_size_of_one(self, north: Service) -> None:
        # The first consent on a line marks it, once and for all.
        assert north.record_replies(reply("STOP", "message-0", at=at(0), number=number(199))) == []
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: None) as alone:
            assert north.record_replies(reply("STOP", "message-1", at=at(1), number=LANDLINE)) == []
        share(north, 500)
        with fault(aws.dynamodb(), "", lambda _: None) as requests:
            assert north.record_replies(reply("STOP", "message-2", at=at(1))) == []
        transactions = [request for request in requests if "TransactItems" in request]
        assert len(transactions) == len(alone) == 1
        assert len(transactions[0]["TransactItems"]) == len(alone[0]["TransactItems"])
        # The line is read, and nothing of the patients.
        assert len(requests) == 2
        assert consent(north) == "opted_out"

    def test_staff_opt_it_out_and_in_for_all_of_them_in_one_too(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT | {"phone_number": LANDLINE}).status == 200
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: None) as alone:
            assert north.put(CONSENT, OPT_IN | {"phone_number": LANDLINE, "evidence": "portal"}).status == 200
        assert north.put(CONSENT, OPT_OUT).status == 200
        share(north, 500)
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: None) as shared:
            assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}).status == 200
        assert len(shared) == len(alone) == 1
        assert len(shared[0]["TransactItems"]) == len(alone[0]["TransactItems"])

    @pytest.mark.parametrize(("others", "shown"), [(0, 0), (1, 1), (99, 99), (100, 100), (101, "100+"), (500, "100+")])
    def test_the_facesheet_counts_the_others_to_a_hundred(self, north: Service, others: int, shown: int | str) -> None:
        share(north, others)
        phones = north.get(PATIENT).body["phones"]
        assert [(phone["number"], phone["shared_with"]) for phone in phones] == [(CELL, shown), (LANDLINE, 0)]

    def test_each_of_the_others_counts_this_one(self, north: Service) -> None:
        assert north.put("north/patients/p-2/contact-info", CONTACT_INFO).body["phones"][0]["shared_with"] == 1
        assert north.get(PATIENT).body["phones"][0]["shared_with"] == 1
        assert north.put("north/patients/p-2/contact-info", {"phones": [], "emails": []}).status == 200
        assert north.get(PATIENT).body["phones"][0]["shared_with"] == 0

    def test_junk_is_shared_with_nobody(self, north: Service) -> None:
        junk = {"phones": [{"number": "555 CALL ME"}], "emails": []}
        for patient_id in ("p-1", "p-2"):
            answer = north.put(f"north/patients/{patient_id}/contact-info", junk)
            assert answer.body["phones"][0]["shared_with"] == 0


def change(csv_line: int, of: str = CELL, line: str = "main", before: str = "opted_in") -> dict[str, object]:
    return {"csv_line": csv_line, "phone_number": of, "line": line, "from": before, "to": "opted_out"}


def skipped(csv_line: int, of: str = CELL, line: str = "main") -> dict[str, object]:
    return {"csv_line": csv_line, "phone_number": of, "line": line, "reason": "OPT_OUT_ON_RECORD"}


def refused(csv_line: int, column: str | None, message: str) -> dict[str, object]:
    return {"csv_line": csv_line, "column": column, "message": message}


def imported(rows: int, *, dry_run: bool = False, **told: object) -> Answer:
    whole = {"dry_run": dry_run, "rows": rows, "changes": [], "skipped": [], "unchanged": 0, "refused": [], **told}
    return Answer(200, whole, {})


def import_event(service: Service, text: str) -> dict[str, Any]:
    return service.request_event(IMPORT, body=text, headers={"content-type": "text/csv"})


class TestImport:
    def test_a_row_opts_a_number_out_from_when_it_was_said(self, north: Service) -> None:
        text = file(row("503-555-0101", said="2024-05-06T05:00:01-07:00", source="old system"))
        assert north.import_csv(text) == imported(1, changes=[change(2)])
        assert history(north) == [
            {
                "line": "main",
                "status": "opted_out",
                "in_force": "opted_out",
                "source": "import",
                "actor": "staff-7",
                "evidence": "old system",
                "said_at": iso(1),
                "recorded_at": TIME,
            }
        ]
        assert north.get(PATIENT).body["sms_consent"] == {
            "status": "Opted Out of 1 numbers",
            "numbers": [
                {"phone_number": CELL, "line": "main", "status": "opted_out", "source": "import", "recorded_at": TIME}
            ],
        }

    def test_a_dry_run_says_what_the_run_then_does_and_writes_nothing(self, north: Service) -> None:
        assert (
            north.record_replies(
                reply("STOP", "message-1", at=at(1), number=number(110)),
                reply("START", "message-2", at=at(9), number=number(111)),
                reply("no more texts", "message-3", at=at(1), number=number(112)),
                reply("no more texts", "message-4", at=at(1), number=number(113)),
            )
            == []
        )
        text = file(
            row(),
            row(number(110), said=at(5)),
            row(number(110), status="opted_in", said=at(7)),
            row(number(111), said=at(5)),
            row(number(111), said=at(10)),
            row(number(111), status="opted_in", said=at(11)),
            "",
            row(number(112), said=at(5)),
            row(number(113), said=at(5), source="keyword"),
            row(number(114), status="opted_in"),
            "junk,main,opted_out,2024-05-06T12:00:00Z,",
            row(line="other"),
            row(LANDLINE, line="billing", source='"two\nlines"'),
            row(LANDLINE, line="billing"),
        )
        before = north.items()
        dry = north.import_csv(text, dry_run=True)
        assert dry == imported(
            13,
            dry_run=True,
            changes=[
                change(2),
                change(6, number(111)),
                change(9, number(112), before="under_review"),
                change(10, number(113), before="under_review"),
                change(16, LANDLINE, "billing"),
            ],
            skipped=[skipped(4, number(110)), skipped(7, number(111))],
            unchanged=3,
            refused=[
                refused(12, "number", "not a valid phone number"),
                refused(13, "line", "the practice has no such line"),
                refused(14, "source", "at most 200 printable characters"),
            ],
        )
        assert north.items() == before
        real = north.import_csv(text)
        assert real.body == dry.body | {"dry_run": False}
        for each in real.body["changes"]:
            assert consent(north, each["phone_number"], each["line"]) == "opted_out"

    def test_bad_rows_are_named_by_the_line_on_which_they_begin_and_good_ones_kept(self, north: Service) -> None:
        text = file(
            row(number(110), source='"two\nlines"'),
            row("junk"),
            "",
            row(line="other"),
            row(status="out"),
            row(said="2024-05-06T12:00:00"),
            row(said="2999-01-01T00:00:00Z"),
            row(source="x" * 201),
            "too,few",
            row("=1+1"),
            row(LANDLINE),
        )
        printable = "at most 200 printable characters"
        not_a_time = "not a time in ISO 8601 with its offset, like 2026-11-20T17:02:11Z"
        assert north.import_csv(text) == imported(
            10,
            changes=[change(13, LANDLINE)],
            refused=[
                refused(2, "source", printable),
                refused(4, "number", "not a valid phone number"),
                refused(6, "line", "the practice has no such line"),
                refused(7, "status", "is opted_out or opted_in"),
                refused(8, "said_at", not_a_time),
                refused(9, "said_at", "lies in the future"),
                refused(10, "source", printable),
                refused(11, None, "a row has 5 cells"),
                refused(12, "number", "not a valid phone number"),
            ],
        )
        assert reported(north) == [(LANDLINE, "main")]

    @pytest.mark.parametrize("said", [at(0), at(9)])
    def test_an_opt_in_never_overrides_an_opt_out_and_is_listed(self, north: Service, said: str) -> None:
        assert north.record_replies(reply("STOP", at=at(5))) == []
        before = north.items()
        text = file(row(status="opted_in", said=said))
        assert north.import_csv(text) == imported(1, skipped=[skipped(2)])
        assert north.items() == before

    def test_an_opt_in_of_one_who_is_not_opted_out_is_not_recorded(self, north: Service) -> None:
        before = north.items()
        assert north.import_csv(file(row(status="opted_in"))) == imported(1, unchanged=1)
        assert north.items() == before

    def test_an_opt_in_ends_no_review(self, north: Service) -> None:
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        before = north.items()
        assert north.import_csv(file(row(status="opted_in", said=at(5), source="keyword"))).status == 200
        assert north.items() == before

    def test_the_same_file_twice_changes_nothing(self, north: Service) -> None:
        text = file(row(), row(line="billing"), row(LANDLINE, source="keyword"), row(status="opted_in"))
        assert len(north.import_csv(text).body["changes"]) == 3
        before = north.items()
        north.new_stream_records()
        assert north.import_csv(text) == imported(4, skipped=[skipped(5)], unchanged=3)
        assert north.items() == before
        assert north.new_stream_records() == []

    def test_nor_does_it_undo_a_start_that_came_between(self, north: Service) -> None:
        text = file(row(said=at(1), source="keyword"))
        assert north.import_csv(text).status == 200
        assert north.record_replies(reply("START", at=at(2))) == []
        before = north.items()
        assert north.import_csv(text) == imported(1, unchanged=1)
        assert north.items() == before

    def test_a_number_may_come_twice_and_on_two_lines(self, north: Service) -> None:
        text = file(
            row(said=at(5)),
            row("503-555-0101", said=at(7)),
            row(said=at(6)),
            row(line="billing", said=at(1)),
            row(said=at(5)),
            row(line="billing", said=at(1), source="other"),
        )
        assert north.import_csv(text) == imported(6, changes=[change(2), change(5, line="billing")], unchanged=4)
        assert {(each["line"], each["said_at"], each["evidence"]) for each in history(north)} == {
            ("main", iso(5), "old"),
            ("main", iso(7), "old"),
            ("main", iso(6), "old"),
            ("billing", iso(1), "old"),
            ("billing", iso(1), "other"),
        }
        items = north.get(REPORT).body["items"]
        assert [(each["phone_number"], each["line"], each["said_at"]) for each in items] == [
            (CELL, "main", iso(7)),
            (CELL, "billing", iso(1)),
        ]

    def test_rows_older_than_a_start_are_recorded_and_not_in_force(self, north: Service) -> None:
        assert north.record_replies(reply("START", at=at(5))) == []
        rows = [row(said=at(1)), row(said=at(2), source="keyword")]
        assert north.import_csv(file(*rows)) == imported(2, unchanged=2)
        assert consent(north) == "opted_in"
        assert reported(north) == []
        assert [(each["source"], each["in_force"]) for each in history(north)] == [
            ("import", "opted_in"),
            ("import", "opted_in"),
            ("keyword", "opted_in"),
        ]

    @pytest.mark.parametrize("source", ["keyword", "Keyword", "KEYWORD"])
    def test_what_was_a_keyword_there_only_the_patient_can_undo(self, north: Service, source: str) -> None:
        assert north.import_csv(file(row(said=at(1), source=source))).status == 200
        assert north.put(CONSENT, OPT_IN | {"evidence": "portal"}) == ONLY_THE_PATIENT
        assert north.record_replies(reply("START", at=at(2))) == []
        assert consent(north) == "opted_in"

    def test_a_keyword_there_ends_a_review_of_what_was_said_before(self, north: Service) -> None:
        assert north.record_replies(reply("no more texts", at=at(1))) == []
        assert north.import_csv(file(row(said=at(2), source="keyword"))) == imported(
            1, changes=[change(2, before="under_review")]
        )
        assert listed(north) == []
        assert north.post(f"{REVIEWS}/{REVIEW}", NOT_A_REQUEST) == review_closed()

    def test_keywords_there_end_the_reviews_of_many_numbers(self, north: Service) -> None:
        for n in range(40):
            assert north.record_replies(reply("no more texts", f"message-{n}", at=at(1), number=number(110 + n))) == []
        text = file(*(row(number(110 + n), said=at(2), source="keyword") for n in range(40)))
        answer = north.import_csv(text)
        assert answer == imported(
            40, changes=[change(2 + n, number(110 + n), before="under_review") for n in range(40)]
        )
        assert listed(north) == []

    def test_the_line_keeps_its_number_from_then_on(self, north: Service) -> None:
        lines: Any = PRACTICE["lines"]
        moved = PRACTICE | {"lines": [lines[0], lines[1] | {"phone_number": "+15035559077"}]}
        assert north.import_csv(file(row(line="billing")), dry_run=True).status == 200
        assert north.put("north", moved).status == 200
        assert north.put("north", PRACTICE).status == 200
        assert north.import_csv(file(row(line="billing"))).status == 200
        assert north.put("north", moved).status == 409

    def test_it_is_announced_and_honoured_by_the_next_message(self, north: Service) -> None:
        assert north.import_csv(file(row())).status == 200
        assert north.publish(north.new_stream_records()) == []
        assert "SmsConsentChanged" in [event["DetailType"] for event in north.events]
        message = {"channel": "text", "body": "Hi"}
        answer = north.post(f"{PATIENT}/messages", message, headers={"idempotency-key": "k"})
        assert (answer.status, answer.body["reason"]) == (409, "SMS_OPTED_OUT")

    def test_5_000_rows_are_imported_in_one_request(self, north: Service) -> None:
        outs = [row(f"+1503555{n:04}") for n in range(2_500)]
        ins = [row(f"+1503555{n:04}", status="opted_in", said=at(9)) for n in range(2_500)]
        event = import_event(north, file(*outs, *ins))
        # As long as it takes: how fast the simulated table is says nothing of the real one.
        answer = handler(event, Context([900_000]))  # type: ignore[arg-type]  # a context
        body = json.loads(answer["body"])
        assert answer["statusCode"] == 200
        assert [len(body[name]) for name in ("changes", "skipped", "refused")] == [2_500, 2_500, 0]
        kinds = Counter(item["SK"]["S"].partition("#")[0] for item in north.items())
        assert [kinds[kind] for kind in ("NUMBER", "CONSENT", "OPTOUT")] == [2_500, 2_500, 2_500]

    def test_more_rows_are_refused_and_none_is_recorded(self, north: Service) -> None:
        before = north.items()
        assert north.import_csv(file(*[row()] * 5_001)) == invalid(
            (["body"], "csv", "a file has at most 5000 rows beside its header")
        )
        assert north.items() == before


class TestBadFile:
    BAD_HEADER = invalid(
        (
            ["body"],
            "csv",
            f"the first line is a header with the columns {CSV_HEADER}, each once, separated by commas",
        )
    )

    @pytest.mark.parametrize(
        "text",
        [row(), "number,line,status,said_at\n", f"{CSV_HEADER},note\n", CSV_HEADER.replace(",", ";"), "{}"],
        ids=["no header", "a column missing", "a column more", "semicolons", "JSON"],
    )
    def test_a_header_that_is_none_is_refused(self, north: Service, text: str) -> None:
        assert north.import_csv(text) == self.BAD_HEADER
        assert north.import_csv(text, dry_run=True) == self.BAD_HEADER

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "the file is empty"),
            ("\ufeff\r\n", "the file is empty"),
            (
                CSV_HEADER + row() + row(),
                "the file is one line: its line ends were lost on the way (curl keeps them with --data-binary)",
            ),
        ],
    )
    def test_what_got_lost_on_the_way_is_said(self, north: Service, text: str, message: str) -> None:
        assert north.import_csv(text) == invalid((["body"], "csv", message))

    @pytest.mark.parametrize("name", ["dryrun", "dry-run", "Dry_run"])
    def test_a_misspelt_dry_run_is_refused_and_is_no_run(self, north: Service, name: str) -> None:
        before = north.items()
        answer = north.post(f"north/imports/consent?{name}=true", file(row()).encode())
        assert answer == invalid((["query", name], "extra_forbidden", "there is no such parameter here"))
        assert north.items() == before

    def test_a_byte_order_mark_and_other_line_ends_are_no_matter(self, north: Service) -> None:
        text = "\ufeff" + file(row()).replace("\n", "\r\n")
        assert north.import_csv(text) == imported(1, changes=[change(2)])

    def test_a_header_alone_changes_nothing(self, north: Service) -> None:
        before = north.items()
        assert north.import_csv(CSV_HEADER) == imported(0)
        assert north.items() == before

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "cp1252"])
    def test_another_encoding_is_refused(self, north: Service, encoding: str) -> None:
        data = file(row(source="café")).encode(encoding)
        assert north.import_csv(data) == problem(400, "malformed", "Bad Request", "The body is not UTF-8.")

    def test_a_quote_that_is_left_open_is_named_by_its_line(self, north: Service) -> None:
        before = north.items()
        assert north.import_csv(file(row(), row(source='"open'))) == invalid(
            (["body"], "csv", "line 3 is not CSV: a quote is not closed or not doubled, or a cell is too long")
        )
        assert north.items() == before

    @pytest.mark.parametrize("size", [1_048_577, 10_000_000])
    def test_more_than_a_megabyte_is_refused(self, north: Service, size: int) -> None:
        data = file(row()).encode().ljust(size, b"\n")
        too_large = problem(413, "too-large", "Content Too Large", "A body has at most 1024 KB.")
        assert north.import_csv(data) == too_large

    def test_a_megabyte_is_read(self, north: Service) -> None:
        data = file(row()).encode().ljust(1_048_576, b"\n")
        assert north.import_csv(data) == imported(1, changes=[change(2)])

    def test_it_needs_a_practice_and_its_administrator(self, service: Service) -> None:
        assert service.import_csv(file(row())) == UNKNOWN_PRACTICE
        assert service.import_csv(file(row()), scope="preferences/write").status == 403

    @pytest.mark.parametrize("dry_run", ["maybe", "2"])
    def test_a_dry_run_is_true_or_false(self, north: Service, dry_run: str) -> None:
        path = f"north/imports/consent?dry_run={dry_run}"
        before = north.items()
        assert north.post(path, file(row()).encode(), headers={"content-type": "text/csv"}).status == 422
        assert north.items() == before


# A number that is in no file but its own.
OTHER = number(999)


def whole_rows(service: Service) -> set[str]:
    """The numbers that are opted out: each whole, with its consent, its history and its place in the report."""
    found: dict[str, set[str]] = {}
    for item in service.items():
        _, of_number, of = item["PK"]["S"].partition("#NUMBER#")
        kind = item["SK"]["S"].partition("#")[0]
        if of_number and of != OTHER and kind != "PATIENT":
            found.setdefault(of, set()).add(kind)
    assert all(kinds == {"NUMBER", "CONSENT", "OPTOUT"} for kinds in found.values())
    return set(found)


class TestFaults:
    ROWS = 100
    NUMBERS = frozenset(number(100 + n) for n in range(ROWS))
    TEXT = file(*(row(of) for of in sorted(NUMBERS)))

    @pytest.mark.parametrize("before_fault", [1, 2, 3])
    def test_a_fault_in_the_middle_leaves_whole_rows_and_the_same_file_again_the_rest(
        self, north: Service, before_fault: int
    ) -> None:
        # The line is marked by then, as one with consent on record.
        assert north.import_csv(file(row(OTHER))).status == 200
        done: list[int] = []

        def after_some(_: object) -> Any:
            if len(done) == before_fault:
                return client_error("ThrottlingException")
            done.append(1)
            return None

        with fault(aws.dynamodb(), "TransactWriteItems", after_some):
            assert north.import_csv(self.TEXT) == BUSY
        kept = whole_rows(north)
        assert 0 < len(kept) < self.ROWS
        answer = north.import_csv(self.TEXT)
        assert [each["phone_number"] for each in answer.body["changes"]] == sorted(self.NUMBERS - kept)
        assert whole_rows(north) == self.NUMBERS
        found = pages(lambda query: north.get(REPORT + query), 100)
        assert {each["phone_number"] for page in found for each in page} == self.NUMBERS | {OTHER}

    def test_when_no_time_is_left_it_says_so_and_the_same_file_again_records_the_rest(self, north: Service) -> None:
        left = Context([RESERVE + 1, RESERVE + 1, RESERVE])
        answer = handler(import_event(north, self.TEXT), left)  # type: ignore[arg-type]  # a context
        assert answer["statusCode"] == 503
        assert answer["headers"]["Retry-After"] == "1"
        assert json.loads(answer["body"]) == {
            "type": "urn:patient-contact:problem:try-again",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The file is recorded in part: send it again, what is recorded is not recorded twice.",
        }
        assert len(whole_rows(north)) == 66
        assert len(north.import_csv(self.TEXT).body["changes"]) == self.ROWS - 66
        assert whole_rows(north) == self.NUMBERS

    def test_with_no_time_at_all_nothing_is_recorded(self, north: Service) -> None:
        answer = handler(import_event(north, self.TEXT), Context([RESERVE]))  # type: ignore[arg-type]  # a context
        assert answer["statusCode"] == 503
        assert whole_rows(north) == set()

    def test_a_dry_run_needs_no_time(self, north: Service) -> None:
        event = import_event(north, self.TEXT) | {"queryStringParameters": {"dry_run": "true"}}
        answer = handler(event, Context([0]))  # type: ignore[arg-type]  # a context
        assert (answer["statusCode"], len(json.loads(answer["body"])["changes"])) == (200, self.ROWS)

    @pytest.mark.usefixtures("time_flies")
    def test_numbers_that_cannot_be_read_are_not_taken_for_unknown(self, north: Service) -> None:
        before = north.items()
        with throttled("BatchGetItem"):
            assert north.import_csv(file(row())) == BUSY
        assert north.items() == before

    def test_a_reply_that_comes_between_reading_and_writing_is_seen(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", "message-0", number=number(199), at=at(0))) == []
        started: list[int] = []

        def first_the_patient(_: object) -> None:
            if not started:
                started.append(1)
                assert north.record_replies(reply("START", at=at(5))) == []

        text = file(row(said=at(1)), row(LANDLINE, said=at(1)))
        with fault(aws.dynamodb(), "TransactWriteItems", first_the_patient):
            assert north.import_csv(text).status == 200
        assert (consent(north), consent(north, LANDLINE)) == ("opted_in", "opted_out")
        assert {each["source"]: each["in_force"] for each in history(north)} == {
            "import": "opted_in",
            "keyword": "opted_in",
        }
        assert CELL not in [of for of, _ in reported(north)]
