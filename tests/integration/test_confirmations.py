"""Confirmations of keywords: on lines for which AWS answers none, one text each, soon or not at all."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from botocore import exceptions as botocore_errors

from patient_contact import aws, confirmations, sends, table
from tests.integration.sending import BILLING, CLINIC, MAIN, UUID, published, send, to_send, wire
from tests.integration.service import CELL, TIME, Matching, Service, client_error, fault, receipt, reply

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
LINE = {**MAIN, "self_managed_opt_outs": True, "opt_out_list": "north", "configuration_set": "receipts"}
# It confirms on `main`, not on `billing`.
CLINIC_CONFIRMS: dict[str, Any] = CLINIC | {"lines": [LINE, BILLING]}
BODIES = {
    "STOP": (
        "North Clinic: You are opted out and will get no more texts from this number. Reply START to opt in again."
    ),
    "START": ("North Clinic: You are opted in to texts from this number again. Reply HELP for help, STOP to opt out."),
    "HELP": (
        "North Clinic: Messages about your care. Call +1 503-555-9000 for help. "
        "Msg & data rates may apply. Reply STOP to end."
    ),
}
KINDS = {"STOP": "opt_out", "START": "opt_in", "HELP": "help"}
OPTED_OUT = "DESTINATION_PHONE_NUMBER_OPTED_OUT"


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """It is noon, until a test says otherwise."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def clinic(north: Service, clock: time_machine.Traveller) -> Service:
    """The practice `north`, which sends, and confirms keywords on its line `main`."""
    assert north.put("north", CLINIC_CONFIRMS).status == 200
    north.new_stream_records()
    return north


def said(text: str, reply_id: str = "reply-1", *, ago: float = 0, **more: Any) -> dict[str, Any]:
    """Give a reply that was written so many seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    return reply(text, reply_id, at=at.isoformat(timespec="microseconds").replace("+00:00", "Z"), **more)


def record(service: Service, *replies: dict[str, Any]) -> list[str]:
    """Record replies, and give the bodies that send_message gets."""
    assert service.record_replies(*replies) == []
    return to_send(service)


def kept(service: Service, reply_id: str = "reply-1", number: str = CELL) -> dict[str, Any]:
    item = table.get(table.confirmation_key("north", number, reply_id))
    assert item is not None
    return item


def confirmed(service: Service) -> list[str]:
    return [each["body"] for each in service.carriers.accepted]


class TestOnce:
    @pytest.mark.parametrize("text", BODIES)
    def test_a_keyword_that_comes_twice_is_confirmed_once(self, clinic: Service, text: str) -> None:
        bodies = record(clinic, said(text), said(text))
        assert len(bodies) == 1
        assert record(clinic, said(text)) == []
        for _ in range(3):
            assert send(clinic, *bodies, *bodies[:1]) in ([], [0], [1])
        assert confirmed(clinic) == [BODIES[text]]

    @pytest.mark.parametrize("text", BODIES)
    def test_a_confirmation_is_a_text_to_the_number_and_names_no_patient(self, clinic: Service, text: str) -> None:
        with wire() as requests:
            assert send(clinic, *record(clinic, said(text))) == []
        context = {"practice_id": "north", "message_id": "confirmation:reply-1", "attempt": UUID}
        asked = {
            "MessageType": "TRANSACTIONAL",
            "DestinationPhoneNumber": CELL,
            "OriginationIdentity": MAIN["phone_number"],
            "ConfigurationSetName": "receipts",
            "MessageBody": BODIES[text],
            "TimeToLive": 300,
            "Context": context,
        }
        assert requests == [("SendTextMessage", asked)]

    @pytest.mark.parametrize("text", BODIES)
    def test_what_is_kept_of_it_says_what_became_of_it(self, clinic: Service, text: str) -> None:
        assert send(clinic, *record(clinic, said(text))) == []
        (message,) = clinic.carriers.accepted
        noon = "2026-11-25T12:00:00.000000Z"
        assert kept(clinic) == {
            "PK": table.number_pk("north", CELL),
            "SK": "CONFIRMATION#reply-1",
            "at": noon,
            "kind": KINDS[text],
            "line": "main",
            "state": "sent",
            "sender": "service",
            "channel": "text",
            "destination": CELL,
            "send_before": "2026-11-25T12:05:00.000000Z",
            "expires_at": int((NOON + timedelta(days=sends.CONFIRMATION_DAYS)).timestamp()),
            "attempt": message["context"]["attempt"],
            "claimed_at": noon,
            "provider_message_id": message["message_id"],
            "life": [
                {
                    "state": "sending",
                    "at": noon,
                    "attempt": message["context"]["attempt"],
                    "channel": "text",
                    "destination": CELL,
                },
                {"state": "sent", "at": noon, "provider_message_id": message["message_id"]},
            ],
        }

    @pytest.mark.parametrize("text", BODIES)
    def test_only_that_it_is_to_be_sent_is_announced(self, clinic: Service, text: str) -> None:
        assert clinic.record_replies(said(text)) == []
        told = [detail for kind, detail in published(clinic) if kind == "MessageRouted"]
        assert told == [
            {
                "version": 1,
                "event_id": Matching(r"\S+"),
                "practice_id": "north",
                "phone_number": CELL,
                "message_id": "confirmation:reply-1",
                "line": "main",
                "sender": "service",
                "channel": "text",
                "send_before": "2026-11-25T12:05:00.000000Z",
            }
        ]
        body = json.dumps({"time": "2026-11-25T12:00:00Z", "detail-type": "MessageRouted", "detail": told[0]})
        assert send(clinic, body) == []
        assert published(clinic) == []

    def test_a_number_that_no_patient_has_is_answered_as_well(self, clinic: Service) -> None:
        assert send(clinic, *record(clinic, said("STOP", number="+15035550177"))) == []
        assert [each["destination"] for each in clinic.carriers.accepted] == ["+15035550177"]

    def test_the_opt_out_itself_is_recorded_once_with_its_confirmation(self, clinic: Service) -> None:
        record(clinic, said("STOP"), said("STOP"))
        found = clinic.post("north/numbers/search", {"phone_number": CELL}).body
        assert [(each["status"], each["source"]) for each in found["history"]] == [("opted_out", "keyword")]

    def test_help_changes_no_consent(self, clinic: Service) -> None:
        record(clinic, said("HELP"))
        assert clinic.post("north/numbers/search", {"phone_number": CELL}).body["history"] == []

    def test_who_is_opted_out_gets_help_and_the_confirmation_and_no_more(self, clinic: Service) -> None:
        assert send(clinic, *record(clinic, said("STOP"), said("HELP", "reply-2"))) == []
        assert sorted(confirmed(clinic)) == sorted([BODIES["STOP"], BODIES["HELP"]])

    def test_one_keyword_after_the_other_is_confirmed_each(
        self, clinic: Service, clock: time_machine.Traveller
    ) -> None:
        for n, text in enumerate(("STOP", "START", "STOP")):
            assert send(clinic, *record(clinic, said(text, f"reply-{n}"))) == []
            clock.shift(timedelta(seconds=10))
        assert confirmed(clinic) == [BODIES["STOP"], BODIES["START"], BODIES["STOP"]]


class TestNone:
    """What is not confirmed."""

    @pytest.mark.parametrize("text", BODIES)
    def test_a_line_for_which_aws_answers_keywords(self, clinic: Service, text: str) -> None:
        assert record(clinic, said(text, line=BILLING["phone_number"])) == []

    @pytest.mark.parametrize("text", BODIES)
    def test_a_practice_whose_sending_is_off(self, clinic: Service, text: str) -> None:
        assert clinic.put("north", CLINIC_CONFIRMS | {"sending": False}).status == 200
        assert record(clinic, said(text)) == []

    @pytest.mark.parametrize("text", ["YES I will come", "please stop texting me", "Thank you", "👍"])
    def test_what_is_no_keyword(self, clinic: Service, text: str) -> None:
        assert record(clinic, said(text)) == []

    @pytest.mark.parametrize("text", BODIES)
    @pytest.mark.parametrize(("ago", "count"), [(299.999999, 1), (300, 0), (86_400, 0)])
    def test_a_reply_that_comes_five_minutes_late(self, clinic: Service, text: str, ago: float, count: int) -> None:
        assert len(record(clinic, said(text, ago=ago))) == count

    @pytest.mark.parametrize("text", ["STOP", "START"])
    def test_the_late_reply_itself_counts_all_the_same(self, clinic: Service, text: str) -> None:
        record(clinic, said(text, ago=3_600))
        found = clinic.post("north/numbers/search", {"phone_number": CELL}).body
        assert [each["source"] for each in found["history"]] == ["keyword"]


class TestWithdrawn:
    def withdrawn(self, service: Service, reason: str, bodies: list[str], reply_id: str = "reply-1") -> None:
        with wire() as requests:
            assert send(service, *bodies) == []
        assert requests == []
        known = kept(service, reply_id)
        assert (known["state"], known["withdrawn"]) == ("withdrawn", reason)
        assert known["life"] == [{"state": "withdrawn", "at": TIME, "reason": reason}]
        # Nobody acts on it.
        assert published(service) == []

    @pytest.mark.parametrize("text", BODIES)
    def test_what_the_queue_kept_for_five_minutes(
        self, clinic: Service, clock: time_machine.Traveller, text: str
    ) -> None:
        bodies = record(clinic, said(text))
        clock.shift(timedelta(minutes=5))
        self.withdrawn(clinic, "EXPIRED", bodies)

    @pytest.mark.parametrize("text", BODIES)
    def test_the_five_minutes_count_from_when_it_was_said(
        self, clinic: Service, clock: time_machine.Traveller, text: str
    ) -> None:
        bodies = record(clinic, said(text, ago=240))
        clock.shift(timedelta(seconds=60))
        self.withdrawn(clinic, "EXPIRED", bodies)

    def test_not_what_the_queue_kept_for_less(self, clinic: Service, clock: time_machine.Traveller) -> None:
        bodies = record(clinic, said("STOP"))
        clock.shift(timedelta(minutes=5) - timedelta(microseconds=1))
        assert send(clinic, *bodies) == []
        assert [each["time_to_live"] for each in clinic.carriers.accepted] == [5]

    @pytest.mark.parametrize(("first", "then"), [("STOP", "START"), ("START", "STOP")])
    def test_the_older_of_two_keywords(self, clinic: Service, first: str, then: str) -> None:
        bodies = record(clinic, said(first, ago=2), said(then, "reply-2", ago=1))
        assert len(bodies) == 2
        assert send(clinic, *bodies) == []
        assert confirmed(clinic) == [BODIES[then]]
        assert kept(clinic)["withdrawn"] == "SUPERSEDED"

    def test_the_older_of_two_keywords_that_comes_later(self, clinic: Service) -> None:
        bodies = record(clinic, said("START", "reply-2", ago=1))
        bodies += record(clinic, said("STOP", ago=2))
        assert send(clinic, *bodies) == []
        assert confirmed(clinic) == [BODIES["START"]]
        assert kept(clinic)["withdrawn"] == "SUPERSEDED"

    def test_an_opt_in_when_staff_have_recorded_an_opt_out_since(
        self, clinic: Service, clock: time_machine.Traveller
    ) -> None:
        bodies = record(clinic, said("START"))
        clock.shift(timedelta(seconds=1))
        wish = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert clinic.put("north/patients/p-1/sms-consent", wish).status == 200
        clinic.new_stream_records()
        self.withdrawn(clinic, "SUPERSEDED", bodies)

    @pytest.mark.parametrize("text", BODIES)
    @pytest.mark.parametrize(
        "changes",
        [{"sending": False}, {"lines": [{**LINE, "self_managed_opt_outs": False}, BILLING]}],
        ids=["sending is off", "AWS answers keywords"],
    )
    def test_when_the_practice_has_turned_it_off_since(
        self, clinic: Service, text: str, changes: dict[str, Any]
    ) -> None:
        bodies = record(clinic, said(text))
        assert clinic.put("north", CLINIC_CONFIRMS | changes).status == 200
        self.withdrawn(clinic, "SENDING_OFF", bodies)

    def test_when_the_stacks_switch_is_off(self, clinic: Service) -> None:
        bodies = record(clinic, said("STOP"))
        pk, sk = sends.SWITCH
        table.put({"PK": pk, "SK": sk, "off": True})
        self.withdrawn(clinic, "SENDING_OFF", bodies)

    def test_when_the_practice_has_the_line_no_more(self, clinic: Service) -> None:
        """Help records no consent: its line may go."""
        bodies = record(clinic, said("HELP"))
        assert clinic.put("north", CLINIC_CONFIRMS | {"lines": [BILLING], "default_line": "billing"}).status == 200
        self.withdrawn(clinic, "UNKNOWN_LINE", bodies)


class TestOptOutList:
    """AWS keeps a list of its own, by which it refuses texts; a START undoes what is on it."""

    @pytest.fixture
    def listed(self, clinic: Service) -> Service:
        clinic.carriers.opt_out_lists[MAIN["phone_number"]] = "north"
        clinic.carriers.opt_out(CELL, "north")
        return clinic

    def test_a_start_takes_the_number_from_the_list_and_is_confirmed(self, listed: Service) -> None:
        bodies = record(listed, said("START"))
        with wire() as requests:
            assert send(listed, *bodies) == []
            assert send(listed, *bodies) == []
        assert [operation for operation, _ in requests] == [
            "SendTextMessage",
            "DeleteOptedOutNumber",
            "SendTextMessage",
        ]
        assert requests[1][1] == {"OptOutListName": "north", "OptedOutNumber": CELL}
        assert confirmed(listed) == [BODIES["START"]]
        known = kept(listed)
        assert (known["state"], known["refused"]) == (
            "sent",
            {OPTED_OUT: {"times": 1, "at": TIME, "attempt": UUID}},
        )
        assert listed.get("north/patients/p-1").body["sms_consent"]["status"] == "Opted In"

    def test_where_it_cannot_be_taken_from_the_list_the_carriers_opt_out_stands(self, listed: Service) -> None:
        refused = fault(aws.sms_sender(), "DeleteOptedOutNumber", lambda _: client_error("AccessDeniedException"))
        with wire() as requests, refused as asked:
            assert send(listed, *record(listed, said("START"))) == []
        assert len(asked) == 1
        assert [operation for operation, _ in requests] == ["SendTextMessage"] * 2
        known = kept(listed)
        assert (known["state"], known["code"]) == ("failed", OPTED_OUT)
        (consent,) = listed.get("north/patients/p-1").body["sms_consent"]["numbers"]
        assert (consent["status"], consent["source"]) == ("opted_out", "carrier")
        assert known["life"][-1] == {"state": "failed", "at": TIME, "code": OPTED_OUT}

    def test_where_the_line_has_no_list_the_carriers_opt_out_stands(self, listed: Service) -> None:
        line = {name: value for name, value in LINE.items() if name != "opt_out_list"}
        assert listed.put("north", CLINIC_CONFIRMS | {"lines": [line, BILLING]}).status == 200
        with wire() as requests:
            assert send(listed, *record(listed, said("START"))) == []
        assert [operation for operation, _ in requests] == ["SendTextMessage"]
        assert kept(listed)["state"] == "failed"

    @pytest.mark.parametrize("text", ["STOP", "HELP"])
    def test_nothing_else_takes_a_number_from_the_list(self, listed: Service, text: str) -> None:
        with wire() as requests:
            assert send(listed, *record(listed, said(text))) == []
        assert [operation for operation, _ in requests] == ["SendTextMessage"]
        assert (kept(listed)["state"], kept(listed)["code"]) == ("failed", OPTED_OUT)
        assert ("north", CELL) in listed.carriers.opted_out


class TestOutcomes:
    """A confirmation has the life of any message, but that nobody resolves it."""

    def test_one_whose_answer_is_lost_is_never_sent_again_and_is_not_listed_for_staff(self, clinic: Service) -> None:
        bodies = record(clinic, said("STOP"))

        def lost(*_: object) -> None:
            raise botocore_errors.ReadTimeoutError(endpoint_url="https://aws.example")

        with wire(lost) as requests:
            for _ in range(3):
                assert send(clinic, *bodies) == []
        assert len(requests) == 1
        known = kept(clinic)
        assert (known["state"], known["code"]) == ("unknown", "ReadTimeoutError")
        assert "GSI1PK" not in known
        assert clinic.get("north/decisions/unknown").body["items"] == []

    def test_a_receipt_says_that_it_was_sent(self, clinic: Service) -> None:
        bodies = record(clinic, said("STOP"))

        def lost(*_: object) -> None:
            raise botocore_errors.ReadTimeoutError(endpoint_url="https://aws.example")

        with wire(lost) as requests:
            assert send(clinic, *bodies) == []
        at = int(NOON.timestamp() * 1000)
        told = receipt("TEXT_DELIVERED", "provider-9", at=at, context=requests[0][1]["Context"])
        assert clinic.record_receipts(told) == []
        known = kept(clinic)
        assert (known["state"], known["provider_message_id"]) == ("sent", "provider-9")
        assert known["delivery"] == {"status": "delivered", "code": "TEXT_DELIVERED", "at": TIME}

    def test_a_receipt_that_does_not_name_the_number_finds_none(self, clinic: Service) -> None:
        assert send(clinic, *record(clinic, said("STOP"))) == []
        before = kept(clinic)
        context = clinic.carriers.accepted[0]["context"]
        told = receipt("TEXT_SENT", at=int(NOON.timestamp() * 1000), context=context, destinationPhoneNumber=None)
        assert clinic.record_receipts(told) == []
        assert kept(clinic) == before

    def test_one_that_is_throttled_goes_back_and_is_sent(self, clinic: Service) -> None:
        bodies = record(clinic, said("STOP"))
        answers = iter([(400, {"__type": "ThrottlingException"})])
        with wire(lambda *_: next(answers, None)):
            assert send(clinic, *bodies) == [0]
            assert send(clinic, *bodies) == []
        assert confirmed(clinic) == [BODIES["STOP"]]

    def test_a_number_that_is_none_is_marked_and_the_confirmation_has_failed(self, clinic: Service) -> None:
        bodies = record(clinic, said("STOP"))
        fields = [{"Name": "DestinationPhoneNumber", "Message": "is none"}]
        error = {"__type": "ValidationException", "Reason": "INVALID_PARAMETER", "Fields": fields}
        with wire(lambda *_: (400, error)) as requests:
            assert send(clinic, *bodies) == []
        assert len(requests) == 1
        assert kept(clinic)["state"] == "failed"
        assert clinic.get("north/patients/p-1").body["phones"][0]["status"] == "invalid"

    def test_one_that_is_refused_for_good_has_failed(self, clinic: Service) -> None:
        bodies = record(clinic, said("HELP"))
        with wire(lambda *_: (400, {"__type": "AccessDeniedException"})):
            assert send(clinic, *bodies) == []
        assert (kept(clinic)["state"], kept(clinic)["code"]) == ("failed", "AccessDeniedException")

    def test_the_reply_of_another_number_under_the_same_id_is_another_one(self, clinic: Service) -> None:
        bodies = record(clinic, said("STOP"), said("STOP", number="+15035550177"))
        assert send(clinic, *bodies) == []
        assert sorted(each["destination"] for each in clinic.carriers.accepted) == [CELL, "+15035550177"]


def test_five_minutes_are_longer_than_the_queue_hides_a_message_once() -> None:
    """One that was throttled once is still in time."""
    assert confirmations.WITHIN_MINUTES * 60 > 180
