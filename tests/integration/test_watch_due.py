"""watch_due: what staff have not read in time rings an alarm."""

import json
from typing import Any

import pytest

from tests.integration.service import PRACTICE, Service, reply


def overdue(service: Service, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """The values of the metric that one run sends, as CloudWatch would take them."""
    capsys.readouterr()
    assert service.runtime.invoke("WatchDueFunction", {"detail-type": "Scheduled Event"}) is None
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (metric,) = (line for line in lines if "_aws" in line)
    (directive,) = metric["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("PatientContact", [["service"]])
    assert metric["service"] == "watch_due"
    values: list[Any] = metric["ConsentReviewsOverdue"]
    return values


def test_nothing_to_read_is_said_to_be_none(north: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert overdue(north, capsys) == [0.0]


def test_open_reviews_of_all_practices_are_counted_from_the_day_after_they_were_due(
    north: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"id": "main", "name": "Main", "phone_number": "+15035559500"}]
    assert north.put("south", PRACTICE | {"lines": lines}, practice_ids=["south"]).status == 200
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
