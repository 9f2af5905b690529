"""run_automation: a batch of triggered automations, each record on its own."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.run_automation.handler import handler, run
from patient_contact import aws, facesheet, patients, practices, table
from patient_contact.events import MAX_RECEIVES
from patient_contact.patients import Gathered
from patient_contact.triggers import accept_trigger
from tests.integration.sending import CLINIC
from tests.integration.service import (
    CELL,
    CONTEXT,
    LANDLINE,
    REMINDER,
    Context,
    Service,
    bus_event,
    client_error,
    fault,
    sqs_record,
    throttled,
    time_of_event,
    trigger,
)

DECISIONS = "north/patients/p-1/decisions"


def decided(service: Service, patient_id: str = "p-1") -> list[str]:
    answer = service.get(f"north/patients/{patient_id}/decisions?limit=100")
    assert answer.status == 200
    return [item["message_id"].rpartition(":")[2] for item in answer.body["items"]]


def decision_item(service: Service) -> dict[str, Any]:
    (item,) = (item for item in service.items() if item["SK"]["S"].startswith("DECISION#"))
    return item


def without(name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


REFUSED: dict[str, tuple[object, str]] = {
    "unknown practice": (trigger(practice_id="nowhere"), "unknown practice"),
    "unknown automation": (trigger(automation_id="nothing"), "unknown automation"),
    "another version": (trigger(version=2), "invalid detail: version"),
    "a version as text": (trigger(version="1"), "invalid detail: version"),
    "older than 14 days": (trigger() | {"time": time_of_event(days=-14, minutes=-1)}, "older than 14 days"),
    "from the future": (trigger() | {"time": time_of_event(days=1, hours=2)}, "from the future"),
    "no time": (without("time", trigger()), "invalid event: time"),
    "a time that is none": (trigger() | {"time": "yesterday"}, "invalid event: time"),
    "unknown detail-type": (trigger() | {"detail-type": "AutomationTriggred"}, "unknown detail-type"),
    "no detail-type": (without("detail-type", trigger()), "invalid event: detail-type"),
    "no detail": (without("detail", trigger()), "invalid event: detail"),
    "a detail that is no object": (bus_event("text"), "invalid event: detail"),
    "an empty detail": (
        bus_event({}),
        "invalid detail: automation_id, occurrence_id, patient_id, practice_id, version",
    ),
    "not JSON": ("not JSON", "invalid event: not JSON"),
    "no JSON object": ("[]", "invalid event: all of it"),
    "a nest": ("[" * 100_000, "invalid event: not JSON"),
    "blank": (" ", "invalid event: not JSON"),
    "an unknown field": (trigger(surprise="x"), "invalid detail: unknown field"),
    "a patient's id that is none": (trigger("a#b"), "invalid detail: patient_id"),
    "a practice's id that is none": (trigger(practice_id="a/b"), "invalid detail: practice_id"),
    "a number as an id": (trigger(patient_id=7), "invalid detail: patient_id"),
    "an occurrence id that is none": (trigger(occurrence_id="a b"), "invalid detail: occurrence_id"),
    "too long an occurrence id": (trigger(occurrence_id="x" * 129), "invalid detail: occurrence_id"),
    "a context that is none": (trigger(context=["Pat"]), "invalid detail: context"),
    "a context of nested values": (trigger(context=CONTEXT | {"when": ["Monday"]}), "invalid detail: context"),
    "a lone surrogate": (trigger(context=CONTEXT | {"when": "\ud800"}), "invalid detail: context"),
    "a missing placeholder": (trigger(context={"first_name": "Pat"}), "missing placeholder: when"),
    "no context": (trigger(context={}), "missing placeholder: first_name, when"),
    "a text that grows too long": (trigger(context=CONTEXT | {"when": "x" * 1_600}), "text too long when filled"),
    "content without a channel": (trigger(messages={}), "invalid detail: messages"),
    "content that is no template": (trigger(messages={"text": {"body": "$50"}}), "invalid detail: messages"),
    "a time to send before that is none": (trigger(send_before="soon"), "invalid detail: send_before"),
    "a time to send before without a zone": (trigger(send_before="2030-01-01T00:00:00"), "invalid detail: send_before"),
}


class TestRefused:
    @pytest.mark.parametrize("why", REFUSED)
    def test_what_can_never_be_handled_is_dead_lettered_at_once_with_its_reason_and_the_rest_is_unharmed(
        self, north: Service, why: str
    ) -> None:
        event, reason = REFUSED[why]
        body = event if isinstance(event, str) else json.dumps(event)
        assert north.run_automations(trigger(occurrence_id="before"), body, trigger(occurrence_id="after")) == []
        assert north.dead_letters() == [(reason, body)]
        assert sorted(decided(north)) == ["after", "before"]

    def test_a_line_that_the_practice_has_no_more_is_refused(self, north: Service) -> None:
        automation = table.get((table.practice_pk("north"), "AUTOMATION#reminder"))
        assert automation
        table.put(automation | {"SK": "AUTOMATION#old", "line": "closed"})
        assert north.run_automations(trigger(automation_id="old"), trigger(occurrence_id="after")) == []
        assert [reason for reason, _ in north.dead_letters()] == ["unknown line"]
        assert decided(north) == ["after"]

    def test_refusals_are_refused_even_where_the_patient_is_unknown(self, north: Service) -> None:
        assert north.run_automations(trigger("p-9", automation_id="nothing"), trigger("p-9", context={})) == []
        assert sorted(reason for reason, _ in north.dead_letters()) == [
            "missing placeholder: first_name, when",
            "unknown automation",
        ]

    @pytest.mark.parametrize("ahead", [{"days": -13.99}, {"hours": 23.9}])
    def test_an_event_within_its_times_is_accepted(self, north: Service, ahead: dict[str, float]) -> None:
        assert north.run_automations(trigger() | {"time": time_of_event(**ahead)}) == []
        assert decided(north) == ["visit-1"]


class TestUnknownPatient:
    @pytest.mark.parametrize("receives", range(1, MAX_RECEIVES))
    def test_one_is_tried_again(self, north: Service, receives: int) -> None:
        batch = [trigger("p-9"), trigger()]
        assert north.run_automations(*batch, receives=receives) == [0]
        assert north.dead_letters() == []
        assert decided(north) == ["visit-1"]

    def test_one_is_dead_lettered_with_its_reason_on_the_last_receive(self, north: Service) -> None:
        event = json.dumps(trigger("p-9"))
        assert north.run_automations(event, trigger(), receives=MAX_RECEIVES) == []
        assert north.dead_letters() == [("gave up: unknown patient", event)]
        assert decided(north) == ["visit-1"]

    def test_one_who_has_come_meanwhile_is_decided(self, north: Service) -> None:
        assert north.run_automations(trigger("p-9")) == [0]
        assert north.put("north/patients/p-9/contact-info", {"phones": [], "emails": []}).status == 200
        assert north.run_automations(trigger("p-9"), receives=2) == []
        assert decided(north, "p-9") == ["visit-1"]


class TestDuplicates:
    def test_the_same_batch_twice_makes_one_decision_of_each_and_changes_nothing(self, north: Service) -> None:
        batch = [trigger(occurrence_id=f"visit-{n}") for n in range(3)]
        assert north.run_automations(*batch) == []
        before = north.items()
        north.new_stream_records()
        assert north.run_automations(*batch) == []
        assert north.items() == before
        assert north.new_stream_records() == []

    def test_the_same_event_ten_times_in_a_batch_makes_one_decision_and_one_announcement(self, north: Service) -> None:
        assert north.run_automations(*[trigger()] * 10) == []
        assert decided(north) == ["visit-1"]
        assert north.publish(north.new_stream_records()) == []
        assert [event["DetailType"] for event in north.events] == ["MessageRouted"]

    def test_a_repeat_that_would_decide_otherwise_now_leaves_the_first_decision(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        first = north.get(DECISIONS).body
        assert north.put("north/patients/p-1/do-not-contact", {"enabled": True}).status == 200
        assert north.run_automations(trigger()) == []
        assert north.get(DECISIONS).body == first

    @pytest.mark.parametrize("size", [10, 1_500], ids=["short", "kept beside"])
    def test_ten_at_once_make_one_decision_with_the_content_it_was_decided_on(self, north: Service, size: int) -> None:
        practice, patient = practices.read("north"), patients.read("north", "p-1")
        automation = practices.read_automation("north", "reminder")
        assert practice
        assert patient
        assert automation
        person = Gathered(patient, patients.read_numbers("north", patient))
        now = datetime.now(UTC)

        def once(n: int) -> None:
            event = trigger(messages={"text": {"body": f"{n}" * size}} if n % 2 else {"call": {"body": f"{n}" * size}})
            run(accept_trigger(json.dumps(event), now), practice, automation, person, now + timedelta(seconds=n))

        with ThreadPoolExecutor(10) as threads:
            list(threads.map(once, range(10)))
        assert decided(north) == ["visit-1"]
        assert north.publish(north.new_stream_records()) == []
        details = [json.loads(event["Detail"]) for event in north.events]
        assert len(details) == 1
        recorded = north.get(DECISIONS).body["items"][0]
        # Whoever came first with its decision: what goes out has the channels that were decided on.
        assert details[0].get("messages", {}).keys() in ({*recorded["message"]["channels"]}, set())
        if recorded["outcome"] == "deliver":
            assert recorded["channel"] in details[0]["messages"]


class TestContent:
    def test_short_content_lies_in_the_decision(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        assert decision_item(north)["content"]["M"]["text"] == {"M": {"body": {"S": "Hi Pat, see you on Monday."}}}

    def test_content_over_1_kb_is_kept_beside_it_and_expires(self, north: Service) -> None:
        assert north.run_automations(trigger(context=CONTEXT | {"first_name": "x" * 1_024})) == []
        assert "content" not in decision_item(north)
        (kept,) = (item for item in north.items() if item["SK"]["S"].startswith("CONTENT#"))
        assert kept["SK"] == decision_item(north)["content_key"]
        assert kept["SK"]["S"].startswith("CONTENT#automation:reminder:visit-1#")
        assert kept["messages"]["M"]["call"]["M"]["body"]["S"] == f"Hello {'x' * 1_024}, your appointment is on Monday."
        days = (int(kept["expires_at"]["N"]) - datetime.now(UTC).timestamp()) / 86_400
        assert 29.9 < days < 30.1

    def test_a_suppressed_message_keeps_no_content(self, north: Service) -> None:
        assert north.put("north/patients/p-1/do-not-contact", {"enabled": True}).status == 200
        assert north.run_automations(trigger(context=CONTEXT | {"first_name": "x" * 1_024})) == []
        assert "content" not in decision_item(north)
        assert not [item for item in north.items() if item["SK"]["S"].startswith("CONTENT#")]

    def test_content_of_the_event_replaces_the_registered_and_its_channels(self, north: Service) -> None:
        messages = {"call": {"body": "${first_name}: $$5"}}
        assert north.run_automations(trigger(messages=messages)) == []
        recorded = north.get(DECISIONS).body["items"][0]
        # Call only: a number that can be texted is not called.
        assert (recorded["outcome"], recorded["reason"]) == ("suppress", "TEXT_ENABLED")
        assert recorded["message"]["channels"] == ["call"]

    def test_numbers_in_the_context_are_written_as_they_are(self, north: Service) -> None:
        assert north.run_automations(trigger(context={"first_name": 7, "when": 1.5, "unused": "x"})) == []
        assert decision_item(north)["content"]["M"]["text"]["M"]["body"]["S"] == "Hi 7, see you on 1.5."

    def test_a_dollar_in_the_context_begins_no_placeholder(self, north: Service) -> None:
        assert north.run_automations(trigger(context={"first_name": "$when", "when": "${x}"})) == []
        assert decision_item(north)["content"]["M"]["text"]["M"]["body"]["S"] == "Hi $when, see you on ${x}."

    def test_a_line_break_in_the_context_starts_no_mail_header(self, north: Service) -> None:
        subject = {"subject": "For $first_name", "body": "Hi"}
        event = trigger(messages={"text": {"body": "Hi"}, "email": subject}, context={"first_name": "P\r\nBcc: x"})
        assert north.run_automations(event) == []
        assert decision_item(north)["content"]["M"]["email"]["M"]["subject"] == {"S": "For P Bcc: x"}

    def test_send_before_is_kept_in_utc(self, north: Service) -> None:
        assert north.run_automations(trigger(send_before="2030-01-01T00:00:00+02:00")) == []
        assert decision_item(north)["send_before"] == {"S": "2029-12-31T22:00:00.000000Z"}


class TestSender:
    """Who sends what is routed is settled with the decision, and how long it may wait for that."""

    def test_the_practice_does_unless_it_says_otherwise(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        item = decision_item(north)
        assert (item["state"], item["sender"]) == ({"S": "handed_over"}, {"S": "practice"})
        assert "send_before" not in item

    def test_the_service_does_where_the_practice_says_so_within_24_hours(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        assert north.run_automations(trigger()) == []
        item = decision_item(north)
        assert (item["state"], item["sender"]) == ({"S": "routed"}, {"S": "service"})
        times = [datetime.fromisoformat(item[name]["S"]) for name in ("at", "send_before")]
        assert times[1] - times[0] == timedelta(hours=24)

    def test_a_time_to_send_before_stands_whoever_sends(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        assert north.run_automations(trigger(send_before="2030-01-01T00:00:00+02:00")) == []
        assert decision_item(north)["send_before"] == {"S": "2029-12-31T22:00:00.000000Z"}

    def test_what_is_suppressed_is_so_from_birth(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        assert north.put("north/patients/p-1/do-not-contact", {"enabled": True}).status == 200
        assert north.run_automations(trigger()) == []
        item = decision_item(north)
        assert (item["state"], item["sender"]) == ({"S": "suppressed"}, {"S": "service"})

    def test_the_sender_of_a_message_stays_when_the_practice_changes_it(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        before = decision_item(north)
        assert north.put("north", CLINIC).status == 200
        assert north.run_automations(trigger()) == []
        assert decision_item(north) == before

    def test_content_beside_the_decision_outlasts_the_time_that_it_waits(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        late = datetime.now(UTC) + timedelta(days=60)
        event = trigger(context=CONTEXT | {"first_name": "x" * 1_024}, send_before=late.isoformat())
        assert north.run_automations(event) == []
        (kept,) = (item for item in north.items() if item["SK"]["S"].startswith("CONTENT#"))
        days = (int(kept["expires_at"]["N"]) - late.timestamp()) / 86_400
        assert 29.9 < days < 30.1


class TestAutomation:
    def test_a_disabled_one_suppresses_without_a_rule_and_without_filling_its_content(self, north: Service) -> None:
        assert north.put("north/automations/reminder", REMINDER | {"enabled": False}).status == 200
        assert north.run_automations(trigger(context={})) == []
        recorded = north.get(DECISIONS).body["items"][0]
        assert {name: recorded[name] for name in ("outcome", "channel", "destination", "reason", "rule", "steps")} == {
            "outcome": "suppress",
            "channel": None,
            "destination": None,
            "reason": "AUTOMATION_DISABLED",
            "rule": None,
            "steps": [],
        }
        assert recorded["explanation"] == "Nothing sent: the automation is switched off."

    def test_it_goes_out_on_its_own_line_else_on_the_default_line(self, north: Service) -> None:
        consent = {"phone_number": CELL, "line": "billing", "status": "opted_out"}
        assert north.put("north/patients/p-1/sms-consent", consent).status == 200
        assert north.put("north/automations/balance", REMINDER | {"line": "billing"}).status == 200
        assert north.run_automations(trigger(), trigger(automation_id="balance")) == []
        recorded = north.get(DECISIONS).body["items"]
        decided = {item["message_id"]: (item["message"]["line"], item["channel"]) for item in recorded}
        assert decided == {
            "automation:reminder:visit-1": ("main", "text"),
            "automation:balance:visit-1": ("billing", "call"),
        }

    def test_a_change_of_it_counts_from_the_next_batch_on(self, north: Service) -> None:
        assert north.run_automations(trigger(occurrence_id="a")) == []
        assert north.put("north/automations/reminder", REMINDER | {"enabled": False}).status == 200
        assert north.run_automations(trigger(occurrence_id="b")) == []
        reasons = {item["message_id"][-1]: item["reason"] for item in north.get(DECISIONS).body["items"]}
        assert reasons == {"a": "TEXT_ENABLED", "b": "AUTOMATION_DISABLED"}

    def test_a_decision_is_kept_as_long_as_the_retention_says(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        days = (int(decision_item(north)["expires_at"]["N"]) - datetime.now(UTC).timestamp()) / 86_400
        assert round(days) == int(north.environment["DECISION_RETENTION_DAYS"]) >= 396


class TestBatch:
    def test_a_hundred_mixed_records_each_get_what_is_theirs(self, north: Service) -> None:
        for n in range(3):
            phones = [{"number": f"+1503555012{n}", "line_type": "text_enabled"}]
            assert north.put(f"north/patients/q-{n}/contact-info", {"phones": phones, "emails": []}).status == 200
        bodies: list[object] = []
        for n in range(20):
            bodies += [
                trigger(occurrence_id=f"visit-{n}"),
                trigger(f"q-{n % 3}", f"visit-{n}"),
                trigger("p-9", f"visit-{n}"),
                trigger(occurrence_id=f"visit-{n}", automation_id="nothing"),
                f"junk {n}",
            ]
        assert north.run_automations(*bodies) == [place for place in range(100) if place % 5 == 2]
        reasons = [reason for reason, _ in north.dead_letters()]
        assert sorted(reasons) == ["invalid event: not JSON"] * 20 + ["unknown automation"] * 20
        assert sorted(decided(north)) == sorted(f"visit-{n}" for n in range(20))
        assert sum(len(decided(north, f"q-{n}")) for n in range(3)) == 20

    def test_practices_and_automations_are_read_once_per_batch_and_people_in_two_reads(self, north: Service) -> None:
        with fault(aws.dynamodb(), "", lambda _: None) as requests:
            assert north.run_automations(*(trigger(occurrence_id=f"visit-{n}") for n in range(50))) == []
        reads = [request["Key"]["SK"]["S"] for request in requests if "Key" in request]
        assert sorted(reads) == ["AUTOMATION#reminder", "PRACTICE"]
        assert sum("RequestItems" in request for request in requests) == 2

    def test_a_batch_of_nothing_but_junk_reads_nothing(self, north: Service) -> None:
        with fault(aws.dynamodb(), "", lambda _: None) as requests:
            assert north.run_automations("junk", "junk") == []
        assert requests == []
        assert len(north.dead_letters()) == 2

    def test_records_for_which_no_time_is_left_go_back_to_the_queue(self, north: Service) -> None:
        records = [sqs_record(n, trigger(occurrence_id=f"visit-{n}")) for n in range(4)]
        answer = handler({"Records": records}, Context([30_000, 20_000, 19_999]))  # type: ignore[arg-type]  # as far as it is used
        assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "3"}]}
        assert sorted(decided(north)) == ["visit-0", "visit-1"]
        assert north.dead_letters() == []


class TestFaults:
    @pytest.mark.parametrize("operation", ["GetItem", "PutItem"])
    def test_a_throttled_table_sends_records_back_to_the_queue_and_drops_none(
        self, north: Service, operation: str
    ) -> None:
        batch = [trigger(occurrence_id=f"visit-{n}") for n in range(3)]
        with throttled(operation):
            assert north.run_automations(*batch, "junk") == [0, 1, 2]
        assert len(north.dead_letters()) == 1
        assert north.run_automations(*batch) == []
        assert len(decided(north)) == 3

    def test_on_the_last_receive_a_throttled_record_is_dead_lettered_with_its_reason(self, north: Service) -> None:
        with throttled("PutItem"):
            assert north.run_automations(trigger(), receives=MAX_RECEIVES) == []
        assert [reason for reason, _ in north.dead_letters()] == ["gave up: TableUnavailable"]

    def test_one_write_that_fails_fails_its_own_record_only(self, north: Service) -> None:
        def poison(request: dict[str, Any]) -> Any:
            sk = request["Item"]["SK"]["S"]
            return client_error("AccessDeniedException") if sk.endswith("visit-1") else None

        batch = [trigger(occurrence_id=f"visit-{n}") for n in range(3)]
        with fault(aws.dynamodb(), "PutItem", poison):
            assert north.run_automations(*batch) == [1]
        assert sorted(decided(north)) == ["visit-0", "visit-2"]

    def test_a_batch_read_that_is_refused_sends_all_back_but_what_was_junk(self, north: Service) -> None:
        with fault(aws.dynamodb(), "BatchGetItem", lambda _: client_error("AccessDeniedException")):
            assert north.run_automations("junk", trigger(), trigger("p-9")) == [1, 2]
        assert len(north.dead_letters()) == 1

    def test_what_cannot_be_dead_lettered_stays_in_the_queue(self, north: Service) -> None:
        with fault(aws.sqs(), "SendMessage", lambda _: client_error("AccessDenied")):
            assert north.run_automations("junk", trigger()) == [0]
        assert north.dead_letters() == []
        assert decided(north) == ["visit-1"]
        assert north.run_automations("junk") == []
        assert len(north.dead_letters()) == 1


def test_facts_are_as_the_facesheet_has_them(north: Service) -> None:
    assert north.put("north/patients/p-1/preferred-contact", {"phone_number": LANDLINE}).status == 200
    patient = patients.read("north", "p-1")
    assert patient
    gathered = patients.gather([("north", "p-1"), ("north", "p-9"), ("nowhere", "p-1")]).people
    assert gathered == {
        ("north", "p-1"): Gathered(patient, {}),
        ("north", "p-9"): None,
        ("nowhere", "p-1"): None,
    }
    assert facesheet.facts_of(patient, {}).preferred_contact == LANDLINE


def test_an_opt_out_recorded_while_a_slow_batch_runs_is_honoured_by_the_decisions_after_it(
    north: Service, time_flies: None
) -> None:
    shared = {"phones": [{"number": CELL, "line_type": "text_enabled"}], "emails": []}
    assert north.put("north/patients/p-2/contact-info", shared).status == 200
    said = {"phone_number": CELL, "line": "main", "status": "opted_out"}

    def slow(request: dict[str, Any]) -> None:
        if request["Item"]["PK"]["S"].endswith("#p-1"):
            time.sleep(6)
            assert north.put("north/patients/p-2/sms-consent", said).status == 200

    with fault(aws.dynamodb(), "PutItem", slow):
        assert north.run_automations(trigger(), trigger(patient_id="p-2")) == []
    (first,) = north.get(DECISIONS).body["items"]
    (second,) = north.get("north/patients/p-2/decisions").body["items"]
    (consent,) = north.get("north/patients/p-2").body["sms_consent"]["numbers"]
    assert (first["channel"], second["channel"], second["reason"]) == ("text", "call", "SMS_OPTED_OUT")
    assert second["decided_at"] > consent["recorded_at"]
