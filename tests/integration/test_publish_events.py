"""publish_events: what was written to the table is announced on the bus, from the table's stream."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointConnectionError

from patient_contact import aws, clock, table
from tests.integration.sending import CLINIC, UUID, now, wire
from tests.integration.service import (
    CELL,
    CONTACT_INFO,
    CONTEXT,
    LANDLINE,
    TIME,
    Matching,
    Service,
    bus_event,
    client_error,
    fault,
    receipt,
    reply,
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


ENDED: dict[str, Any] = {
    **{name: ROUTED[name] for name in ("version", "event_id", "practice_id", "patient_id", "message_id")},
    **{name: ROUTED[name] for name in ("message_class", "line", "outcome", "channel")},
    "attempt": UUID,
    "provider_message_id": None,
    "code": None,
    "reason": None,
    "at": TIME,
}
SENDS = ROUTED | {"sender": "service", "send_before": TIME}
VISIT = f"{PATIENT}/decisions/automation:reminder:visit-1"
LOST = (500, {"__type": "InternalServerException"})


class TestSends:
    """What becomes of a message that the service sends: its ends are announced, and that it is to be sent again."""

    @pytest.fixture(autouse=True)
    def sends(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        north.new_stream_records()

    def routed(self, north: Service, **detail: object) -> dict[str, Any]:
        """Give the event by which send_message is told, having seen it."""
        assert north.run_automations(trigger(**detail)) == []
        ((source, detail_type, told),) = announced(north)
        return bus_event(told, source=source, **{"detail-type": detail_type})

    def unknown(self, north: Service, **detail: object) -> None:
        routed = self.routed(north, **detail)
        with wire(lambda *_: LOST):
            assert north.run("SendMessageFunction", routed) == []

    def test_it_is_announced_as_the_services_own_to_send_within_a_day(self, north: Service) -> None:
        assert self.routed(north)["detail"] == SENDS

    def test_that_a_message_was_sent_is_announced_by_the_providers_id_and_the_attempt(self, north: Service) -> None:
        assert north.run("SendMessageFunction", self.routed(north)) == []
        (accepted,) = north.carriers.so_far()
        expected = {"state": "sent", "provider_message_id": accepted["message_id"]}
        ((source, detail_type, detail),) = announced(north)
        assert (source, detail_type, detail) == ("patient-contact.routing", "MessageSent", ENDED | expected)
        assert detail["attempt"] == accepted["context"]["attempt"]

    def test_that_a_message_has_failed_is_announced_with_the_providers_code(self, north: Service) -> None:
        routed = self.routed(north)
        with wire(lambda *_: (400, {"__type": "AccessDeniedException"})):
            assert north.run("SendMessageFunction", routed) == []
        expected = ENDED | {"state": "failed", "code": "AccessDeniedException"}
        assert announced(north) == [("patient-contact.routing", "MessageFailed", expected)]

    def test_that_a_message_is_withdrawn_is_announced_with_the_reason(self, north: Service) -> None:
        routed = self.routed(north)
        assert north.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
        announced(north)
        assert north.run("SendMessageFunction", routed) == []
        changes = {"outcome": "suppress", "channel": None, "attempt": None, "reason": "DO_NOT_CONTACT"}
        expected = ENDED | {"state": "withdrawn"} | changes
        assert announced(north) == [("patient-contact.routing", "MessageWithdrawn", expected)]

    def test_of_a_message_that_is_decided_otherwise_the_channel_is_that_by_which_it_went(self, north: Service) -> None:
        routed = self.routed(north)
        consent = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put(f"{PATIENT}/sms-consent", consent).status == 200
        announced(north)
        assert north.run("SendMessageFunction", routed) == []
        ((_, _, detail),) = announced(north)
        assert (detail["state"], detail["channel"]) == ("sent", "call")

    def test_what_is_claimed_released_unknown_or_delivered_is_announced_by_nothing(self, north: Service) -> None:
        routed = self.routed(north)
        with wire(lambda *_: (400, {"__type": "ThrottlingException"})):
            assert north.run("SendMessageFunction", routed) == [0]
        with wire(lambda *_: LOST):
            assert north.run("SendMessageFunction", routed) == []
        assert announced(north) == []
        attempt = north.get(VISIT).body["attempt"]
        context = {"practice_id": "north", "patient_id": "p-1", "message_id": SENDS["message_id"], "attempt": attempt}
        for event_type, events in (("TEXT_SENT", ["MessageSent"]), ("TEXT_DELIVERED", [])):
            assert north.record_receipts(receipt(event_type, context=context)) == []
            assert [detail_type for _, detail_type, _ in announced(north)] == events

    @pytest.mark.parametrize("by", ["a receipt", "staff"])
    def test_what_was_unknown_is_announced_as_sent_by_whoever_says_so(self, north: Service, by: str) -> None:
        self.unknown(north)
        known = None
        if by == "staff":
            assert north.post(f"{VISIT}/resolve", {"outcome": "sent", "note": "private"}).status == 200
        else:
            known = "provider-1"
            attempt = north.get(VISIT).body["attempt"]
            context = {name: SENDS[name] for name in ("practice_id", "patient_id", "message_id")}
            assert north.record_receipts(receipt("TEXT_SENT", known, context=context | {"attempt": attempt})) == []
        expected = ENDED | {"state": "sent", "provider_message_id": known}
        assert announced(north) == [("patient-contact.routing", "MessageSent", expected)]

    def test_what_staff_say_was_not_sent_is_routed_again_under_another_event_id(self, north: Service) -> None:
        self.unknown(north)
        first = north.events[-1]
        assert north.post(f"{VISIT}/resolve", {"outcome": "not_sent"}).status == 200
        records = north.new_stream_records()
        ids = {json.loads(first["Detail"])["event_id"]}
        for _ in range(2):
            north.events.clear()
            assert north.publish(records) == []
            ((source, detail_type, detail),) = published(north)
            assert (source, detail_type, detail) == ("patient-contact.routing", "MessageRouted", SENDS)
            ids.add(detail["event_id"])
        assert len(ids) == 2

    @pytest.mark.parametrize("days", [13.9, 14.1])
    def test_however_late_it_comes_to_the_sender_who_withdraws_it(self, north: Service, days: float) -> None:
        with time_machine.travel(datetime.now(UTC) - timedelta(days=20)):
            self.unknown(north)
        with time_machine.travel(datetime.now(UTC) - timedelta(days=days)):
            assert north.post(f"{VISIT}/resolve", {"outcome": "not_sent"}).status == 200
        records = north.new_stream_records()
        north.events.clear()
        assert north.publish(records) == []
        assert len(north.events) == 1

    def test_one_whose_content_is_gone_is_routed_again_without_it_to_be_withdrawn(self, north: Service) -> None:
        self.unknown(north, context=CONTEXT | {"first_name": "x" * 1_024})
        (kept,) = (item["SK"]["S"] for item in north.items() if item["SK"]["S"].startswith("CONTENT#"))
        assert table.delete((table.patient_pk("north", "p-1"), kept))
        assert north.post(f"{VISIT}/resolve", {"outcome": "not_sent"}).status == 200
        assert announced(north) == [("patient-contact.routing", "MessageRouted", SENDS | {"messages": {}})]

    @pytest.mark.parametrize("text", ["STOP", "HELP"])
    def test_the_confirmation_of_a_reply_is_announced_for_its_number_and_then_no_more(
        self, north: Service, text: str
    ) -> None:
        lines = [line | {"self_managed_opt_outs": True} for line in CLINIC["lines"]]
        assert north.put("north", CLINIC | {"lines": lines}).status == 200
        assert north.record_replies(reply(text, at=now())) == []
        (confirm,) = (detail for _, detail_type, detail in announced(north) if detail_type == "MessageRouted")
        assert confirm == {
            "version": 1,
            "event_id": EVENT_ID,
            "practice_id": "north",
            "phone_number": CELL,
            "message_id": "confirmation:message-1",
            "line": "main",
            "sender": "service",
            "channel": "text",
            "send_before": TIME,
        }
        body = bus_event(confirm, source="patient-contact.routing", **{"detail-type": "MessageRouted"})
        assert north.run("SendMessageFunction", body) == []
        assert len(north.carriers.so_far()) == 1
        assert announced(north) == []


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
