"""Which replies, receipts and numbers to be looked up are accepted, and why the others are not."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact import inbound
from patient_contact.events import Refused
from patient_contact.inbound import LookupRequest, Receipt, Reply, accept_lookup

# However slow the machine.
unhurried = settings(deadline=None, database=None)

SECRET = "+15035550101"
# The halves of the emoji 🙏 in UTF-16.
FIRST, SECOND = 0xD83D, 0xDE4F
NOW = datetime(2026, 11, 25, tzinfo=UTC)
MESSAGE = {
    "originationNumber": "+15035550101",
    "destinationNumber": "+15035559000",
    "messageKeyword": "KEYWORD_123456789012",
    "messageBody": "STOP",
    "inboundMessageId": "cae173d2-66b9-564c-8309-21f858e9fb84",
    "previousPublishedMessageId": "wJalrXUtnFEMI",
}
NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-east-1:123456789012:replies",
    "Timestamp": "2026-11-24T18:00:00.123Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEw6JRN",
    "SigningCertURL": "https://sns.example.org/cert.pem",
    "UnsubscribeURL": "https://sns.example.org/unsubscribe",
    "MessageAttributes": {},
}
DETAIL: dict[str, Any] = {
    "eventType": "TEXT_DELIVERED",
    "eventVersion": "1.0",
    "eventTimestamp": 1_764_007_200_123,
    "isFinal": True,
    "originationPhoneNumber": "+15035559000",
    "destinationPhoneNumber": "+15035550101",
    "isoCountryCode": "US",
    "mcc": "310",
    "mnc": "800",
    "messageId": "567f2a6b-d94c-4a86-9ea5-2b1f0b9e0001",
    "messageRequestTimestamp": 1_764_007_190_000,
    "messageEncoding": "GSM",
    "messageType": "TRANSACTIONAL",
    "messageStatus": "DELIVERED",
    "messageStatusDescription": "Message has been accepted by phone",
    "context": {
        "practice_id": "north",
        "patient_id": "p-1",
        "message_id": "automation:reminder:visit-1",
        "attempt": "7d1c",
    },
    "totalMessageParts": 1,
    "totalMessagePrice": 0.00645,
    "totalCarrierFee": 0.0,
}
EVENT = {
    "version": "0",
    "id": "92eb5ad2-84e8-4d8c-a8e2-8a0b8e5f0001",
    "detail-type": "Text Message Delivery Status Updated",
    "source": "aws.sms-voice",
    "account": "123456789012",
    "time": "2026-11-24T18:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:sms-voice:us-east-1:123456789012:sender-id/north"],
}


def notification(**changed: object) -> str:
    """A reply as it lies in the queue; parts of the message, or by the names of its own, of the envelope changed."""
    envelope = {name: value for name, value in changed.items() if name in ("Timestamp", "Message")}
    message = MESSAGE | {name: value for name, value in changed.items() if name not in envelope}
    return json.dumps({**NOTIFICATION, "Message": json.dumps(message), **envelope})


def event(detail_type: object = EVENT["detail-type"], **changed: object) -> str:
    return json.dumps({**EVENT, "detail-type": detail_type, "detail": DETAIL | changed})


def without(name: str, of: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in of.items() if key != name}


def refused(accept: Callable[[str], object], body: str) -> str:
    with pytest.raises(Refused) as why:
        accept(body)
    assert str(why.value) == why.value.reason
    assert SECRET not in why.value.reason
    return why.value.reason


NOT_JSON = ["", " ", "STOP", "{", "[" * 100_000, "1" * 5_000, "\x00"]
NO_OBJECT = ["null", "[]", "1", "true", '"STOP"', f'"{SECRET}"']


def accept_reply(body: str) -> tuple[Reply, datetime]:
    return inbound.accept_reply(body, NOW)


def accept_receipt(body: str) -> Receipt | None:
    return inbound.accept_receipt(body, NOW)


class TestReply:
    def test_a_reply_is_read_with_when_it_was_said(self) -> None:
        reply, said_at = accept_reply(notification())
        assert reply.model_dump() == {
            "phone_number": "+15035550101",
            "line_number": "+15035559000",
            "text": "STOP",
            "id": "cae173d2-66b9-564c-8309-21f858e9fb84",
        }
        assert said_at == datetime(2026, 11, 24, 18, 0, 0, 123_000, tzinfo=UTC)

    @pytest.mark.parametrize("unread", ["messageKeyword", "previousPublishedMessageId"])
    def test_what_is_not_needed_may_be_missing_or_anything(self, unread: str) -> None:
        left = json.dumps({**NOTIFICATION, "Message": json.dumps(without(unread, MESSAGE))})
        assert accept_reply(left) == accept_reply(notification(**{unread: None, "new": {"a": [1]}}))

    def test_a_time_with_another_offset_is_the_same_moment(self) -> None:
        _, said_at = accept_reply(notification(Timestamp="2026-11-24T10:00:00-08:00"))
        assert said_at == datetime(2026, 11, 24, 18, tzinfo=UTC)

    @pytest.mark.parametrize("at", ["2026-11-26T00:00:00.000Z", "2026-11-25T23:59:59.999Z", "1971-01-01T00:00:00Z"])
    def test_a_time_up_to_a_day_ahead_is_taken_as_it_is(self, at: str) -> None:
        assert accept_reply(notification(Timestamp=at))[1] == datetime.fromisoformat(at)

    @pytest.mark.parametrize(
        "at", ["2026-11-26T00:00:00.001Z", "2999-01-01T00:00:00.000Z", "9998-12-31T23:59:59.999-23:00"]
    )
    def test_one_further_ahead_counts_as_now_and_the_reply_is_not_lost(self, at: str) -> None:
        reply, said_at = accept_reply(notification(Timestamp=at))
        assert (reply.text, said_at) == ("STOP", NOW)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "👍",
            "STOP 🛑",
            "👩‍⚕️" * 100,
            "é\u0301\u200b\ufeff",
            "\ufeffSTOP",
            "line\nline\r\n\tline",
            "\x00",
            "x" * 20_000,
        ],
        ids=["empty", "blank", "thumb", "sign", "joined", "marks", "byte order mark", "lines", "nul", "20,000"],
    )
    def test_words_are_taken_as_they_came(self, text: str) -> None:
        assert accept_reply(notification(messageBody=text))[0].text == text

    def test_1_600_characters_are_taken(self) -> None:
        assert accept_reply(notification(messageBody="é" * 1_600))[0].text == "é" * 1_600

    def test_more_than_20_000_characters_are_refused(self) -> None:
        assert refused(accept_reply, notification(messageBody="x" * 20_001)) == "invalid reply: messageBody"

    def test_no_words_are_an_empty_text(self) -> None:
        assert accept_reply(notification(messageBody=None))[0].text == ""

    @pytest.mark.parametrize(
        ("characters", "mended"),
        [
            ([FIRST], "\ufffd"),
            ([SECOND], "\ufffd"),
            (["STOP ", FIRST], "STOP \ufffd"),
            ([SECOND, " STOP"], "\ufffd STOP"),
            (["ST", FIRST, "OP"], "ST\ufffdOP"),
            (["ST", SECOND, "OP"], "ST\ufffdOP"),
            ([FIRST, FIRST], "\ufffd\ufffd"),
            ([SECOND, FIRST], "\ufffd\ufffd"),
            ([FIRST, SECOND], "🙏"),
            ([FIRST, FIRST, SECOND, SECOND], "\ufffd🙏\ufffd"),
        ],
    )
    def test_half_an_emoji_is_mended_and_the_words_around_it_stay(
        self, characters: list[str | int], mended: str
    ) -> None:
        text = "".join(each if isinstance(each, str) else chr(each) for each in characters)
        assert accept_reply(notification(messageBody=text))[0].text == mended

    @unhurried
    @given(st.text(st.characters(exclude_categories=()), max_size=40))
    def test_every_text_is_taken_and_can_be_stored(self, text: str) -> None:
        taken = accept_reply(notification(messageBody=text))[0].text
        assert taken.encode().decode() == taken
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
        assert taken.replace("\ufffd", "") == whole.replace("\ufffd", "")

    @pytest.mark.parametrize("body", NOT_JSON)
    def test_what_is_not_json_is_refused(self, body: str) -> None:
        assert refused(accept_reply, body) == "invalid notification: not JSON"
        assert refused(accept_reply, notification(Message=body)) == "invalid reply: not JSON"

    @pytest.mark.parametrize("body", NO_OBJECT)
    def test_what_is_no_object_is_refused(self, body: str) -> None:
        assert refused(accept_reply, body) == "invalid notification: all of it"
        assert refused(accept_reply, notification(Message=body)) == "invalid reply: all of it"

    def test_a_message_without_its_envelope_is_refused(self) -> None:
        assert refused(accept_reply, json.dumps(MESSAGE)) == "invalid notification: Message, Timestamp"

    @pytest.mark.parametrize("missing", ["Timestamp", "Message"])
    def test_an_envelope_without_a_part_is_refused_with_its_field(self, missing: str) -> None:
        body = json.dumps(without(missing, json.loads(notification())))
        assert refused(accept_reply, body) == f"invalid notification: {missing}"

    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"Timestamp": None}, "Timestamp"),
            ({"Timestamp": "yesterday"}, "Timestamp"),
            ({"Timestamp": "2026-11-24T18:00:00"}, "Timestamp"),
            ({"Timestamp": "0001-01-01T00:00:00Z"}, "Timestamp"),
            ({"Timestamp": 1_764_007_200}, "Timestamp"),
            ({"Timestamp": SECRET}, "Timestamp"),
            ({"Message": None}, "Message"),
            ({"Message": MESSAGE}, "Message"),
            ({"Message": 1}, "Message"),
        ],
    )
    def test_an_envelope_that_is_wrong_is_refused_with_its_field(self, changed: dict[str, Any], field: str) -> None:
        assert refused(accept_reply, notification(**changed)) == f"invalid notification: {field}"

    @pytest.mark.parametrize("missing", ["originationNumber", "destinationNumber", "messageBody", "inboundMessageId"])
    def test_a_message_without_a_part_is_refused_with_its_field(self, missing: str) -> None:
        body = json.dumps({**NOTIFICATION, "Message": json.dumps(without(missing, MESSAGE))})
        assert refused(accept_reply, body) == f"invalid reply: {missing}"

    @pytest.mark.parametrize(
        ("changed", "fields"),
        [
            ({"originationNumber": "503-555-0101"}, "originationNumber"),
            ({"originationNumber": "15035550101"}, "originationNumber"),
            ({"originationNumber": f"{SECRET}\n"}, "originationNumber"),
            ({"originationNumber": "+0503555010"}, "originationNumber"),
            ({"originationNumber": "+1503"}, "originationNumber"),
            ({"originationNumber": f"{SECRET}#1"}, "originationNumber"),
            ({"originationNumber": "+" + "1" * 16}, "originationNumber"),
            ({"originationNumber": "+١٥٠٣٥٥٥٠١٠١"}, "originationNumber"),
            ({"originationNumber": None}, "originationNumber"),
            ({"originationNumber": 15_035_550_101}, "originationNumber"),
            ({"destinationNumber": None}, "destinationNumber"),
            ({"destinationNumber": 62_000}, "destinationNumber"),
            ({"destinationNumber": "x" * 33}, "destinationNumber"),
            ({"messageBody": 1}, "messageBody"),
            ({"messageBody": ["STOP"]}, "messageBody"),
            ({"messageBody": {"text": "STOP"}}, "messageBody"),
            ({"messageBody": True}, "messageBody"),
            ({"inboundMessageId": ""}, "inboundMessageId"),
            ({"inboundMessageId": "a#b"}, "inboundMessageId"),
            ({"inboundMessageId": "a b"}, "inboundMessageId"),
            ({"inboundMessageId": "a:b"}, "inboundMessageId"),
            ({"inboundMessageId": "a\n"}, "inboundMessageId"),
            ({"inboundMessageId": "x" * 129}, "inboundMessageId"),
            ({"inboundMessageId": None}, "inboundMessageId"),
            ({"inboundMessageId": 7}, "inboundMessageId"),
            ({"originationNumber": "", "inboundMessageId": ""}, "inboundMessageId, originationNumber"),
        ],
    )
    def test_a_message_that_is_wrong_is_refused_with_its_fields_and_never_their_values(
        self, changed: dict[str, Any], fields: str
    ) -> None:
        assert refused(accept_reply, notification(**changed)) == f"invalid reply: {fields}"

    def test_a_reply_to_a_short_code_is_read(self) -> None:
        assert accept_reply(notification(destinationNumber="62000"))[0].line_number == "62000"

    def test_an_id_of_128_characters_is_read(self) -> None:
        assert accept_reply(notification(inboundMessageId="x" * 128))[0].id == "x" * 128


class TestReceipt:
    def test_a_receipt_is_read_with_when_it_happened(self) -> None:
        receipt = accept_receipt(event())
        assert receipt is not None
        assert receipt.model_dump() == {
            "event_type": "TEXT_DELIVERED",
            "timestamp": 1_764_007_200_123,
            "provider_message_id": "567f2a6b-d94c-4a86-9ea5-2b1f0b9e0001",
            "phone_number": "+15035550101",
            "line_number": "+15035559000",
            "context": {
                "practice_id": "north",
                "patient_id": "p-1",
                "message_id": "automation:reminder:visit-1",
                "attempt": "7d1c",
            },
        }
        assert receipt.at == datetime(2025, 11, 24, 18, 0, 0, 123_000, tzinfo=UTC)

    def test_one_of_a_call_is_read_too(self) -> None:
        receipt = accept_receipt(event("Voice Message Delivery Status Updated", eventType="VOICE_ANSWERED"))
        assert receipt is not None
        assert receipt.event_type == "VOICE_ANSWERED"

    @pytest.mark.parametrize("name", ["destinationPhoneNumber", "originationPhoneNumber", "context"])
    def test_numbers_and_context_may_be_missing_or_null(self, name: str) -> None:
        missing = accept_receipt(json.dumps({**EVENT, "detail": without(name, DETAIL)}))
        assert missing is not None
        assert missing == accept_receipt(event(**{name: None}))
        assert missing.model_dump(by_alias=True)[name] is None

    @pytest.mark.parametrize(
        "context",
        [
            {},
            {"practice_id": "north"},
            {"practice_id": "north", "patient_id": "p 1", "message_id": "manual:1"},
            {"practice_id": "north", "patient_id": "p-1", "message_id": "a#b"},
            {"practice_id": "north", "patient_id": "p-1", "message_id": 7},
            {"orderId": "1234"},
            "north",
            ["north"],
            7,
        ],
    )
    def test_a_context_that_others_set_is_none(self, context: object) -> None:
        receipt = accept_receipt(event(context=context))
        assert receipt is not None
        assert receipt.context is None
        assert receipt.phone_number == "+15035550101"

    @pytest.mark.parametrize(
        "detail_type",
        ["Rcs Message Delivery Status Updated", "Media Message Delivery Status Updated", "text message", ""],
    )
    def test_what_else_the_service_says_is_no_receipt_whatever_is_in_it(self, detail_type: str) -> None:
        assert accept_receipt(event(detail_type)) is None
        assert accept_receipt(json.dumps({**EVENT, "detail-type": detail_type, "detail": {}})) is None

    @pytest.mark.parametrize("event_type", ["TEXT_INVALID", "TEXT_UNREACHABLE", "TEXT_SOMETHING_NEW", "RCS_READ"])
    def test_every_event_type_is_read_known_or_not(self, event_type: str) -> None:
        receipt = accept_receipt(event(eventType=event_type))
        assert receipt is not None
        assert receipt.event_type == event_type

    @pytest.mark.parametrize("body", NOT_JSON)
    def test_what_is_not_json_is_refused(self, body: str) -> None:
        assert refused(accept_receipt, body) == "invalid event: not JSON"

    @pytest.mark.parametrize("body", NO_OBJECT)
    def test_what_is_no_object_is_refused(self, body: str) -> None:
        assert refused(accept_receipt, body) == "invalid event: all of it"

    @pytest.mark.parametrize(
        ("changed", "fields"),
        [
            ({"detail-type": None}, "detail-type"),
            ({"detail-type": 1}, "detail-type"),
            ({"detail": None}, "detail"),
            ({"detail": [SECRET]}, "detail"),
            ({"detail": SECRET}, "detail"),
            ({"detail": SECRET, "detail-type": [SECRET]}, "detail, detail-type"),
        ],
    )
    def test_an_envelope_that_is_wrong_is_refused_with_its_fields(self, changed: dict[str, Any], fields: str) -> None:
        body = json.dumps({**EVENT, "detail": DETAIL, **changed})
        assert refused(accept_receipt, body) == f"invalid event: {fields}"

    @pytest.mark.parametrize("missing", ["detail", "detail-type"])
    def test_an_envelope_without_a_part_is_refused_with_its_field(self, missing: str) -> None:
        assert refused(accept_receipt, json.dumps(without(missing, json.loads(event())))) == f"invalid event: {missing}"

    @pytest.mark.parametrize("missing", ["eventType", "eventTimestamp", "messageId"])
    def test_a_detail_without_a_part_is_refused_with_its_field(self, missing: str) -> None:
        body = json.dumps({**EVENT, "detail": without(missing, DETAIL)})
        assert refused(accept_receipt, body) == f"invalid receipt: {missing}"

    @pytest.mark.parametrize(
        ("changed", "fields"),
        [
            ({"eventType": "text_delivered"}, "eventType"),
            ({"eventType": SECRET}, "eventType"),
            ({"eventType": ""}, "eventType"),
            ({"eventType": "T" * 65}, "eventType"),
            ({"eventType": None}, "eventType"),
            ({"eventTimestamp": "1764007200123"}, "eventTimestamp"),
            ({"eventTimestamp": "2026-11-24T18:00:00Z"}, "eventTimestamp"),
            ({"eventTimestamp": 1_764_007_200.5}, "eventTimestamp"),
            ({"eventTimestamp": -1}, "eventTimestamp"),
            ({"eventTimestamp": 253_370_764_800_000}, "eventTimestamp"),
            ({"eventTimestamp": 10**400}, "eventTimestamp"),
            ({"eventTimestamp": float("nan")}, "eventTimestamp"),
            ({"eventTimestamp": True}, "eventTimestamp"),
            ({"eventTimestamp": None}, "eventTimestamp"),
            ({"messageId": ""}, "messageId"),
            ({"messageId": "x" * 201}, "messageId"),
            ({"messageId": 7}, "messageId"),
            ({"destinationPhoneNumber": "503-555-0101"}, "destinationPhoneNumber"),
            ({"destinationPhoneNumber": f"{SECRET}#"}, "destinationPhoneNumber"),
            ({"destinationPhoneNumber": 15_035_550_101}, "destinationPhoneNumber"),
            ({"originationPhoneNumber": "x" * 65}, "originationPhoneNumber"),
            ({"originationPhoneNumber": 62_000}, "originationPhoneNumber"),
            ({"messageId": None, "eventType": None}, "eventType, messageId"),
        ],
    )
    def test_a_detail_that_is_wrong_is_refused_with_its_fields_and_never_their_values(
        self, changed: dict[str, Any], fields: str
    ) -> None:
        assert refused(accept_receipt, event(**changed)) == f"invalid receipt: {fields}"

    @pytest.mark.parametrize("timestamp", [0, 1, int((NOW + timedelta(days=1)).timestamp() * 1_000)])
    def test_a_time_up_to_a_day_ahead_is_read(self, timestamp: int) -> None:
        receipt = accept_receipt(event(eventTimestamp=timestamp))
        assert receipt is not None
        assert receipt.at.timestamp() * 1_000 == pytest.approx(timestamp, abs=1)

    @pytest.mark.parametrize("timestamp", [int((NOW + timedelta(days=1)).timestamp() * 1_000) + 1, 253_370_764_799_999])
    def test_one_from_the_future_is_refused_since_later_ones_would_be_older(self, timestamp: int) -> None:
        assert refused(accept_receipt, event(eventTimestamp=timestamp)) == "from the future"


class TestLookup:
    def test_a_number_of_a_practice_is_read(self) -> None:
        body = json.dumps({"practice_id": "north", "phone_number": SECRET})
        assert accept_lookup(body) == LookupRequest(practice_id="north", phone_number=SECRET)

    @pytest.mark.parametrize("body", NOT_JSON)
    def test_what_is_not_json_is_refused(self, body: str) -> None:
        assert refused(accept_lookup, body) == "invalid lookup: not JSON"

    @pytest.mark.parametrize("body", NO_OBJECT)
    def test_what_is_no_object_is_refused(self, body: str) -> None:
        assert refused(accept_lookup, body) == "invalid lookup: all of it"

    @pytest.mark.parametrize(
        ("asked", "fields"),
        [
            ({}, "phone_number, practice_id"),
            ({"practice_id": "north"}, "phone_number"),
            ({"phone_number": SECRET}, "practice_id"),
            ({"practice_id": "north", "phone_number": "503-555-0101"}, "phone_number"),
            ({"practice_id": "north", "phone_number": None}, "phone_number"),
            ({"practice_id": "no#th", "phone_number": SECRET}, "practice_id"),
            ({"practice_id": 7, "phone_number": SECRET}, "practice_id"),
            ({"practice_id": "north", "phone_number": SECRET, "patient_id": "p-1"}, "unknown field"),
            ({"practice_id": "north", "phone_number": SECRET, SECRET: 1}, "unknown field"),
        ],
    )
    def test_one_that_is_wrong_is_refused_with_its_fields_and_never_their_values(
        self, asked: dict[str, Any], fields: str
    ) -> None:
        assert refused(accept_lookup, json.dumps(asked)) == f"invalid lookup: {fields}"


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def reason(accept: Callable[[str], object], body: str) -> str | None:
    """Why a body is refused; None when it is read. Nothing else may come of it."""
    try:
        accept(body)
    except Refused as why:
        return why.reason
    return None


class TestAnything:
    @pytest.mark.parametrize("accept", [accept_reply, accept_receipt, accept_lookup])
    @unhurried
    @given(body=st.text(max_size=60) | json_values.map(json.dumps))
    def test_any_body_is_read_or_refused_and_never_repeated(self, accept: Callable[[str], object], body: str) -> None:
        assert SECRET not in (reason(accept, body) or "")

    @unhurried
    @given(st.sampled_from(sorted(DETAIL)), json_values)
    def test_anything_in_the_place_of_a_part_of_a_receipt_is_read_or_refused(self, name: str, value: object) -> None:
        assert reason(accept_receipt, event(**{name: value})) in (None, f"invalid receipt: {name}", "from the future")

    @unhurried
    @given(st.sampled_from(sorted(MESSAGE)), json_values)
    def test_anything_in_the_place_of_a_part_of_a_reply_is_read_or_refused(self, name: str, value: object) -> None:
        assert reason(accept_reply, notification(**{name: value})) in (None, f"invalid reply: {name}")
