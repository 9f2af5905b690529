"""Which messages are taken to be sent, and why the others are not."""

import json
from typing import Any

import pytest

from patient_contact.events import Refused
from patient_contact.triggers import ToSend, accept_to_send

SECRET = "+15035550101"
DETAIL = {"practice_id": "north", "patient_id": "p-1001", "message_id": "automation:reminder:2026-12-01T09:00"}
CONFIRMATION = {"practice_id": "north", "phone_number": SECRET, "message_id": "confirmation:reply-1"}


def _event(detail: object = DETAIL, **changed: Any) -> dict[str, Any]:
    return {
        "id": "0",
        "source": "patient-contact.routing",
        "detail-type": "MessageRouted",
        "time": "2026-11-20T17:02:11Z",
        "detail": detail,
        **changed,
    }


def _refused(body: str) -> str:
    with pytest.raises(Refused) as refused:
        accept_to_send(body)
    assert SECRET not in refused.value.reason
    return refused.value.reason


def test_a_message_for_a_patient_is_accepted() -> None:
    assert accept_to_send(json.dumps(_event())) == ToSend(
        practice_id="north",
        message_id="automation:reminder:2026-12-01T09:00",
        patient_id="p-1001",
        phone_number=None,
    )


def test_the_confirmation_of_a_reply_is_accepted() -> None:
    assert accept_to_send(json.dumps(_event(CONFIRMATION))) == ToSend(
        practice_id="north", message_id="confirmation:reply-1", patient_id=None, phone_number=SECRET
    )


def test_all_else_that_the_event_says_is_left_unread() -> None:
    told = DETAIL | {"version": 1, "sender": "service", "destination": SECRET, "messages": {"text": {"body": "Hi"}}}
    assert accept_to_send(json.dumps(_event(told))) == accept_to_send(json.dumps(_event()))


def test_an_event_may_be_of_any_age() -> None:
    """It waits until it expires, and the message itself says when that is."""
    old, new = _event(time="2020-01-01T00:00:00Z"), _event(time="2099-01-01T00:00:00Z")
    assert accept_to_send(json.dumps(old)) == accept_to_send(json.dumps(new))


@pytest.mark.parametrize("body", ["", "MessageRouted", "{", "[" * 100_000, "1" * 5_000])
def test_what_is_not_json_is_refused(body: str) -> None:
    assert _refused(body) == "invalid event: not JSON"


@pytest.mark.parametrize("body", ["null", "[]", "1", '"text"'])
def test_what_is_no_object_is_refused(body: str) -> None:
    assert _refused(body) == "invalid event: all of it"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"time": "yesterday"}, "invalid event: time"),
        ({"detail-type": 1}, "invalid event: detail-type"),
        ({"detail": [SECRET]}, "invalid event: detail"),
        ({"detail-type": "MessageSuppressed"}, "unknown detail-type"),
        ({"detail-type": "MessageSent"}, "unknown detail-type"),
        ({"detail-type": "AutomationTriggered"}, "unknown detail-type"),
        ({"detail-type": "messageRouted"}, "unknown detail-type"),
    ],
)
def test_an_envelope_that_is_wrong_is_refused_with_its_field(changed: dict[str, Any], reason: str) -> None:
    assert _refused(json.dumps(_event(**changed))) == reason


@pytest.mark.parametrize("missing", ["time", "detail-type", "detail"])
def test_an_envelope_without_a_part_is_refused_with_its_field(missing: str) -> None:
    event = _event()
    del event[missing]
    assert _refused(json.dumps(event)) == f"invalid event: {missing}"


@pytest.mark.parametrize("missing", ["practice_id", "message_id"])
@pytest.mark.parametrize("detail", [DETAIL, CONFIRMATION], ids=["for a patient", "a confirmation"])
def test_a_detail_without_a_part_is_refused_with_its_field(detail: dict[str, str], missing: str) -> None:
    left = {name: value for name, value in detail.items() if name != missing}
    assert _refused(json.dumps(_event(left))) == f"invalid detail: {missing}"


@pytest.mark.parametrize(
    "changed",
    [{"patient_id": None}, {"phone_number": SECRET}],
    ids=["for nobody", "for a patient and a phone number"],
)
def test_a_message_is_for_one_who_is_named_in_one_way(changed: dict[str, str | None]) -> None:
    assert _refused(json.dumps(_event(DETAIL | changed))) == "invalid detail: all of it"


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"practice_id": "north#1"}, "practice_id"),
        ({"practice_id": 7}, "practice_id"),
        ({"practice_id": "n" * 129}, "practice_id"),
        ({"patient_id": "p/1"}, "patient_id"),
        ({"patient_id": "p\n"}, "patient_id"),
        ({"patient_id": True}, "patient_id"),
        ({"message_id": "manual#1"}, "message_id"),
        ({"message_id": ""}, "message_id"),
        ({"message_id": "m" * 401}, "message_id"),
        ({"message_id": None}, "message_id"),
        ({"phone_number": "503-555-0101", "patient_id": None}, "phone_number"),
        ({"phone_number": "+0" + SECRET[1:], "patient_id": None}, "phone_number"),
        ({"practice_id": SECRET + "#", "message_id": SECRET + "#"}, "message_id, practice_id"),
    ],
)
def test_a_detail_that_is_wrong_is_refused_with_its_fields_and_never_a_value(
    changed: dict[str, Any], fields: str
) -> None:
    assert _refused(json.dumps(_event(DETAIL | changed))) == f"invalid detail: {fields}"
