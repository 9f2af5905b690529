"""record_receipt: what carriers report marks numbers, each change with its evidence; and how far a message has come."""

import json
from collections import Counter
from typing import Any

import pytest

from functions.record_receipt.handler import RESERVE, handler
from tests.integration.sending import CLINIC, routed, send, to_send, wire
from tests.integration.service import (
    CELL,
    CONTACT_INFO,
    LANDLINE,
    MESSAGES,
    PRACTICE,
    TIME,
    Context,
    Service,
    receipt,
    sqs_record,
    throttled,
    trigger,
)

DAY = 86_400_000
AT = 1_790_812_800_000  # 2026-10-01
PATIENT = "north/patients/p-1"


def phone(service: Service) -> tuple[str, bool]:
    """The first phone's status, and whether it is suspect."""
    (first, *_) = service.get(PATIENT).body["phones"]
    return first["status"], first["suspect"]


def counted(capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return Counter(line["reason"] for line in lines if "Receipts" in line)


def changes(service: Service) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = service.post("north/numbers/search", {"phone_number": CELL}).body["changes"]
    return items


class TestInvalid:
    def test_an_invalid_number_is_not_routed_to_any_more(self, north: Service) -> None:
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT)) == []
        assert phone(north) == ("invalid", False)
        assert north.run_automations(trigger()) == []
        (decided,) = north.get(f"{PATIENT}/decisions").body["items"]
        assert (decided["channel"], decided["destination"]) == ("call", LANDLINE)

    def test_the_change_is_kept_with_its_evidence_and_announced_once(self, north: Service) -> None:
        north.new_stream_records()
        for _ in range(2):
            assert north.record_receipts(receipt("TEXT_INVALID", at=AT)) == []
        evidence = {
            "source": "receipt",
            "code": "TEXT_INVALID",
            "at": "2026-10-01T00:00:00.000000Z",
            "provider_message_id": "provider-1",
        }
        assert changes(north) == [
            {"at": TIME, "status": "invalid", "suspect": False, "line_type": "unknown", "evidence": evidence}
        ]
        assert north.publish(north.new_stream_records()) == []
        (event,) = north.events
        detail = json.loads(event["Detail"])
        assert (event["DetailType"], detail.pop("event_id").partition("#")[2]) == ("NumberStatusChanged", "status")
        assert detail == {
            "version": 1,
            "practice_id": "north",
            "phone_number": CELL,
            "status": "invalid",
            "suspect": False,
            "line_type": "unknown",
            "evidence": evidence,
        }

    @pytest.mark.parametrize("event_type", ["TEXT_INVALID_MESSAGE", "TEXT_BLOCKED", "TEXT_SPAM", "TEXT_TTL_EXPIRED"])
    def test_what_is_wrong_with_the_message_is_not_wrong_with_the_number(self, north: Service, event_type: str) -> None:
        assert north.record_receipts(receipt(event_type, at=AT)) == []
        assert phone(north) == ("valid", False)

    def test_registration_that_sends_the_number_anew_makes_it_valid(self, north: Service) -> None:
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT)) == []
        assert north.put(f"{PATIENT}/contact-info", CONTACT_INFO).status == 200
        assert phone(north) == ("valid", False)
        # The same receipt again is of before.
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT)) == []
        assert phone(north) == ("valid", False)

    def test_it_holds_in_this_practice_alone(self, north: Service) -> None:
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT)) == []
        numbers = [item["PK"]["S"] for item in north.items() if item["SK"]["S"] == "NUMBER"]
        assert numbers == [f"PRACTICE#north#NUMBER#{CELL}"]


class TestUnreachable:
    @pytest.mark.parametrize("event_type", ["TEXT_UNREACHABLE", "TEXT_CARRIER_UNREACHABLE"])
    def test_one_makes_a_number_suspect_which_is_shown_and_still_routed(self, north: Service, event_type: str) -> None:
        assert north.record_receipts(receipt(event_type, at=AT)) == []
        assert phone(north) == ("valid", True)
        assert north.run_automations(trigger()) == []
        (decided,) = north.get(f"{PATIENT}/decisions").body["items"]
        assert (decided["channel"], decided["destination"]) == ("text", CELL)

    def test_only_the_third_in_30_days_makes_it_invalid(self, north: Service) -> None:
        for n, expected in enumerate([("valid", True), ("valid", True), ("invalid", False)]):
            assert north.record_receipts(receipt("TEXT_UNREACHABLE", f"provider-{n}", at=AT + n * 10 * DAY)) == []
            assert phone(north) == expected

    @pytest.mark.parametrize(("apart", "expected"), [(15, "invalid"), (15.01, "valid")])
    def test_30_days_are_30_days(self, north: Service, apart: float, expected: str) -> None:
        batch = [receipt("TEXT_UNREACHABLE", f"provider-{n}", at=AT + int(n * apart * DAY)) for n in range(3)]
        assert north.record_receipts(*batch) == []
        assert phone(north)[0] == expected

    def test_several_receipts_of_one_message_count_once(self, north: Service) -> None:
        batch = [
            receipt(kind, at=AT + n) for n, kind in enumerate(["TEXT_UNREACHABLE", "TEXT_CARRIER_UNREACHABLE"] * 3)
        ]
        assert north.record_receipts(*batch) == []
        assert phone(north) == ("valid", True)

    @pytest.mark.parametrize("reached", ["TEXT_DELIVERED", "TEXT_SUCCESSFUL"])
    def test_a_message_that_arrives_clears_it_and_the_count_begins_anew(self, north: Service, reached: str) -> None:
        sent = ["TEXT_UNREACHABLE", "TEXT_UNREACHABLE", reached, "TEXT_UNREACHABLE", "TEXT_UNREACHABLE"]
        expected = [True, True, False, True, True]
        for n, (event_type, suspect) in enumerate(zip(sent, expected, strict=True)):
            assert north.record_receipts(receipt(event_type, f"provider-{n}", at=AT + n * DAY)) == []
            assert phone(north) == ("valid", suspect)

    def test_becoming_suspect_and_well_again_is_announced_with_its_evidence(self, north: Service) -> None:
        north.new_stream_records()
        batch = [receipt("TEXT_UNREACHABLE", "provider-1", at=AT), receipt("TEXT_DELIVERED", "provider-2", at=AT + 1)]
        assert north.record_receipts(*batch) == []
        assert north.publish(north.new_stream_records()) == []
        details = [json.loads(event["Detail"]) for event in north.events]
        assert [(each["status"], each["suspect"], each["evidence"]["code"]) for each in details] == [
            ("valid", True, "TEXT_UNREACHABLE"),
            ("valid", False, "TEXT_DELIVERED"),
        ]


class TestDelivered:
    def test_one_of_a_number_against_which_nothing_is_held_writes_nothing(self, north: Service) -> None:
        before = north.items()
        assert north.record_receipts(receipt("TEXT_DELIVERED", at=AT)) == []
        assert north.items() == before

    def test_one_does_not_make_an_invalid_number_valid(self, north: Service) -> None:
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT), receipt("TEXT_DELIVERED", at=AT + 1)) == []
        assert phone(north) == ("invalid", False)


CONTEXT = {"practice_id": "north", "patient_id": "p-1", "message_id": "automation:reminder:visit-1", "attempt": "a"}


class TestMatching:
    def test_the_context_finds_the_decision_and_its_number_where_the_receipt_names_none(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        told = receipt(
            "TEXT_INVALID", at=AT, context=CONTEXT, destinationPhoneNumber=None, originationPhoneNumber="POOL"
        )
        assert north.record_receipts(told) == []
        assert phone(north) == ("invalid", False)

    def test_the_context_goes_before_the_numbers(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        told = receipt("TEXT_INVALID", at=AT, context=CONTEXT, destinationPhoneNumber="+15035550199")
        assert north.record_receipts(told) == []
        assert phone(north) == ("invalid", False)

    @pytest.mark.parametrize(
        "context",
        [None, {}, {"campaign": "spring"}, CONTEXT | {"practice_id": "a/b"}, CONTEXT | {"message_id": "none"}],
    )
    def test_without_a_context_of_ours_the_numbers_alone_do(
        self, north: Service, context: dict[str, str] | None
    ) -> None:
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT, context=context)) == []
        assert phone(north) == ("invalid", False)

    @pytest.mark.parametrize(
        "numbers",
        [
            {"originationPhoneNumber": "+15035559999"},
            {"originationPhoneNumber": "SENDERID"},
            {"originationPhoneNumber": None},
            {"destinationPhoneNumber": None},
        ],
    )
    def test_what_others_in_the_account_have_sent_is_counted_and_ignored(
        self, north: Service, capsys: pytest.CaptureFixture[str], numbers: dict[str, Any]
    ) -> None:
        before = north.items()
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT, **numbers)) == []
        assert north.items() == before
        assert north.dead_letters("RECEIPTS") == []
        assert counted(capsys) == {"not ours": 1}


class TestMessages:
    """What a receipt says of the message that it is about, when the service has sent it."""

    VISIT = f"{PATIENT}/decisions/automation:reminder:visit-1"

    @pytest.fixture(autouse=True)
    def sends(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200

    def sent(self, north: Service, **detail: object) -> dict[str, str]:
        """Have a message sent and give the context that its receipts bear."""
        assert send(north, *routed(north, trigger(**detail))) == []
        context: dict[str, str] = north.carriers.so_far()[-1]["context"]
        return context

    @pytest.mark.parametrize(
        ("event_type", "status"),
        [
            ("TEXT_PENDING", "pending"),
            ("TEXT_SENT", "on_its_way"),
            ("TEXT_UNREACHABLE", "not_delivered"),
            ("TEXT_BLOCKED", "not_delivered"),
            ("TEXT_DELIVERED", "delivered"),
        ],
    )
    def test_its_delivery_is_on_the_decision_and_what_it_says_of_the_number_on_the_number(
        self, north: Service, capsys: pytest.CaptureFixture[str], event_type: str, status: str
    ) -> None:
        told = receipt(event_type, at=AT, context=self.sent(north))
        counted(capsys)
        assert north.record_receipts(told) == []
        answer = north.get(self.VISIT).body
        expected = {"status": status, "code": event_type, "at": "2026-10-01T00:00:00.000000Z"}
        assert (answer["state"], answer["delivery"]) == ("sent", expected)
        assert phone(north) == ("valid", event_type == "TEXT_UNREACHABLE")
        assert counted(capsys) == {event_type: 1}

    def test_of_a_batch_in_any_order_the_furthest_stays(self, north: Service) -> None:
        context = self.sent(north)
        batch = [receipt(kind, at=AT + n, context=context) for n, kind in enumerate(("TEXT_DELIVERED", "TEXT_SENT"))]
        assert north.record_receipts(*batch) == []
        assert north.record_receipts(receipt("TEXT_PENDING", at=AT + 9, context=context)) == []
        assert north.get(self.VISIT).body["delivery"]["status"] == "delivered"

    def test_a_call_has_receipts_too(self, north: Service) -> None:
        assert north.put("north", CLINIC | {"policy": {"call_when_text_not_included": True}}).status == 200
        context = self.sent(north, occurrence_id="visit-2", messages={"call": MESSAGES["call"]})
        voice = "Voice Message Delivery Status Updated"
        assert north.record_receipts(receipt("VOICE_ANSWERED", at=AT, detail_type=voice, context=context)) == []
        answer = north.get(self.VISIT.replace("visit-1", "visit-2")).body
        assert (answer["channel"], answer["delivery"]["status"]) == ("call", "on_its_way")

    def test_the_number_is_the_one_that_its_attempt_went_to(self, north: Service) -> None:
        with wire(lambda *_: (500, {"__type": "InternalServerException"})) as requests:
            assert send(north, *routed(north)) == []
        first = requests[0][1]["Context"]
        assert north.post(f"{self.VISIT}/resolve", {"outcome": "not_sent"}).status == 200
        assert north.put(f"{PATIENT}/preferred-contact", {"phone_number": LANDLINE}).status == 200
        assert send(north, *to_send(north)) == []
        second = north.carriers.so_far()[-1]["context"]
        assert first["attempt"] != second["attempt"]
        nowhere: dict[str, Any] = {"destinationPhoneNumber": None, "originationPhoneNumber": None}
        assert north.record_receipts(receipt("TEXT_INVALID", at=AT, context=first, **nowhere)) == []
        statuses = [each["status"] for each in north.get(PATIENT).body["phones"]]
        assert statuses == ["invalid", "valid"]
        # It says nothing of the second attempt.
        assert "delivery" not in north.get(self.VISIT).body

    def test_one_of_an_attempt_that_never_was_says_nothing_of_the_message(self, north: Service) -> None:
        context = self.sent(north)
        before = north.get(self.VISIT)
        assert north.record_receipts(receipt("TEXT_DELIVERED", at=AT, context=context | {"attempt": "another"})) == []
        assert north.get(self.VISIT) == before

    def test_one_of_what_the_practice_has_sent_itself_says_nothing_of_its_message(self, north: Service) -> None:
        assert north.put("north", PRACTICE).status == 200
        assert north.run_automations(trigger()) == []
        before = north.get(self.VISIT)
        for attempt in ({}, {"attempt": ""}, {"attempt": "the practice's own"}):
            context = {**CONTEXT, **attempt}
            assert north.record_receipts(receipt("TEXT_DELIVERED", at=AT, context=context)) == []
        assert north.get(self.VISIT) == before

    def test_a_busy_table_sends_it_back(self, north: Service) -> None:
        context = self.sent(north)
        with throttled("UpdateItem"):
            assert north.record_receipts(receipt("TEXT_SENT", at=AT, context=context)) == [0]
        assert "delivery" not in north.get(self.VISIT).body


class TestIgnored:
    def test_event_types_that_say_nothing_of_the_number_and_unknown_ones_are_counted_and_ignored(
        self, north: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = north.items()
        voice = receipt("VOICE_NO_ANSWER", at=AT, detail_type="Voice Message Delivery Status Updated")
        other = receipt(at=AT, detail_type="Registration Status Change")
        batch = [receipt("TEXT_SENT", at=AT), receipt("TEXT_TELEPORTED", at=AT), voice, other]
        assert north.record_receipts(*batch) == []
        assert north.items() == before
        assert north.dead_letters("RECEIPTS") == []
        assert counted(capsys) == {"other": 4}


class TestRefused:
    @pytest.mark.parametrize(
        ("event", "reason"),
        [
            ("junk", "invalid event: not JSON"),
            ({"detail": {}}, "invalid event: detail-type"),
            (receipt(None), "invalid receipt: eventType"),  # type: ignore[arg-type]  # what must be refused
            (receipt("text delivered"), "invalid receipt: eventType"),
            (receipt(at="now"), "invalid receipt: eventTimestamp"),  # type: ignore[arg-type]  # what must be refused
            (receipt(at=-1), "invalid receipt: eventTimestamp"),
            (receipt(messageId=None), "invalid receipt: messageId"),
            (receipt(destinationPhoneNumber="CALL ME"), "invalid receipt: destinationPhoneNumber"),
        ],
    )
    def test_what_can_never_be_handled_is_dead_lettered_with_its_reason_and_the_rest_is_unharmed(
        self, north: Service, event: object, reason: str
    ) -> None:
        body = event if isinstance(event, str) else json.dumps(event)
        assert north.record_receipts(body, receipt("TEXT_INVALID", at=AT)) == []
        assert north.dead_letters("RECEIPTS") == [(reason, body)]
        assert phone(north) == ("invalid", False)

    def test_a_busy_table_sends_the_failed_ones_back(self, north: Service) -> None:
        with throttled("TransactWriteItems"):
            assert north.record_receipts(receipt("TEXT_DELIVERED", at=AT), receipt("TEXT_INVALID", at=AT)) == [1]
        assert phone(north) == ("valid", False)

    @pytest.mark.usefixtures("north")
    def test_what_does_not_fit_into_the_invocation_goes_back(self) -> None:
        records = [sqs_record(n, receipt("TEXT_INVALID", at=AT)) for n in range(2)]
        answer = handler({"Records": records}, Context([RESERVE, RESERVE - 1]))  # type: ignore[arg-type]  # a stand-in
        assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
