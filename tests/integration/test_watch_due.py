"""watch_due: what staff have not read, or resolved, in time rings an alarm."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from patient_contact import table
from tests.integration.bulk import put_many
from tests.integration.sending import CLINIC, leave_unknown
from tests.integration.service import CONTACT_INFO, PRACTICE, Service, receipt, reply

SOUTH = PRACTICE | {"lines": [{"id": "main", "name": "Main", "phone_number": "+15035559500"}], "sending": True}


def measured(service: Service, capsys: pytest.CaptureFixture[str]) -> dict[str, list[Any]]:
    """The values of the metrics that one run sends, as CloudWatch would take them."""
    capsys.readouterr()
    assert service.runtime.invoke("WatchDueFunction", {"detail-type": "Scheduled Event"}) is None
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    values = {}
    for metric in (line for line in lines if "_aws" in line):
        (directive,) = metric["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"]) == ("PatientContact", [["service"]])
        assert metric["service"] == "watch_due"
        (name,) = (each["Name"] for each in directive["Metrics"])
        assert name not in values
        values[name] = metric[name]
    assert values.keys() == {"ConsentReviewsOverdue", "DecisionsUnknown"}
    return values


def overdue(service: Service, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """How many replies are said to wait too long."""
    return measured(service, capsys)["ConsentReviewsOverdue"]


def unknown(service: Service, capsys: pytest.CaptureFixture[str], minutes: float = 0) -> list[Any]:
    """How many sends are said to be unknown too long, so many minutes from now."""
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes)):
        return measured(service, capsys)["DecisionsUnknown"]


def test_nothing_to_read_or_resolve_is_said_to_be_none(north: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert measured(north, capsys) == {"ConsentReviewsOverdue": [0.0], "DecisionsUnknown": [0.0]}


def test_open_reviews_of_all_practices_are_counted_from_the_day_after_they_were_due(
    north: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert north.put("south", SOUTH, practice_ids=["south"]).status == 200
    late = "2026-10-01T18:00:00.000Z"
    assert (
        north.record_replies(
            reply("no more messages", "message-1", at=late),
            reply("no more messages", "message-2", at=late, number="+15035550199"),
            reply("no more messages", "message-3", at=late, line="+15035559500"),
            reply("no more messages", "message-4", at="2125-10-01T18:00:00.000Z", number="+15035550198"),
        )
        == []
    )
    assert overdue(north, capsys) == [3.0]
    assert [each["overdue"] for each in north.get("north/consent-reviews").body["items"]] == [True, True, False]


def test_what_has_been_closed_or_answered_by_a_keyword_is_not_counted(
    north: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "2026-10-01T18:00:00.000Z"
    batch = [reply("no more messages", f"message-{n}", at=late, number=f"+1503555019{n}") for n in range(3)]
    assert north.record_replies(*batch) == []
    (first, _, _) = north.get("north/consent-reviews").body["items"]
    path = f"north/consent-reviews/{first['review_id']}"
    assert north.post(path, {"outcome": "not_a_request"}).status == 200
    assert overdue(north, capsys) == [2.0]
    assert north.record_replies(reply("START", "message-9", number="+15035550192")) == []
    assert overdue(north, capsys) == [1.0]


class TestUnknownSends:
    @pytest.fixture(autouse=True)
    def unresolved(self, north: Service) -> None:
        """Two messages of the north, and one of the south, that may or may not have gone out."""
        assert north.put("north", CLINIC).status == 200
        south = {"practice_ids": ["south"]}
        assert north.put("south", SOUTH, **south).status == 200
        assert north.put("south/patients/p-1/contact-info", CONTACT_INFO, **south).status == 200
        for key in ("key-1", "key-2"):
            leave_unknown(north, key)
        leave_unknown(north, "key-1", "south")

    @pytest.mark.parametrize(("minutes", "expected"), [(0, 0.0), (14.5, 0.0), (15.5, 3.0), (10_000, 3.0)])
    def test_those_of_all_practices_are_counted_from_a_quarter_of_an_hour_on(
        self, north: Service, capsys: pytest.CaptureFixture[str], minutes: float, expected: float
    ) -> None:
        assert unknown(north, capsys, minutes) == [expected]

    def test_what_staff_have_resolved_or_a_receipt_has_settled_is_not_counted(
        self, north: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = "north/patients/p-1/decisions/manual:key-1"
        assert north.post(f"{path}/resolve", {"outcome": "not_sent"}).status == 200
        assert unknown(north, capsys, 16) == [2.0]
        attempt = north.get("north/patients/p-1/decisions/manual:key-2").body["attempt"]
        context = {"practice_id": "north", "patient_id": "p-1", "message_id": "manual:key-2", "attempt": attempt}
        assert north.record_receipts(receipt("TEXT_SENT", context=context)) == []
        assert unknown(north, capsys, 16) == [1.0]

    def test_more_than_one_page_of_the_index_is_counted(
        self, north: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (item, *_) = (table.decode_item(each) for each in north.items() if "GSI1SK" in each)
        practice_id, since, _ = item["GSI1SK"].split("#")
        put_many(
            (
                item | {"SK": f"DECISION#manual:more-{n}", "GSI1SK": f"{practice_id}#{since}#{n:04}"}
                for n in range(1_500)
            ),
            north.environment["TABLE_NAME"],
        )
        assert unknown(north, capsys, 16) == [1_503.0]
