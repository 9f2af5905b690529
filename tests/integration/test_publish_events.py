"""publish_events: what was written to the table is announced on the bus, from the table's stream."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError

from patient_contact import aws, clock, table
from tests.integration.service import (
    CELL,
    CONTACT_INFO,
    CONTEXT,
    LANDLINE,
    TIME,
    Matching,
    Service,
    client_error,
    fault,
    throttled,
    trigger,
)

PATIENT = "north/patients/p-1"
EVENT_ID = Matching(r".+")
RENDERED = {
    "text": {"body": "Hi Pat, see you on Monday."},
    "call": {"body": "Hello Pat, your appointment is on Monday."},
    "email": {"subject": "Your appointment", "body": "Hello Pat, see you on Monday."},
}
ROUTED: dict[str, Any] = {
    "version": 1,
    "event_id": EVENT_ID,
    "practice_id": "north",
    "patient_id": "p-1",
    "message_id": "automation:reminder:visit-1",
    "message_class": "automation",
    "line": "main",
    "outcome": "deliver",
    "reason": "TEXT_ENABLED",
    "rule": "R2",
    "decided_at": TIME,
    "sender": "practice",
    "channel": "text",
    "destination": CELL,
    "messages": RENDERED,
    "send_before": None,
}
SUPPRESSED = {
    name: value
    for name, value in ROUTED.items()
    if name not in ("sender", "channel", "destination", "messages", "send_before")
} | {"outcome": "suppress", "reason": "DO_NOT_CONTACT", "rule": "R1"}


def announced(service: Service) -> list[tuple[str, str, Any]]:
    """Publish what is in the stream and give what was published: source, detail-type, detail."""
    service.events.clear()
    assert service.publish(service.new_stream_records()) == []
    return published(service)


def published(service: Service) -> list[tuple[str, str, Any]]:
    for event in service.events:
        assert event["EventBusName"] == service.resources["EventBus"]
    return [(event["Source"], event["DetailType"], json.loads(event["Detail"])) for event in service.events]


class TestDecisions:
    def test_a_routed_message_is_announced_with_its_rendered_content(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        assert announced(north) == [("patient-contact.routing", "MessageRouted", ROUTED)]

    def test_a_suppressed_message_is_announced_with_its_reason_and_no_content(self, north: Service) -> None:
        assert north.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
        north.new_stream_records()
        assert north.run_automations(trigger()) == []
        assert announced(north) == [("patient-contact.routing", "MessageSuppressed", SUPPRESSED)]

    def test_content_that_is_kept_beside_the_decision_is_announced_with_it(self, north: Service) -> None:
        name = "Pat" * 400
        assert north.run_automations(trigger(context=CONTEXT | {"first_name": name})) == []
        rendered = json.loads(json.dumps(RENDERED).replace("Pat", name))
        assert announced(north) == [("patient-contact.routing", "MessageRouted", ROUTED | {"messages": rendered})]

    def test_a_time_to_send_before_is_announced(self, north: Service) -> None:
        assert north.run_automations(trigger(send_before="2030-01-01T00:00:00Z")) == []
        expected = ROUTED | {"send_before": "2030-01-01T00:00:00.000000Z"}
        assert announced(north) == [("patient-contact.routing", "MessageRouted", expected)]

    def test_a_manual_message_is_announced_the_same_way(self, north: Service) -> None:
        body = {"channel": "call", "body": "Hi", "phone_number": LANDLINE}
        assert north.post(f"{PATIENT}/messages", body, headers={"idempotency-key": "k"}).status == 202
        expected = ROUTED | {
            "message_id": "manual:k",
            "message_class": "manual",
            "reason": "CHOSEN_BY_STAFF",
            "rule": "M",
            "channel": "call",
            "destination": LANDLINE,
            "messages": {"call": {"body": "Hi"}},
        }
        assert announced(north) == [("patient-contact.routing", "MessageRouted", expected)]

    def test_a_decision_that_expires_is_announced_by_nothing(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        (record,) = north.new_stream_records()
        images = {"Keys": record["dynamodb"]["Keys"], "OldImage": record["dynamodb"]["NewImage"], "SequenceNumber": "9"}
        expired = record | {
            "eventName": "REMOVE",
            "dynamodb": images,
            "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
        }
        assert north.publish([expired]) == []
        assert north.events == []

    def test_a_decision_whose_content_is_gone_holds_the_stream_and_what_came_before_it_is_announced(
        self, north: Service
    ) -> None:
        assert north.run_automations(trigger(occurrence_id="a")) == []
        assert north.run_automations(trigger(occurrence_id="b", context=CONTEXT | {"first_name": "x" * 1_024})) == []
        assert north.run_automations(trigger(occurrence_id="c")) == []
        (kept,) = (item["SK"]["S"] for item in north.items() if item["SK"]["S"].startswith("CONTENT#"))
        assert table.delete((table.patient_pk("north", "p-1"), kept))
        records = [each for each in north.new_stream_records() if each["eventName"] == "INSERT"]
        decisions = [each for each in records if each["dynamodb"]["Keys"]["SK"]["S"].startswith("DECISION#")]
        assert north.publish(decisions) == [decisions[1]["dynamodb"]["SequenceNumber"]]
        assert [detail["message_id"][-1] for _, _, detail in published(north)] == ["a"]


CHANGED = {
    "version": 1,
    "event_id": EVENT_ID,
    "practice_id": "north",
    "patient_id": "p-1",
    "patient_version": 2,
    "what": "do_not_contact",
    "at": TIME,
    "by": "staff-7",
}


class TestPreferences:
    @pytest.mark.parametrize(
        ("path", "body", "what"),
        [
            ("contact-info", {"phones": [], "emails": []}, "contact_info"),
            ("preferred-contact", {"phone_number": CELL}, "preferred_contact"),
            ("do-not-contact", {"enabled": True, "note": "private"}, "do_not_contact"),
        ],
    )
    def test_a_change_is_announced_without_what_it_changed_to(
        self, north: Service, path: str, body: object, what: str
    ) -> None:
        assert north.put(f"{PATIENT}/{path}", body).status == 200
        expected = ("patient-contact.preferences", "PreferencesChanged", CHANGED | {"what": what})
        assert announced(north) == [expected]

    def test_a_recorded_opt_out_is_announced_once_for_the_number(self, north: Service) -> None:
        spouse = {"phones": CONTACT_INFO["phones"], "emails": []}
        assert north.put("north/patients/p-2/contact-info", spouse).status == 200
        north.new_stream_records()
        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put(f"{PATIENT}/sms-consent", body).status == 200
        expected = {
            "version": 1,
            "event_id": EVENT_ID,
            "practice_id": "north",
            "phone_number": CELL,
            "line": "main",
            "status": "opted_out",
            "source": "staff",
            "said_at": TIME,
            "recorded_at": TIME,
        }
        assert announced(north) == [("patient-contact.preferences", "SmsConsentChanged", expected)]

    def test_each_line_is_announced_when_it_changes_and_no_other(self, north: Service) -> None:
        seen = []
        for line in ("main", "billing"):
            body = {"phone_number": CELL, "line": line, "status": "opted_out"}
            assert north.put(f"{PATIENT}/sms-consent", body).status == 200
            seen += [detail["line"] for _, _, detail in announced(north)]
        assert seen == ["main", "billing"]

    def test_practices_automations_and_shared_numbers_are_announced_by_nothing(self, north: Service) -> None:
        assert north.put("north/automations/recall", {"name": "R", "messages": {"text": {"body": "Hi"}}}).status == 200
        assert north.delete("north/automations/recall").status == 204
        records = north.new_stream_records()
        assert records
        assert north.publish(records) == []
        assert north.events == []


class TestEventIds:
    def test_a_record_that_comes_again_gives_the_same_event_again(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        for line in ("main", "billing"):
            body = {"phone_number": CELL, "line": line, "status": "opted_out"}
            assert north.put(f"{PATIENT}/sms-consent", body).status == 200
        assert north.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
        records = north.new_stream_records()
        assert north.publish(records) == []
        first = published(north)
        north.events.clear()
        assert north.publish(records) == []
        assert published(north) == first
        ids = [detail["event_id"] for _, _, detail in first]
        assert len(ids) == len(set(ids)) == 4

    def test_a_number_whose_two_lines_changed_at_once_gives_two_events_with_ids_of_their_own(
        self, north: Service
    ) -> None:
        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put(f"{PATIENT}/sms-consent", body).status == 200
        (record,) = (each for each in north.new_stream_records() if each["dynamodb"]["Keys"]["SK"]["S"] == "NUMBER")
        image = record["dynamodb"]["NewImage"]
        both = {**record["dynamodb"], "NewImage": {**image, "CONSENT#billing": image["CONSENT#main"]}}
        assert north.publish([record | {"dynamodb": both}]) == []
        ids = {detail["line"]: detail["event_id"] for _, _, detail in published(north)}
        assert ids == {
            "billing": f"{record['eventID']}:billing",
            "main": f"{record['eventID']}:main",
        }


def answered(*codes: str | None) -> tuple[AWSResponse, dict[str, Any]]:
    """An answer of PutEvents in which some entries failed."""
    entries = [{"EventId": str(n)} if code is None else {"ErrorCode": code} for n, code in enumerate(codes)]
    response = AWSResponse("https://aws.example", 200, {}, None)  # type: ignore[arg-type]  # nobody reads the body
    return response, {"FailedEntryCount": sum(code is not None for code in codes), "Entries": entries}


class TestBus:
    def batch(self, north: Service, size: int) -> list[dict[str, Any]]:
        assert north.run_automations(*(trigger(occurrence_id=f"visit-{n:02}") for n in range(size))) == []
        records = north.new_stream_records()
        assert len(records) == size
        return records

    def sequences(self, records: list[dict[str, Any]]) -> list[str]:
        return [record["dynamodb"]["SequenceNumber"] for record in records]

    def test_more_than_ten_go_in_calls_of_ten_in_their_order(self, north: Service) -> None:
        records = self.batch(north, 25)
        with fault(aws.events(), "PutEvents", lambda _: None) as requests:
            assert north.publish(records) == []
        assert [len(request["Entries"]) for request in requests] == [10, 10, 5]
        assert [detail["message_id"] for _, _, detail in published(north)] == [
            f"automation:reminder:visit-{n:02}" for n in range(25)
        ]

    def test_large_ones_go_in_calls_that_the_bus_takes(self, north: Service) -> None:
        email = {"subject": "Long", "body": "é" * 16_000}
        messages = {"text": {"body": "Hi"}, "email": email}
        events = [trigger(occurrence_id=f"visit-{n:02}", messages=messages) for n in range(20)]
        assert north.run_automations(*events) == []
        with fault(aws.events(), "PutEvents", lambda _: None) as requests:
            assert north.publish(north.new_stream_records()) == []
        sizes = [sum(len(entry["Detail"].encode()) for entry in request["Entries"]) for request in requests]
        assert len(sizes) > 2
        assert max(sizes) <= 256 * 1024
        assert len(north.events) == 20

    @pytest.mark.parametrize(
        ("codes", "first"),
        [
            ([None, "ThrottlingException", None], 1),
            (["InternalFailure", None, None], 0),
            ([None, "InternalFailure", "InternalFailure"], 1),
            ([None, None, "InternalFailure"], 2),
        ],
    )
    def test_the_stream_goes_on_from_the_first_entry_that_the_bus_did_not_take(
        self, north: Service, codes: list[str | None], first: int
    ) -> None:
        records = self.batch(north, 3)
        with fault(aws.events(), "PutEvents", lambda _: answered(*codes)):
            assert north.publish(records) == [self.sequences(records)[first]]

    def test_one_that_fails_in_a_later_call_is_found_and_calls_after_it_are_not_made(self, north: Service) -> None:
        records = self.batch(north, 25)

        def second_call(request: dict[str, Any]) -> Any:
            place = json.loads(request["Entries"][0]["Detail"])["message_id"][-2:]
            return answered(None, None, "InternalFailure", *[None] * 7) if place == "10" else None

        with fault(aws.events(), "PutEvents", second_call) as requests:
            assert north.publish(records) == [self.sequences(records)[12]]
        assert len(requests) == 2

    def test_what_makes_no_event_is_not_counted_as_an_entry(self, north: Service) -> None:
        assert north.put("north/automations/recall", {"name": "R", "messages": {"text": {"body": "Hi"}}}).status == 200
        silent = north.new_stream_records()
        records = silent + self.batch(north, 2)
        with fault(aws.events(), "PutEvents", lambda _: answered(None, "InternalFailure")):
            assert north.publish(records) == [self.sequences(records)[-1]]

    def test_a_bus_that_refuses_or_cannot_be_reached_fails_the_batch_from_its_first_record(
        self, north: Service
    ) -> None:
        records = self.batch(north, 2)

        def unreachable(_: object) -> None:
            raise EndpointConnectionError(endpoint_url="https://events.example")

        for answer in (lambda _: client_error("ThrottlingException"), unreachable):
            with fault(aws.events(), "PutEvents", answer):
                assert north.publish(records) == [self.sequences(records)[0]]

    def test_a_count_of_failures_without_a_code_is_a_failure(self, north: Service) -> None:
        records = self.batch(north, 2)
        response, parsed = answered(None, None)
        with fault(aws.events(), "PutEvents", lambda _: (response, parsed | {"FailedEntryCount": 1})):
            assert north.publish(records) == [self.sequences(records)[0]]

    def test_a_table_that_throttles_while_content_is_read_holds_the_stream(self, north: Service) -> None:
        assert north.run_automations(trigger(occurrence_id="a")) == []
        assert north.run_automations(trigger(occurrence_id="b", context=CONTEXT | {"first_name": "x" * 1_024})) == []
        records = north.new_stream_records()
        with throttled("GetItem"):
            (failed,) = north.publish(records)
        (decision,) = (each for each in records if each["dynamodb"]["SequenceNumber"] == failed)
        assert decision["dynamodb"]["Keys"]["SK"]["S"] == "DECISION#automation:reminder:b"
        assert [detail["message_id"][-1] for _, _, detail in published(north)] == ["a"]

    def test_a_record_that_is_not_understood_holds_the_stream_and_is_not_skipped(self, north: Service) -> None:
        records = self.batch(north, 3)
        del records[1]["dynamodb"]["NewImage"]["outcome"]
        assert north.publish(records) == [self.sequences(records)[1]]
        assert len(north.events) == 1


@pytest.mark.parametrize("days", [13.9, 14.1])
def test_a_message_decided_over_14_days_ago_is_not_announced_any_more_and_stays_where_it_is_kept(
    north: Service, days: float
) -> None:
    assert north.run_automations(trigger(occurrence_id="old")) == []
    records = [each for each in north.new_stream_records() if "at" in each["dynamodb"]["NewImage"]]
    records[-1]["dynamodb"]["NewImage"]["at"]["S"] = clock.iso(datetime.now(UTC) - timedelta(days=days))
    assert north.run_automations(trigger(occurrence_id="new")) == []
    records += [each for each in north.new_stream_records() if "at" in each["dynamodb"]["NewImage"]]
    stays = [records[-2]["dynamodb"]["SequenceNumber"]]
    assert north.publish(records) == ([] if days < 14 else stays)
    routed = [json.loads(event["Detail"])["message_id"] for event in north.events if "Routed" in event["DetailType"]]
    assert routed == ["automation:reminder:old", "automation:reminder:new"][days > 14 :]
