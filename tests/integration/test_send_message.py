"""send_message: what was routed is decided again, claimed, and sent at most once, whatever happens on the way."""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore import exceptions as botocore_errors

from functions.send_message.handler import MAX_ROUNDS, RESERVE, handler
from patient_contact import aws, events, sends, table
from tests.integration.sending import (
    BILLING,
    CLINIC,
    MAIN,
    PATIENT,
    ROUTED,
    TEXTED,
    UUID,
    VISIT,
    decision,
    now,
    published,
    put_patient,
    routed,
    send,
    states,
    taken_by_rule,
    to_send,
    wire,
)
from tests.integration.service import (
    CELL,
    CONTEXT,
    EMAIL_SENDER,
    FACTS,
    LANDLINE,
    MESSAGES,
    TIME,
    Context,
    Matching,
    Service,
    bus_event,
    client_error,
    fault,
    reply,
    sqs_record,
    throttled,
    trigger,
)
from tests.local import sms

TEXT_ONLY = {"text": MESSAGES["text"]}
PROVIDER_ID = Matching(r"\S+")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND_CELL = "+15035550105"


@pytest.fixture
def clinic(north: Service) -> Service:
    """The practice `north` with sending on, and its patient `p-1`."""
    assert north.put("north", CLINIC).status == 200
    north.new_stream_records()
    return north


def accepted(service: Service) -> list[tuple[str, str]]:
    """What providers have accepted: channels and destinations."""
    phones = [(each["channel"], each["destination"]) for each in service.carriers.accepted]
    return phones + [("email", to) for to, _ in service.emails()]


def counted(capsys: pytest.CaptureFixture[str], metric: str) -> Counter[str]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return Counter(line["reason"] for line in lines if metric in line)


def stored(service: Service, message_id: str = VISIT) -> dict[str, Any]:
    (item,) = (item for item in service.items() if item["SK"]["S"] == f"DECISION#{message_id}")
    return table.decode_item(item)


def put_clinic(service: Service, **changes: object) -> None:
    assert service.put("north", CLINIC | changes).status == 200


@contextmanager
def nothing_on_the_wire() -> Iterator[None]:
    with wire() as requests:
        yield
    assert requests == []


def lost(error: Exception, times: int = 1) -> Any:
    """Raise an error for the first requests to providers."""
    left = [times]

    def answer(*_: object) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return answer


NOT_CONNECTED = botocore_errors.ConnectTimeoutError(endpoint_url="https://aws.example")
TIMED_OUT = botocore_errors.ReadTimeoutError(endpoint_url="https://aws.example")


class TestSent:
    def test_a_text_goes_out_once_and_its_decision_says_so(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert decision(clinic) == {**ROUTED, "state": "routed", "life": [{"state": "routed", "at": TIME}]}
        with wire() as requests:
            assert send(clinic, *bodies) == []
        (message,) = clinic.carriers.accepted
        attempt = message["context"]["attempt"]
        context = {"practice_id": "north", "patient_id": "p-1", "message_id": VISIT, "attempt": UUID}
        asked = {
            "MessageType": "TRANSACTIONAL",
            "DestinationPhoneNumber": CELL,
            "OriginationIdentity": "pool-main",
            "ConfigurationSetName": "receipts",
            "MessageBody": "Hi Pat, see you on Monday.",
            "TimeToLive": requests[0][1]["TimeToLive"],
            "Context": context,
        }
        assert requests == [("SendTextMessage", asked)]
        # A day, less what has passed.
        assert 86_300 < asked["TimeToLive"] < 86_400
        assert decision(clinic) == {
            **ROUTED,
            "state": "sent",
            "attempt": attempt,
            "provider_message_id": message["message_id"],
            "life": [
                {"state": "routed", "at": TIME},
                {"state": "sending", "at": TIME, "attempt": attempt, "channel": "text"},
                {"state": "sent", "at": TIME, "provider_message_id": message["message_id"]},
            ],
        }

    def test_a_call_says_the_words_of_the_call(self, clinic: Service) -> None:
        assert clinic.put(f"{PATIENT}/preferred-contact", {"phone_number": LANDLINE}).status == 200
        with wire() as requests:
            assert send(clinic, *routed(clinic)) == []
        ((operation, asked),) = requests
        assert operation == "SendVoiceMessage"
        assert asked == {
            "MessageBodyTextType": "TEXT",
            "DestinationPhoneNumber": LANDLINE,
            "OriginationIdentity": "pool-main",
            "ConfigurationSetName": "receipts",
            "MessageBody": "Hello Pat, your appointment is on Monday.",
            "TimeToLive": asked["TimeToLive"],
            "Context": {"practice_id": "north", "patient_id": "p-1", "message_id": VISIT, "attempt": UUID},
        }
        sent = decision(clinic)
        assert (sent["state"], sent["channel"], sent["destination"]) == ("sent", "call", LANDLINE)
        assert sent["life"][1:] == [
            {"state": "sending", "at": TIME, "attempt": sent["attempt"], "channel": "call"},
            {"state": "sent", "at": TIME, "provider_message_id": clinic.carriers.accepted[0]["message_id"]},
        ]

    def test_an_email_bears_its_attempt_and_nothing_else_of_ours(self, clinic: Service) -> None:
        put_patient(clinic, email="pat@example.org")
        with wire() as requests:
            assert send(clinic, *routed(clinic)) == []
        sent = decision(clinic)
        utf8 = {"Charset": "UTF-8"}
        content = {
            "Subject": {"Data": "Your appointment", **utf8},
            "Body": {"Text": {"Data": "Hello Pat, see you on Monday.", **utf8}},
        }
        asked = {
            "FromEmailAddress": EMAIL_SENDER,
            "Destination": {"ToAddresses": ["pat@example.org"]},
            "Content": {"Simple": content},
            "EmailTags": [{"Name": "attempt", "Value": sent["attempt"]}],
        }
        assert requests == [("SendEmail", asked)]
        assert (sent["state"], sent["channel"], sent["provider_message_id"]) == ("sent", "email", PROVIDER_ID)
        assert sent["life"] == [
            {"state": "routed", "at": TIME},
            {"state": "sending", "at": TIME, "attempt": UUID, "channel": "email"},
            {"state": "sent", "at": TIME, "provider_message_id": sent["provider_message_id"]},
        ]

    def test_a_manual_message_goes_out_on_the_line_that_staff_chose(self, clinic: Service) -> None:
        body = {"channel": "text", "body": "You owe $50.", "line": "billing"}
        answer = clinic.post(f"{PATIENT}/messages", body, headers={"idempotency-key": "key-1"})
        assert (answer.status, answer.body["state"]) == (202, "routed")
        assert send(clinic, *to_send(clinic)) == []
        (message,) = clinic.carriers.accepted
        assert (message["body"], message["origination"]) == ("You owe $50.", BILLING["phone_number"])
        assert message["configuration_set"] is None
        assert decision(clinic, "manual:key-1")["state"] == "sent"

    def test_content_of_more_than_1_kb_lies_beside_the_decision_and_goes_out_whole(self, clinic: Service) -> None:
        body = {"channel": "text", "body": "é" * 1_600}
        assert clinic.post(f"{PATIENT}/messages", body, headers={"idempotency-key": "key-1"}).status == 202
        assert any(item["SK"]["S"].startswith("CONTENT#") for item in clinic.items())
        assert "content" not in stored(clinic, "manual:key-1")
        assert send(clinic, *to_send(clinic)) == []
        assert [each["body"] for each in clinic.carriers.accepted] == ["é" * 1_600]

    def test_it_is_counted(self, clinic: Service, capsys: pytest.CaptureFixture[str]) -> None:
        bodies = routed(clinic)
        capsys.readouterr()
        assert send(clinic, *bodies) == []
        assert counted(capsys, "Sends") == {"sent": 1}

    def test_what_the_practice_sends_itself_is_not_sent(self, north: Service) -> None:
        north.new_stream_records()
        assert routed(north) == []
        assert decision(north)["state"] == "handed_over"

    def test_what_the_practice_sends_itself_is_not_sent_even_when_it_comes_into_the_queue(self, north: Service) -> None:
        north.new_stream_records()
        assert routed(north) == []
        assert north.put("north", CLINIC).status == 200
        before = north.items()
        with nothing_on_the_wire():
            assert send(north, to_send_again(VISIT)) == []
        assert north.items() == before


def to_send_again(message_id: str, **detail: object) -> str:
    """Give a body of the queue by hand."""
    told = {"practice_id": "north", "patient_id": "p-1", "message_id": message_id, **detail}
    left = {name: value for name, value in told.items() if value is not None}
    return json.dumps(bus_event(left, **{"detail-type": "MessageRouted", "source": "patient-contact.routing"}))


class TestEvents:
    def test_what_was_routed_and_sent_is_announced_once_each(self, clinic: Service) -> None:
        assert clinic.run_automations(trigger()) == []
        named = {
            "version": 1,
            "event_id": Matching(r"\S+"),
            "practice_id": "north",
            "patient_id": "p-1",
            "message_id": VISIT,
            "message_class": "automation",
            "line": "main",
            "outcome": "deliver",
        }
        filled = {
            "text": {"body": "Hi Pat, see you on Monday."},
            "call": {"body": "Hello Pat, your appointment is on Monday."},
            "email": {"subject": "Your appointment", "body": "Hello Pat, see you on Monday."},
        }
        assert published(clinic) == [
            (
                "MessageRouted",
                {
                    **named,
                    "reason": "TEXT_ENABLED",
                    "rule": "R2",
                    "decided_at": TIME,
                    "sender": "service",
                    "channel": "text",
                    "destination": CELL,
                    "messages": filled,
                    "send_before": TIME,
                },
            )
        ]
        assert send(clinic, to_send_again(VISIT)) == []
        sent = decision(clinic)
        assert published(clinic) == [
            (
                "MessageSent",
                {
                    **named,
                    "state": "sent",
                    "channel": "text",
                    "attempt": sent["attempt"],
                    "provider_message_id": sent["provider_message_id"],
                    "code": None,
                    "reason": None,
                    "at": sent["life"][-1]["at"],
                },
            )
        ]
        assert send(clinic, to_send_again(VISIT)) == []
        assert published(clinic) == []

    def test_a_refusal_that_releases_the_claim_is_not_announced(self, clinic: Service) -> None:
        put_patient(clinic, sms.SEND_THROTTLES_TWICE)
        bodies = routed(clinic)
        assert send(clinic, *bodies) == [0]
        assert published(clinic) == []

    def test_an_outcome_that_is_not_known_is_not_announced(self, clinic: Service) -> None:
        put_patient(clinic, sms.ANSWER_IS_LOST)
        assert send(clinic, *routed(clinic)) == []
        assert published(clinic) == []


class TestOnce:
    def test_ten_deliveries_of_one_message_at_the_same_time_send_it_once(self, clinic: Service) -> None:
        (body,) = routed(clinic)
        back = send(clinic, *[body] * 10)
        assert accepted(clinic) == [("text", CELL)]
        # Those that came while it was claimed come again, and find it done.
        assert send(clinic, *[body] * max(1, len(back))) == []
        assert accepted(clinic) == [("text", CELL)]
        assert states(clinic) == ["routed", "sending", "sent"]

    def test_one_delivery_after_the_other_sends_it_once(self, clinic: Service) -> None:
        (body,) = routed(clinic)
        for _ in range(10):
            assert send(clinic, body) == []
        assert accepted(clinic) == [("text", CELL)]

    def test_a_batch_of_ten_is_sent_at_the_same_time(self, clinic: Service) -> None:
        bodies = routed(clinic, *(trigger(occurrence_id=f"visit-{n}") for n in range(10)))
        all_at_once = threading.Barrier(10, timeout=10)

        def meet(*_: object) -> None:
            all_at_once.wait()

        with wire(meet) as requests:
            assert send(clinic, *bodies) == []
        assert len(requests) == 10
        told = [asked["Context"]["message_id"] for _, asked in requests]
        assert sorted(told) == [f"automation:reminder:visit-{n}" for n in range(10)]
        assert not all_at_once.broken

    def test_a_delivery_during_another_goes_back(self, clinic: Service) -> None:
        (body,) = routed(clinic)
        during: list[list[int]] = []

        def meanwhile(*_: object) -> None:
            during.append(send(clinic, body))

        with wire(meanwhile):
            assert send(clinic, body) == []
        assert during == [[0]]
        assert accepted(clinic) == [("text", CELL)]

    def test_the_sdk_that_sends_the_claim_again_meets_its_own_write(self, clinic: Service) -> None:
        bodies = routed(clinic)
        with resent("UpdateItem") as times:
            assert send(clinic, *bodies) == []
        assert times == [1]
        assert accepted(clinic) == [("text", CELL)]
        assert states(clinic) == ["routed", "sending", "sent"]


@contextmanager
def resent(operation: str) -> Iterator[list[int]]:
    """The answer to the first write of the table is lost, and the SDK sends it again."""
    times: list[int] = []

    def needs_retry(attempts: int, operation: Any, **_: object) -> int | None:
        if operation.name != wanted or times:
            return None
        times.append(attempts)
        return 0

    wanted = operation
    client: Any = aws.dynamodb()
    client.meta.events.register_first("needs-retry.dynamodb", needs_retry)
    try:
        yield times
    finally:
        client.meta.events.unregister("needs-retry.dynamodb", needs_retry)


OPTED_OUT_FACTS = {**FACTS, "sms_consent": [{"phone_number": CELL, "line": "main", "status": "opted_out"}]}
CALLED_SINCE_OPTED_OUT: dict[str, Any] = {
    **ROUTED,
    "channel": "call",
    "destination": CELL,
    "reason": "SMS_OPTED_OUT",
    "rule": "R3",
    "explanation": "Called: +1 503-555-0101 is opted out of texts on line main.",
    "steps": [
        {"rule": "R1", "channel": None, "phone": None, "fired": False, "reason": "DO_NOT_CONTACT_OFF"},
        {"rule": "R2", "channel": "text", "phone": CELL, "fired": False, "reason": "SMS_OPTED_OUT"},
        {"rule": "R3", "channel": "call", "phone": CELL, "fired": True, "reason": "SMS_OPTED_OUT"},
    ],
    "facts": OPTED_OUT_FACTS,
    "previous": TEXTED,
}


class TestDecidedAgain:
    """What has happened since it was routed counts."""

    def test_who_has_said_stop_since_is_called_and_both_decisions_are_kept(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert clinic.record_replies(reply("STOP", at=now())) == []
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("call", CELL)]
        sent = decision(clinic)
        assert sent == {
            **CALLED_SINCE_OPTED_OUT,
            "state": "sent",
            "attempt": UUID,
            "provider_message_id": clinic.carriers.accepted[0]["message_id"],
            "life": [
                {"state": "routed", "at": TIME},
                {"state": "sending", "at": TIME, "attempt": sent["attempt"], "channel": "call"},
                {"state": "sent", "at": TIME, "provider_message_id": sent["provider_message_id"]},
            ],
        }

    def test_who_has_said_stop_since_gets_nothing_of_a_message_that_is_only_a_text(self, clinic: Service) -> None:
        bodies = routed(clinic, trigger(messages=TEXT_ONLY))
        assert clinic.record_replies(reply("STOP", at=now())) == []
        clinic.new_stream_records()
        with nothing_on_the_wire():
            assert send(clinic, *bodies) == []
        message = {**TEXTED["message"], "channels": ["text"]}
        assert decision(clinic) == {
            **ROUTED,
            "outcome": "suppress",
            "channel": None,
            "destination": None,
            "reason": "SMS_OPTED_OUT",
            "rule": "R5",
            "explanation": "Nothing sent: +1 503-555-0101 is opted out of texts on line main.",
            "steps": decision(clinic)["steps"],
            "message": message,
            "facts": OPTED_OUT_FACTS,
            "previous": {**TEXTED, "message": message},
            "state": "withdrawn",
            "withdrawn": "SMS_OPTED_OUT",
            "life": [
                {"state": "routed", "at": TIME},
                {"state": "withdrawn", "at": TIME, "reason": "SMS_OPTED_OUT"},
            ],
        }
        assert published(clinic) == [
            (
                "MessageWithdrawn",
                {
                    "version": 1,
                    "event_id": Matching(r"\S+"),
                    "practice_id": "north",
                    "patient_id": "p-1",
                    "message_id": VISIT,
                    "message_class": "automation",
                    "line": "main",
                    "outcome": "suppress",
                    "state": "withdrawn",
                    "channel": None,
                    "attempt": None,
                    "provider_message_id": None,
                    "code": None,
                    "reason": "SMS_OPTED_OUT",
                    "at": decision(clinic)["life"][-1]["at"],
                },
            )
        ]

    def test_a_stop_on_another_line_changes_nothing(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert clinic.record_replies(reply("STOP", at=now(), line=BILLING["phone_number"])) == []
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("text", CELL)]

    def test_do_not_contact_since_withdraws_an_automation_and_no_manual_message(self, clinic: Service) -> None:
        bodies = routed(clinic)
        manual = {"channel": "text", "body": "Please call us."}
        assert clinic.post(f"{PATIENT}/messages", manual, headers={"idempotency-key": "key-1"}).status == 202
        bodies += to_send(clinic)
        assert clinic.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
        assert send(clinic, *bodies) == []
        withdrawn = decision(clinic)
        assert (withdrawn["state"], withdrawn["withdrawn"], withdrawn["rule"]) == ("withdrawn", "DO_NOT_CONTACT", "R1")
        assert [each["body"] for each in clinic.carriers.accepted] == ["Please call us."]

    @pytest.mark.parametrize(
        ("messages", "expected"),
        [(MESSAGES, ("sent", "call", None)), (TEXT_ONLY, ("withdrawn", None, "CONSENT_UNDER_REVIEW"))],
        ids=["called", "withdrawn"],
    )
    def test_a_reply_that_staff_have_not_read_stops_texts(
        self, clinic: Service, messages: object, expected: tuple[str, str | None, str | None]
    ) -> None:
        bodies = routed(clinic, trigger(messages=messages))
        assert clinic.record_replies(reply("please stop texting me", at=now())) == []
        assert send(clinic, *bodies) == []
        now_is = decision(clinic)
        assert (now_is["state"], now_is["channel"], now_is.get("withdrawn")) == expected

    def test_another_preferred_contact_since_gets_it(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert clinic.put(f"{PATIENT}/preferred-contact", {"phone_number": LANDLINE}).status == 200
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("call", LANDLINE)]
        assert decision(clinic)["previous"] == TEXTED

    def test_contact_info_that_was_replaced_since_counts(self, clinic: Service) -> None:
        bodies = routed(clinic)
        put_patient(clinic, SECOND_CELL)
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("text", SECOND_CELL)]

    def test_the_practices_policy_since_counts(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert clinic.record_replies(reply("STOP", at=now())) == []
        put_clinic(clinic, policy={"opt_out_blocks_calls": True})
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == []
        assert decision(clinic)["withdrawn"] == "SMS_OPTED_OUT"

    def test_facts_that_changed_and_lead_to_the_same_are_kept_with_those_of_before(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert clinic.put(f"{PATIENT}/preferred-contact", {"phone_number": CELL}).status == 200
        assert send(clinic, *bodies) == []
        sent = decision(clinic)
        assert sent["facts"] == {**FACTS, "preferred_contact": CELL}
        assert sent["previous"] == TEXTED


class TestWithdrawn:
    """What is not sent any more, whatever the patient's file says."""

    def withdrawn(self, service: Service, reason: str, bodies: list[str]) -> None:
        with nothing_on_the_wire():
            assert send(service, *bodies) == []
        assert decision(service) == {
            **ROUTED,
            "state": "withdrawn",
            "withdrawn": reason,
            "life": [{"state": "routed", "at": TIME}, {"state": "withdrawn", "at": TIME, "reason": reason}],
        }
        told = [(kind, detail["reason"]) for kind, detail in published(service)]
        assert told == [("MessageWithdrawn", reason)]

    def test_when_the_practice_has_turned_sending_off(self, clinic: Service) -> None:
        bodies = routed(clinic)
        put_clinic(clinic, sending=False)
        self.withdrawn(clinic, "SENDING_OFF", bodies)

    def test_when_the_stacks_switch_is_off(self, clinic: Service) -> None:
        bodies = routed(clinic)
        pk, sk = sends.SWITCH
        table.put({"PK": pk, "SK": sk, "off": True})
        self.withdrawn(clinic, "SENDING_OFF", bodies)

    def test_not_when_the_stacks_switch_is_on_again(self, clinic: Service) -> None:
        bodies = routed(clinic)
        pk, sk = sends.SWITCH
        table.put({"PK": pk, "SK": sk, "off": False})
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("text", CELL)]

    def test_when_the_practice_has_the_line_no_more(self, clinic: Service) -> None:
        bodies = routed(clinic)
        put_clinic(clinic, lines=[BILLING], default_line="billing")
        self.withdrawn(clinic, "UNKNOWN_LINE", bodies)

    def test_when_it_has_waited_for_a_day(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            bodies = routed(clinic)
            clock.shift(timedelta(hours=24))
            self.withdrawn(clinic, "EXPIRED", bodies)

    def test_not_before_a_day_is_over(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            bodies = routed(clinic)
            clock.shift(timedelta(hours=24) - timedelta(microseconds=1))
            assert send(clinic, *bodies) == []
        # The least that a provider may be given.
        assert [each["time_to_live"] for each in clinic.carriers.accepted] == [5]

    @pytest.mark.parametrize(
        ("at", "expected"), [("12:29:59.999999", "sent"), ("12:30:00", "withdrawn"), ("12:30:00.000001", "withdrawn")]
    )
    def test_a_trigger_may_say_when_it_is_too_late(self, clinic: Service, at: str, expected: str) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            bodies = routed(clinic, trigger(send_before="2026-11-25T04:30:00-08:00"))
            assert decision(clinic)["send_before"] == "2026-11-25T12:30:00.000000Z"
            clock.move_to(datetime.fromisoformat(f"2026-11-25T{at}Z"))
            assert send(clinic, *bodies) == []
            assert decision(clinic)["state"] == expected

    def test_a_trigger_that_comes_too_late_is_withdrawn(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False):
            self.withdrawn(clinic, "EXPIRED", routed(clinic, trigger(send_before="2026-11-25T11:59:59Z")))

    def test_it_is_counted_by_its_reason(self, clinic: Service, capsys: pytest.CaptureFixture[str]) -> None:
        bodies = routed(clinic)
        put_clinic(clinic, sending=False)
        capsys.readouterr()
        assert send(clinic, *bodies) == []
        lines = capsys.readouterr().out.splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        assert [(each["reason"], metric) for each in told for metric in ("Withdrawn", "Sends") if metric in each] == [
            ("SENDING_OFF", "Withdrawn"),
            ("withdrawn", "Sends"),
        ]

    def test_what_another_delivery_has_taken_meanwhile_is_not_withdrawn(self, clinic: Service) -> None:
        bodies = routed(clinic)
        put_clinic(clinic, sending=False)

        def meanwhile(asked: dict[str, Any]) -> None:
            if ":withdrawn" in asked["ExpressionAttributeValues"] and not accepted(clinic):
                put_clinic(clinic)
                assert send(clinic, *bodies) == []

        with fault(aws.dynamodb(), "UpdateItem", meanwhile):
            assert send(clinic, *bodies) == [0]
        assert decision(clinic)["state"] == "sent"
        assert send(clinic, *bodies) == []


class TestTriedAgain:
    """What a provider has certainly not accepted, and may later."""

    def test_what_is_throttled_goes_back_and_is_sent_later_and_refusals_are_counted(self, clinic: Service) -> None:
        put_patient(clinic, sms.SEND_THROTTLES_TWICE)
        clinic.new_stream_records()
        bodies = routed(clinic)
        for receives in (1, 2):
            assert send(clinic, *bodies, receives=receives) == [0]
            waiting = decision(clinic)
            assert waiting["state"] == "routed"
            assert waiting["life"] == [
                {"state": "routed", "at": TIME},
                {
                    "state": "routed",
                    "at": TIME,
                    "code": "ThrottlingException",
                    "attempt": waiting["attempt"],
                    "times": receives,
                },
            ]
        assert "lease_until" not in stored(clinic)
        assert send(clinic, *bodies, receives=3) == []
        sent = decision(clinic)
        assert sent["state"] == "sent"
        assert sent["life"] == [
            *waiting["life"],
            {"state": "sending", "at": TIME, "attempt": sent["attempt"], "channel": "text"},
            {"state": "sent", "at": TIME, "provider_message_id": clinic.carriers.accepted[0]["message_id"]},
        ]
        assert sent["attempt"] != waiting["attempt"]
        assert len(clinic.carriers.accepted) == 1

    @pytest.mark.parametrize("email", [False, True], ids=["text", "email"])
    def test_what_never_connected_goes_back_and_is_sent_later(self, clinic: Service, email: bool) -> None:
        if email:
            put_patient(clinic, email="pat@example.org")
            clinic.new_stream_records()
        bodies = routed(clinic)
        with wire(lost(NOT_CONNECTED)) as requests:
            assert send(clinic, *bodies) == [0]
            assert (decision(clinic)["state"], accepted(clinic)) == ("routed", [])
            assert send(clinic, *bodies) == []
        assert len(requests) == 2
        assert len(accepted(clinic)) == 1
        sent = decision(clinic)
        assert [(each["state"], each.get("code"), each.get("times")) for each in sent["life"]] == [
            ("routed", None, None),
            ("routed", "ConnectTimeoutError", 1),
            ("sending", None, None),
            ("sent", None, None),
        ]

    def test_refusals_of_two_kinds_are_counted_apart(self, clinic: Service) -> None:
        put_patient(clinic, sms.SEND_THROTTLES_TWICE)
        bodies = routed(clinic)
        with wire(lost(NOT_CONNECTED)):
            for _ in range(3):
                assert send(clinic, *bodies) == [0]
        told = {each["code"]: each["times"] for each in decision(clinic)["life"] if "code" in each}
        assert told == {"ConnectTimeoutError": 1, "ThrottlingException": 2}

    def test_it_is_dead_lettered_only_after_a_thousand_receives(self, clinic: Service) -> None:
        put_patient(clinic, sms.SEND_THROTTLES_TWICE)
        bodies = routed(clinic)
        assert send(clinic, *bodies, receives=events.SEND_RECEIVES - 1) == [0]
        assert clinic.dead_letters("SENDS") == []
        assert send(clinic, *bodies, receives=events.SEND_RECEIVES) == []
        assert clinic.dead_letters("SENDS") == [("gave up: refused for now: ThrottlingException", bodies[0])]
        assert decision(clinic)["state"] == "routed"

    def test_a_stop_between_two_tries_counts(self, clinic: Service) -> None:
        bodies = routed(clinic)
        with wire(lost(NOT_CONNECTED)):
            assert send(clinic, *bodies) == [0]
        assert clinic.record_replies(reply("STOP", at=now())) == []
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("call", CELL)]


class TestRefused:
    """What a provider refuses says something of the number, or of the message."""

    def test_an_opt_out_at_the_carrier_is_recorded_and_the_message_becomes_a_call(self, clinic: Service) -> None:
        put_patient(clinic, sms.OPTED_OUT_AT_CARRIER)
        clinic.new_stream_records()
        bodies = routed(clinic)
        with wire() as requests:
            assert send(clinic, *bodies) == []
        assert [operation for operation, _ in requests] == ["SendTextMessage", "SendVoiceMessage"]
        assert accepted(clinic) == [("call", sms.OPTED_OUT_AT_CARRIER)]
        sent = decision(clinic)
        assert (sent["state"], sent["channel"], sent["reason"]) == ("sent", "call", "SMS_OPTED_OUT")
        assert (sent["previous"]["channel"], sent["previous"]["reason"]) == ("text", "TEXT_ENABLED")
        refused = requests[0][1]["Context"]["attempt"]
        assert sent["life"] == [
            {"state": "routed", "at": TIME},
            {
                "state": "routed",
                "at": TIME,
                "code": "DESTINATION_PHONE_NUMBER_OPTED_OUT",
                "attempt": refused,
                "times": 1,
            },
            {"state": "sending", "at": TIME, "attempt": sent["attempt"], "channel": "call"},
            {"state": "sent", "at": TIME, "provider_message_id": clinic.carriers.accepted[0]["message_id"]},
        ]
        assert clinic.get(PATIENT).body["sms_consent"] == {
            "status": "Opted Out of 1 numbers",
            "numbers": [
                {
                    "phone_number": sms.OPTED_OUT_AT_CARRIER,
                    "line": "main",
                    "status": "opted_out",
                    "source": "carrier",
                    "recorded_at": TIME,
                }
            ],
        }
        assert [kind for kind, _ in published(clinic)] == ["SmsConsentChanged", "MessageSent"]

    def test_an_opt_out_at_the_carrier_withdraws_what_is_only_a_text(self, clinic: Service) -> None:
        put_patient(clinic, sms.OPTED_OUT_AT_CARRIER)
        bodies = routed(clinic, trigger(messages=TEXT_ONLY))
        with wire() as requests:
            assert send(clinic, *bodies) == []
        assert len(requests) == 1
        withdrawn = decision(clinic)
        assert (withdrawn["state"], withdrawn["withdrawn"]) == ("withdrawn", "SMS_OPTED_OUT")
        # The next message to the number asks nobody.
        with nothing_on_the_wire():
            assert routed(clinic, trigger(occurrence_id="visit-2", messages=TEXT_ONLY)) == []

    def test_who_says_start_after_an_opt_out_at_the_carrier_is_texted_again(self, clinic: Service) -> None:
        put_patient(clinic, sms.OPTED_OUT_AT_CARRIER)
        assert send(clinic, *routed(clinic)) == []
        start = reply("START", at="2126-11-24T18:00:00.000Z", number=sms.OPTED_OUT_AT_CARRIER)
        assert clinic.record_replies(start) == []
        assert routed(clinic, trigger(occurrence_id="visit-2"))
        assert decision(clinic, "automation:reminder:visit-2")["channel"] == "text"

    def test_a_number_that_is_none_is_marked_with_the_refusal_and_the_message_goes_elsewhere(
        self, clinic: Service
    ) -> None:
        put_patient(clinic, sms.NOT_A_NUMBER, email="pat@example.org")
        clinic.new_stream_records()
        bodies = routed(clinic)
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("email", "pat@example.org")]
        sent = decision(clinic)
        assert (sent["state"], sent["channel"], sent["reason"]) == ("sent", "email", "NO_VALID_PHONE")
        assert sent["previous"]["destination"] == sms.NOT_A_NUMBER
        assert clinic.get(PATIENT).body["phones"][0]["status"] == "invalid"
        found = clinic.post("north/numbers/search", {"phone_number": sms.NOT_A_NUMBER}).body
        evidence = {"source": "refusal", "code": "ValidationException/INVALID_PARAMETER", "at": TIME}
        assert found["changes"] == [
            {"at": TIME, "status": "invalid", "suspect": False, "line_type": "unknown", "evidence": evidence}
        ]
        assert [kind for kind, _ in published(clinic)] == ["NumberStatusChanged", "MessageSent"]

    def test_the_next_phone_on_file_gets_what_one_that_is_none_cannot(self, clinic: Service) -> None:
        put_patient(clinic, sms.NOT_A_NUMBER, SECOND_CELL)
        assert send(clinic, *routed(clinic)) == []
        assert accepted(clinic) == [("text", SECOND_CELL)]

    def test_a_chosen_number_that_is_none_leaves_a_manual_message_unsent(self, clinic: Service) -> None:
        put_patient(clinic, sms.NOT_A_NUMBER, SECOND_CELL)
        body = {"channel": "text", "body": "Hi", "phone_number": sms.NOT_A_NUMBER}
        assert clinic.post(f"{PATIENT}/messages", body, headers={"idempotency-key": "key-1"}).status == 202
        assert send(clinic, *to_send(clinic)) == []
        assert accepted(clinic) == []
        withdrawn = decision(clinic, "manual:key-1")
        assert (withdrawn["state"], withdrawn["withdrawn"]) == ("withdrawn", "NO_VALID_PHONE")

    def test_one_that_is_refused_as_no_number_again_and_again_is_tried_no_more_than_a_few_times(
        self, clinic: Service
    ) -> None:
        """Each round says something new of another number; the rest is for the next delivery."""
        numbers = [f"+1503555011{n}" for n in range(MAX_ROUNDS + 1)]
        put_patient(clinic, *numbers)
        bodies = routed(clinic)
        fields = [{"Name": "DestinationPhoneNumber", "Message": "is none"}]
        error = {"__type": "ValidationException", "Reason": "INVALID_PARAMETER", "Fields": fields}
        with wire(lambda *_: (400, error)) as requests:
            assert send(clinic, *bodies) == [0]
        assert [asked["DestinationPhoneNumber"] for _, asked in requests] == numbers[:MAX_ROUNDS]
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("text", numbers[-1])]

    def test_what_is_refused_for_good_has_failed_with_the_providers_code(self, clinic: Service) -> None:
        bodies = routed(clinic)
        error = {"__type": "AccessDeniedException", "Reason": "ACCOUNT_DISABLED"}
        with wire(lambda *_: (400, error)) as requests:
            assert send(clinic, *bodies) == []
            # It stays so.
            assert send(clinic, *bodies) == []
        assert len(requests) == 1
        failed = decision(clinic)
        code = "AccessDeniedException/ACCOUNT_DISABLED"
        assert failed == {
            **ROUTED,
            "state": "failed",
            "code": code,
            "attempt": UUID,
            "life": [
                {"state": "routed", "at": TIME},
                {"state": "sending", "at": TIME, "attempt": failed["attempt"], "channel": "text"},
                {"state": "failed", "at": TIME, "code": code},
            ],
        }
        assert published(clinic) == [
            (
                "MessageFailed",
                {
                    "version": 1,
                    "event_id": Matching(r"\S+"),
                    "practice_id": "north",
                    "patient_id": "p-1",
                    "message_id": VISIT,
                    "message_class": "automation",
                    "line": "main",
                    "outcome": "deliver",
                    "state": "failed",
                    "channel": "text",
                    "attempt": failed["attempt"],
                    "provider_message_id": None,
                    "code": code,
                    "reason": None,
                    "at": failed["life"][-1]["at"],
                },
            )
        ]

    def test_an_email_on_a_line_without_a_sender_has_failed(self, clinic: Service) -> None:
        put_patient(clinic, email="pat@example.org")
        put_clinic(clinic, lines=[MAIN, BILLING])
        assert send(clinic, *routed(clinic)) == []
        assert (decision(clinic)["state"], decision(clinic)["code"]) == ("failed", "NO_EMAIL_SENDER")
        assert clinic.emails() == []

    def test_an_email_that_is_refused_for_good_says_nothing_of_a_number(self, clinic: Service) -> None:
        put_patient(clinic, email="pat@example.org")
        bodies = routed(clinic)
        with fault(aws.email(), "SendEmail", lambda _: client_error("MessageRejected")):
            assert send(clinic, *bodies) == []
        assert (decision(clinic)["state"], decision(clinic)["code"]) == ("failed", "MessageRejected")

    def test_an_opt_out_that_cannot_be_recorded_now_is_met_and_recorded_again(self, clinic: Service) -> None:
        put_patient(clinic, sms.OPTED_OUT_AT_CARRIER)
        bodies = routed(clinic)
        with throttled("TransactWriteItems"):
            assert send(clinic, *bodies) == [0]
        assert (decision(clinic)["state"], accepted(clinic)) == ("routed", [])
        assert send(clinic, *bodies) == []
        assert (decision(clinic)["state"], decision(clinic)["channel"]) == ("sent", "call")

    def test_what_expires_while_it_is_claimed_is_not_sent(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            bodies = routed(clinic)
            clock.shift(timedelta(hours=24) - timedelta(milliseconds=200))

            def half_a_second_later(_: object) -> None:
                clock.shift(timedelta(milliseconds=500))

            with fault(aws.dynamodb(), "UpdateItem", half_a_second_later):
                assert send(clinic, *bodies) == [0]
            assert (decision(clinic)["state"], accepted(clinic)) == ("routed", [])
            assert send(clinic, *bodies) == []
        assert (decision(clinic)["state"], decision(clinic)["withdrawn"]) == ("withdrawn", "EXPIRED")

    def test_a_claim_on_facts_from_before_another_attempt_is_refused(self, clinic: Service) -> None:
        """Else what the other attempt had decided, on older facts, would be sent: a text after STOP."""
        put_patient(clinic, sms.SEND_THROTTLES_TWICE)
        bodies = routed(clinic)
        both: list[int] = []

        def the_other_first(_: object) -> None:
            if not both:
                both.append(1)
                assert clinic.run("SendMessageFunction", *bodies) == [0]

        with fault(aws.dynamodb(), "UpdateItem", the_other_first):
            assert send(clinic, *bodies) == [0]
        assert decision(clinic)["state"] == "routed"
        assert clinic.carriers.requests["SendTextMessage", sms.SEND_THROTTLES_TWICE] == 1


class TestUnknown:
    """What a provider may have accepted is never sent again by itself."""

    @pytest.mark.parametrize(
        ("number", "code"),
        [(sms.ANSWER_IS_LOST, "ConnectionClosedError"), (sms.ANSWERS_500, "InternalServerException")],
    )
    def test_what_was_accepted_and_not_answered_is_unknown_and_listed_and_never_sent_again(
        self, clinic: Service, number: str, code: str
    ) -> None:
        put_patient(clinic, number)
        clinic.new_stream_records()
        bodies = routed(clinic)
        assert send(clinic, *bodies) == []
        unknown = decision(clinic)
        assert unknown["state"] == "unknown"
        assert unknown["code"] == code
        assert unknown["life"] == [
            {"state": "routed", "at": TIME},
            {"state": "sending", "at": TIME, "attempt": unknown["attempt"], "channel": "text"},
            {"state": "unknown", "at": TIME, "code": code},
        ]
        item = stored(clinic)
        at = unknown["life"][-1]["at"]
        assert (item["GSI1PK"], item["GSI1SK"]) == (sends.UNKNOWN_PK, f"north#{at}#{unknown['attempt']}")
        assert "lease_until" not in item
        assert clinic.get("north/decisions/unknown").body == {
            "items": [{**unknown, "patient_id": "p-1", "since": at, "overdue": False}],
            "next": None,
        }
        for receives in range(1, 4):
            assert send(clinic, *bodies, receives=receives) == []
        assert len(clinic.carriers.accepted) == 1
        assert decision(clinic) == unknown

    @pytest.mark.parametrize("error", [TIMED_OUT, botocore_errors.ConnectionClosedError(endpoint_url="x")])
    @pytest.mark.parametrize("email", [False, True], ids=["text", "email"])
    def test_a_silence_is_unknown_and_one_request(self, clinic: Service, error: Exception, email: bool) -> None:
        if email:
            put_patient(clinic, email="pat@example.org")
        bodies = routed(clinic)
        with wire(lost(error)) as requests:
            assert send(clinic, *bodies) == []
            assert send(clinic, *bodies) == []
        assert len(requests) == 1
        assert (decision(clinic)["state"], decision(clinic)["code"]) == ("unknown", type(error).__name__)

    def test_whoever_comes_while_it_is_being_sent_goes_back_and_after_the_lease_it_is_unknown(
        self, clinic: Service
    ) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            bodies = routed(clinic)
            # The provider accepts it, and then the table is not there any more.
            with wire() as requests, fault(aws.dynamodb(), "UpdateItem", throttled_after(1)):
                assert send(clinic, *bodies) == [0]
            assert len(requests) == 1
            assert decision(clinic)["life"] == [
                {"state": "routed", "at": TIME},
                {"state": "sending", "at": TIME, "attempt": UUID, "channel": "text"},
            ]
            with nothing_on_the_wire():
                clock.shift(timedelta(seconds=sends.LEASE_SECONDS))
                assert send(clinic, *bodies) == [0]
                assert decision(clinic)["state"] == "sending"
                clock.shift(timedelta(microseconds=1))
                assert send(clinic, *bodies) == []
        unknown = decision(clinic)
        assert (unknown["state"], unknown["code"]) == ("unknown", "NO_OUTCOME")
        assert [each["state"] for each in unknown["life"]] == ["routed", "sending", "unknown"]
        assert [each["message_id"] for each in clinic.get("north/decisions/unknown").body["items"]] == [VISIT]
        assert len(clinic.carriers.accepted) == 1

    def test_the_lease_of_a_claim_is_over_when_the_queue_hands_the_message_out_again(self, clinic: Service) -> None:
        queue = next(source for source in clinic.sources if source.function == "SendMessageFunction")
        attributes = aws.sqs().get_queue_attributes(
            QueueUrl=aws.sqs().get_queue_url(QueueName=queue.arn.rpartition(":")[2])["QueueUrl"],
            AttributeNames=["VisibilityTimeout"],
        )["Attributes"]
        timeout = next(each.timeout for each in clinic.functions if each.name == "SendMessageFunction")
        assert timeout < sends.LEASE_SECONDS < int(attributes["VisibilityTimeout"])

    def test_who_hears_that_the_lease_is_over_while_the_outcome_is_recorded_changes_nothing(
        self, clinic: Service
    ) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            bodies = routed(clinic)

            def late(*_: object) -> None:
                clock.shift(timedelta(seconds=sends.LEASE_SECONDS + 1))
                assert send(clinic, *bodies) == []
                assert decision(clinic)["state"] == "unknown"

            with wire(late):
                assert send(clinic, *bodies) == []
        # The provider's own word, if late, stands above that nobody knows.
        sent = decision(clinic)
        assert sent["state"] == "sent"
        assert [each["state"] for each in sent["life"]] == ["routed", "sending", "unknown", "sent"]
        assert sent["life"][-1] == {
            "state": "sent",
            "at": TIME,
            "provider_message_id": clinic.carriers.accepted[0]["message_id"],
            "by": "provider",
        }
        assert clinic.get("north/decisions/unknown").body["items"] == []


def throttled_after(times: int) -> Any:
    """Throttle all calls but the first ones."""
    calls: list[object] = []

    def answer(asked: dict[str, Any]) -> Any:
        calls.append(asked)
        return client_error("ThrottlingException") if len(calls) > times else None

    return answer


class TestNotNow:
    """What cannot be read or written now, or would take too long, is left as it was."""

    @pytest.mark.usefixtures("time_flies")
    def test_what_cannot_be_read_goes_back(self, clinic: Service) -> None:
        bodies = routed(clinic)
        before = clinic.items()
        with nothing_on_the_wire(), throttled("BatchGetItem"):
            assert send(clinic, *bodies) == [0]
        assert clinic.items() == before

    def test_what_cannot_be_claimed_goes_back(self, clinic: Service) -> None:
        bodies = routed(clinic)
        before = clinic.items()
        with nothing_on_the_wire(), throttled("UpdateItem"):
            assert send(clinic, *bodies) == [0]
        assert clinic.items() == before
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("text", CELL)]

    @pytest.mark.usefixtures("time_flies")
    def test_on_facts_that_are_old_before_the_claim_nothing_is_claimed(self, clinic: Service) -> None:
        bodies = routed(clinic)
        before = clinic.items()
        with nothing_on_the_wire(), fault(aws.dynamodb(), "BatchGetItem", lambda _: time.sleep(2.6)):
            assert send(clinic, *bodies) == [0]
        assert clinic.items() == before

    @pytest.mark.usefixtures("time_flies")
    def test_on_facts_that_are_old_after_the_claim_nothing_is_sent_and_it_is_released(self, clinic: Service) -> None:
        bodies = routed(clinic)
        with nothing_on_the_wire(), fault(aws.dynamodb(), "UpdateItem", lambda _: time.sleep(5.1)):
            assert send(clinic, *bodies) == [0]
        waiting = decision(clinic)
        assert waiting == {
            **ROUTED,
            "state": "routed",
            "attempt": UUID,
            "life": [{"state": "routed", "at": TIME}],
        }
        assert "lease_until" not in stored(clinic)
        assert published(clinic) == []
        assert send(clinic, *bodies) == []
        assert accepted(clinic) == [("text", CELL)]

    @pytest.mark.parametrize(
        ("left", "state", "attempts"),
        [
            ([RESERVE - 1], "routed", 0),
            ([RESERVE, RESERVE - 1], "routed", 1),
            ([RESERVE, RESERVE], "sent", 1),
        ],
    )
    def test_no_provider_is_called_that_the_invocation_might_not_outlast(
        self, clinic: Service, left: list[int], state: str, attempts: int
    ) -> None:
        bodies = routed(clinic)
        records = [sqs_record(0, bodies[0])]
        with wire() as requests:
            answer = handler({"Records": records}, Context(left))  # type: ignore[arg-type]  # as far as it is used
        assert decision(clinic)["state"] == state
        assert len(requests) == (state == "sent")
        assert answer["batchItemFailures"] == ([] if state == "sent" else [{"itemIdentifier": "0"}])
        assert ("attempt" in decision(clinic)) == bool(attempts)

    @pytest.mark.usefixtures("clinic")
    def test_the_rest_of_an_invocation_is_longer_than_a_call_can_take(self) -> None:
        config: Any = aws.sms_sender().meta.config
        assert 1000 * (config.connect_timeout + config.read_timeout) < RESERVE

    @pytest.mark.usefixtures("time_flies")
    def test_it_gives_up_on_the_last_receive_with_the_reason(self, clinic: Service) -> None:
        bodies = routed(clinic)
        with throttled("BatchGetItem"):
            assert send(clinic, *bodies, receives=events.SEND_RECEIVES) == []
        assert clinic.dead_letters("SENDS") == [("gave up: TableUnavailable", bodies[0])]
        records = [sqs_record(0, bodies[0], events.SEND_RECEIVES)]
        handler({"Records": records}, Context([RESERVE - 1]))  # type: ignore[arg-type]  # as far as it is used
        assert clinic.dead_letters("SENDS") == [("gave up: out of time", bodies[0])]


NEVER: dict[str, tuple[str, str]] = {
    "unknown message": (to_send_again("automation:reminder:nothing"), "unknown message"),
    "unknown practice": (to_send_again(VISIT, practice_id="nowhere"), "unknown practice"),
    "unknown patient": (to_send_again(VISIT, patient_id="p-9"), "unknown message"),
    "unknown confirmation": (
        to_send_again("confirmation:reply-1", patient_id=None, phone_number=CELL),
        "unknown message",
    ),
    "not JSON": ("not JSON", "invalid event: not JSON"),
    "no object": ("[]", "invalid event: all of it"),
    "a nest": ("[" * 100_000, "invalid event: not JSON"),
    "another event": (json.dumps(trigger()), "unknown detail-type"),
    "nobody": (to_send_again(VISIT, patient_id=None), "invalid detail: all of it"),
    "no practice": (to_send_again(VISIT, practice_id=None), "invalid detail: practice_id"),
    "a message's id that is none": (to_send_again("a#b"), "invalid detail: message_id"),
}


class TestNever:
    """What can never be sent is dead-lettered with its reason; the rest of the batch is unharmed."""

    @pytest.mark.parametrize("why", NEVER)
    def test_what_can_never_be_handled_is_dead_lettered_at_once_with_its_reason(
        self, clinic: Service, why: str
    ) -> None:
        body, reason = NEVER[why]
        (good,) = routed(clinic)
        assert send(clinic, body, good) == []
        assert clinic.dead_letters("SENDS") == [(reason, body)]
        assert accepted(clinic) == [("text", CELL)]

    def test_a_patient_who_is_gone_cannot_be_sent_to(self, clinic: Service) -> None:
        bodies = routed(clinic)
        table.delete((table.patient_pk("north", "p-1"), "PATIENT"))
        with nothing_on_the_wire():
            assert send(clinic, *bodies) == []
        assert clinic.dead_letters("SENDS") == [("unknown patient", bodies[0])]

    @pytest.mark.parametrize("what", ["patient", "number", "decision", "practice"])
    def test_what_is_broken_in_the_table_blocks_nobody_else(self, clinic: Service, what: str) -> None:
        lines = [{**MAIN, "phone_number": "+15035559500"}]
        south = CLINIC | {"lines": lines}
        assert clinic.put("south", south, practice_ids=["south"]).status == 200
        automation = {"name": "Reminder", "messages": MESSAGES}
        assert clinic.put("south/automations/reminder", automation, practice_ids=["south"]).status == 200
        file = {"phones": [{"number": SECOND_CELL, "line_type": "text_enabled"}], "emails": []}
        assert clinic.put("south/patients/p-2/contact-info", file, practice_ids=["south"]).status == 200
        assert clinic.run_automations(trigger(), trigger("p-2", practice_id="south")) == []
        bodies = to_send(clinic)
        keys = {
            "patient": (table.patient_pk("south", "p-2"), "PATIENT"),
            "number": table.number_key("south", SECOND_CELL),
            "decision": table.decision_key("south", "p-2", VISIT),
            "practice": (table.practice_pk("south"), "PRACTICE"),
        }
        pk, sk = keys[what]
        item = table.get((pk, sk)) or {}
        table.put({**item, "PK": pk, "SK": sk, **dict.fromkeys(("phones", "verdict", "facts", "lines"), "broken")})
        broken = [n for n, body in enumerate(bodies) if json.loads(body)["detail"]["practice_id"] == "south"]
        assert send(clinic, *bodies) == broken
        assert accepted(clinic) == [("text", CELL)]
        assert clinic.dead_letters("SENDS") == []


class TestOutage:
    def test_after_an_hour_without_the_provider_everything_is_sent_or_has_expired_and_nothing_is_lost(
        self, clinic: Service
    ) -> None:
        """Every nine minutes two come in: one may wait for twelve minutes, the other for a day."""
        waiting: list[str] = []
        announced: Counter[str] = Counter()
        with time_machine.travel(NOON, tick=False) as clock:

            def outage(*_: object) -> tuple[int, dict[str, Any]] | None:
                if datetime.now(UTC) < NOON + timedelta(hours=1):
                    raise NOT_CONNECTED
                return None

            with wire(outage):
                # The queue hands out every three minutes what came back.
                for minutes in range(0, 63, 3):
                    if minutes % 9 == 0 and minutes < 54:
                        soon = (datetime.now(UTC) + timedelta(minutes=12)).isoformat()
                        expires = trigger(occurrence_id=f"expires-{minutes}", messages=TEXT_ONLY, send_before=soon)
                        waits = trigger(occurrence_id=f"waits-{minutes}", messages=TEXT_ONLY)
                        assert clinic.run_automations(expires, waits) == []
                    told = published(clinic)
                    announced.update(kind for kind, _ in told)
                    waiting += taken_by_rule(told)
                    batches = [waiting[start : start + 10] for start in range(0, len(waiting), 10)]
                    waiting = [batch[place] for batch in batches for place in send(clinic, *batch)]
                    clock.shift(timedelta(minutes=3))
            assert waiting == []
            ended = clinic.get(f"{PATIENT}/decisions?limit=100").body["items"]
            announced.update(kind for kind, _ in published(clinic))
        became = Counter((each["message_id"].split(":")[2].split("-")[0], each["state"]) for each in ended)
        assert became == {("expires", "withdrawn"): 6, ("waits", "sent"): 6}
        assert {each.get("withdrawn") for each in ended if each["state"] == "withdrawn"} == {"EXPIRED"}
        # Each has tried every three minutes, until one o'clock or the end of its twelve minutes.
        tries = Counter(entry["times"] for each in ended for entry in each["life"] if "times" in entry)
        assert tries == {20: 1, 17: 1, 14: 1, 11: 1, 8: 1, 5: 1, 4: 6}
        sent_to = Counter(each["context"]["message_id"] for each in clinic.carriers.accepted)
        assert sent_to == {f"automation:reminder:waits-{minutes}": 1 for minutes in range(0, 54, 9)}
        assert clinic.dead_letters("SENDS") == []
        assert announced == {"MessageRouted": 12, "MessageSent": 6, "MessageWithdrawn": 6}

    @pytest.mark.usefixtures("time_flies")
    def test_after_an_hour_without_the_table_nothing_was_sent_twice_and_nothing_is_lost(self, clinic: Service) -> None:
        bodies = routed(clinic, *(trigger(occurrence_id=f"visit-{n}") for n in range(10)))
        with nothing_on_the_wire(), throttled():
            for receives in range(1, 4):
                assert sorted(send(clinic, *bodies, receives=receives)) == list(range(10))
        assert send(clinic, *bodies, receives=4) == []
        assert accepted(clinic) == [("text", CELL)] * 10


class TestPrivacy:
    @pytest.mark.parametrize("number", [CELL, sms.ANSWERS_500, sms.NOT_A_NUMBER, sms.OPTED_OUT_AT_CARRIER])
    def test_no_log_and_no_metric_says_who_or_what(
        self, clinic: Service, capsys: pytest.CaptureFixture[str], number: str
    ) -> None:
        secret = str(uuid.uuid4())
        put_patient(clinic, number, email="pat@example.org")
        bodies = routed(clinic, trigger(context=CONTEXT | {"first_name": secret}))
        capsys.readouterr()
        assert send(clinic, *bodies) == []
        said = "".join(capsys.readouterr())
        assert "Sends" in said
        for each in (secret, number, "p-1", "pat@example.org", VISIT):
            assert each not in said
