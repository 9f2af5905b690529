"""Which events from the bus are accepted, and why the others are not."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from patient_contact.events import Refused
from patient_contact.received import Messages, TextTemplate
from patient_contact.triggers import AutomationTriggered, accept_trigger

NOW = datetime(2026, 11, 20, 17, 2, 11, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SECRET = "+15035550101"

DETAIL = {
    "version": 1,
    "practice_id": "north",
    "patient_id": "p-1001",
    "automation_id": "appointment-reminder",
    "occurrence_id": "2026-12-01T09:00",
}


def _event(**changed: Any) -> dict[str, Any]:
    return {
        "id": "0",
        "source": "patient-contact.automations",
        "detail-type": "AutomationTriggered",
        "time": NOW.isoformat(),
        "detail": DETAIL,
        **changed,
    }


def _refused(body: str) -> str:
    with pytest.raises(Refused) as refused:
        accept_trigger(body, NOW)
    assert str(refused.value) == refused.value.reason
    return refused.value.reason


def test_a_trigger_is_accepted() -> None:
    assert accept_trigger(json.dumps(_event()), NOW) == AutomationTriggered(
        version=1,
        practice_id="north",
        patient_id="p-1001",
        automation_id="appointment-reminder",
        occurrence_id="2026-12-01T09:00",
        context={},
        messages=None,
        send_before=None,
    )


def test_a_trigger_may_bring_context_content_and_a_time_to_send_before() -> None:
    detail = {
        **DETAIL,
        "context": {"first_name": "Pat", "visits": 3, "owed": 12.5},
        "messages": {"text": {"body": "Hi $first_name"}},
        "send_before": "2026-11-20T18:00:00-08:00",
    }

    accepted = accept_trigger(json.dumps(_event(detail=detail)), NOW)

    assert accepted.context == {"first_name": "Pat", "visits": 3, "owed": 12.5}
    assert accepted.messages == Messages(text=TextTemplate(body="Hi $first_name"))
    assert accepted.send_before == datetime(2026, 11, 21, 2, tzinfo=UTC)


def test_an_occurrence_is_one_message() -> None:
    accepted = accept_trigger(json.dumps(_event()), NOW)

    assert accepted.message_id == "automation:appointment-reminder:2026-12-01T09:00"


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (NOW - timedelta(days=14), None),
        (NOW - timedelta(days=14) - SECOND, "older than 14 days"),
        (NOW + timedelta(days=1), None),
        (NOW + timedelta(days=1) + SECOND, "from the future"),
    ],
)
def test_an_event_is_accepted_up_to_14_days_after_it_happened(time: datetime, reason: str | None) -> None:
    body = json.dumps(_event(time=time.isoformat()))

    if reason is None:
        assert accept_trigger(body, NOW).patient_id == "p-1001"
    else:
        assert _refused(body) == reason


@pytest.mark.parametrize("body", ["", "AutomationTriggered", "{", "[" * 100_000, "1" * 5_000])
def test_what_is_not_json_is_refused(body: str) -> None:
    assert _refused(body) == "invalid event: not JSON"


@pytest.mark.parametrize("body", ["null", "[]", "1", '"text"'])
def test_what_is_no_object_is_refused(body: str) -> None:
    assert _refused(body) == "invalid event: all of it"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"time": None}, "invalid event: time"),
        ({"time": "yesterday"}, "invalid event: time"),
        ({"time": "2026-11-20T17:02:11"}, "invalid event: time"),
        ({"detail-type": 1}, "invalid event: detail-type"),
        ({"detail": None}, "invalid event: detail"),
        ({"detail": [SECRET]}, "invalid event: detail"),
        ({"detail": SECRET, "time": "today"}, "invalid event: detail, time"),
        ({"detail-type": "AutomationTriggerd"}, "unknown detail-type"),
        ({"detail-type": "automationTriggered"}, "unknown detail-type"),
    ],
)
def test_an_envelope_that_is_wrong_is_refused_with_its_field(changed: dict[str, Any], reason: str) -> None:
    assert _refused(json.dumps(_event(**changed))) == reason


@pytest.mark.parametrize("missing", ["time", "detail-type", "detail"])
def test_an_envelope_without_a_part_is_refused_with_its_field(missing: str) -> None:
    event = _event()
    del event[missing]

    assert _refused(json.dumps(event)) == f"invalid event: {missing}"


@pytest.mark.parametrize("missing", DETAIL)
def test_a_detail_without_a_part_is_refused_with_its_field(missing: str) -> None:
    detail = {name: value for name, value in DETAIL.items() if name != missing}

    assert _refused(json.dumps(_event(detail=detail))) == f"invalid detail: {missing}"


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"version": 2}, "version"),
        ({"version": "1"}, "version"),
        ({"practice_id": "north#1"}, "practice_id"),
        ({"practice_id": ""}, "practice_id"),
        ({"patient_id": "p/1001"}, "patient_id"),
        ({"patient_id": 1001}, "patient_id"),
        ({"patient_id": "p 1001"}, "patient_id"),
        ({"patient_id": "pät"}, "patient_id"),
        ({"patient_id": "p-1001\n"}, "patient_id"),
        ({"patient_id": "p" * 129}, "patient_id"),
        ({"automation_id": "a:b"}, "automation_id"),
        ({"occurrence_id": "a#b"}, "occurrence_id"),
        ({"occurrence_id": "o" * 129}, "occurrence_id"),
        ({"context": []}, "context"),
        ({"context": {SECRET: None}}, "context"),
        ({"context": {"name": [SECRET]}}, "context"),
        ({"context": {"name": True}}, "context"),
        ({"messages": {}}, "messages"),
        ({"messages": {"text": {"body": f"$5 {SECRET}"}}}, "messages"),
        ({"messages": {"text": {"body": "x" * 1_601}}}, "messages"),
        ({"messages": {"letter": {"body": SECRET}}}, "messages"),
        ({"context": {"name": "\ud800"}}, "context"),
        ({"send_before": "tomorrow"}, "send_before"),
        ({"send_before": 1_790_000_000}, "send_before"),
        ({"send_before": SECRET}, "send_before"),
        ({"send_before": "2026-11-20T18:00:00"}, "send_before"),
        ({SECRET: SECRET}, "unknown field"),
        ({"channel": "text", "version": None}, "unknown field, version"),
    ],
)
def test_a_detail_that_is_wrong_is_refused_with_its_fields_and_never_a_value(
    changed: dict[str, Any], fields: str
) -> None:
    assert _refused(json.dumps(_event(detail=DETAIL | changed))) == f"invalid detail: {fields}"


@pytest.mark.parametrize("name", ["practice_id", "patient_id", "automation_id", "occurrence_id"])
def test_an_id_has_up_to_128_characters(name: str) -> None:
    longest = "aZ09._~-" * 16

    assert getattr(accept_trigger(json.dumps(_event(detail=DETAIL | {name: longest})), NOW), name) == longest


def test_a_bus_may_add_to_the_envelope() -> None:
    assert accept_trigger(json.dumps(_event(resources=[], region="us-east-1")), NOW).practice_id == "north"
