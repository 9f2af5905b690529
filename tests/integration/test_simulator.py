"""The simulator of AWS End User Messaging, asked by a client of AWS over HTTP."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import phonenumbers
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.session import get_session

from tests.integration.service import EMAIL_SENDER, REGION, TIME, Matching, deployed, simulated_carriers
from tests.local import demo_data, sms
from tests.local.stack import start

MOBILE = "+12065550199"
LINE = "+15035559000"
CONTEXT = {"practice_id": "north", "patient_id": "p-1", "message_id": "manual:key-1", "attempt": "a-1"}
UUID = Matching(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAGIC = (
    sms.OPTED_OUT_AT_CARRIER,
    sms.NOT_A_NUMBER,
    sms.SEND_THROTTLES_TWICE,
    sms.ANSWER_IS_LOST,
    sms.ANSWERS_500,
    sms.NEVER_ANSWERS,
    sms.ANSWER_IS_LOST_RECEIPT_COMES,
    sms.UNREACHABLE,
)
OPERATIONS = {"text": "SendTextMessage", "call": "SendVoiceMessage"}

Played = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def played() -> Played:
    """The receipts that were played so far."""
    return []


@pytest.fixture
def carriers(played: Played) -> Iterator[sms.Server]:
    with simulated_carriers(lambda detail_type, detail: played.append((detail_type, detail))) as server:
        yield server


@pytest.fixture
def client(carriers: sms.Server) -> Any:
    return client_of(f"http://127.0.0.1:{carriers.server_address[1]}")


@cache
def session() -> Any:
    """A session that reads the descriptions of services once."""
    return get_session()


def client_of(url: str) -> Any:
    config = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
    return session().create_client(
        "pinpoint-sms-voice-v2",
        REGION,
        endpoint_url=url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=config,
    )


def message(number: str = MOBILE, **changes: object) -> dict[str, Any]:
    asked = {
        "DestinationPhoneNumber": number,
        "OriginationIdentity": LINE,
        "MessageBody": "See you on Monday.",
        "Context": CONTEXT,
        "TimeToLive": 60,
        **changes,
    }
    return {name: value for name, value in asked.items() if value is not None}


def send(client: Any, channel: str = "text", number: str = MOBILE, **changes: object) -> dict[str, Any]:
    operation = client.send_text_message if channel == "text" else client.send_voice_message
    return without_metadata(operation(**message(number, **changes)))


def without_metadata(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def refusal(client: Any, channel: str = "text", number: str = MOBILE, **changes: object) -> dict[str, Any]:
    with pytest.raises(ClientError) as refused:
        send(client, channel, number, **changes)
    return told(refused.value)


def told(refused: ClientError) -> dict[str, Any]:
    """What a refusal says: its status and code, and all fields of its exception."""
    response: Any = refused.response
    status, code = response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]
    fields = {name: value for name, value in response.items() if name not in ("Error", "ResponseMetadata")}
    return {"status": status, "code": code, **fields}


def invalid(field: str, complaint: str, reason: str = "INVALID_PARAMETER") -> dict[str, Any]:
    return {
        "status": 400,
        "code": "ValidationException",
        "Message": "The request is not valid",
        "Reason": reason,
        "Fields": [{"Name": field, "Message": complaint}],
    }


THROTTLED = {"status": 400, "code": "ThrottlingException", "Message": "Rate exceeded"}


def opted_out(number: str) -> dict[str, Any]:
    return {
        "status": 400,
        "code": "ConflictException",
        "Message": "The destination phone number is opted out",
        "Reason": "DESTINATION_PHONE_NUMBER_OPTED_OUT",
        "ResourceType": "opted-out-number",
        "ResourceId": number,
    }


def asked_over_http(carriers: sms.Server, method: str, path: str) -> tuple[int, str | None, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", carriers.server_address[1])
    connection.request(method, path)
    answer = connection.getresponse()
    told = answer.status, answer.headers["content-type"], json.load(answer)
    connection.close()
    return told


def wait_for_receipts(played: Played, number: int) -> None:
    deadline = time.monotonic() + 5
    while len(played) < number:
        assert time.monotonic() < deadline, f"{len(played)} receipts, not {number}"
        time.sleep(0.01)


class TestAcceptance:
    @pytest.mark.parametrize("channel", ["text", "call"])
    def test_a_message_is_accepted_under_an_id_and_told_with_all_that_was_asked(
        self, carriers: sms.Server, client: Any, channel: str
    ) -> None:
        answer = send(client, channel, ConfigurationSetName="receipts")
        assert answer == {"MessageId": UUID}
        assert carriers.accepted == [
            {
                "message_id": answer["MessageId"],
                "channel": channel,
                "destination": MOBILE,
                "origination": LINE,
                "body": "See you on Monday.",
                "context": CONTEXT,
                "configuration_set": "receipts",
                "time_to_live": 60,
                "at": TIME,
            }
        ]
        assert carriers.requests == {(OPERATIONS[channel], MOBILE): 1}

    def test_what_need_not_be_said_is_told_as_nothing(self, carriers: sms.Server, client: Any) -> None:
        send(client, Context=None, TimeToLive=None)
        (accepted,) = carriers.accepted
        assert (accepted["context"], accepted["configuration_set"], accepted["time_to_live"]) == ({}, None, None)

    def test_the_same_message_again_is_another_message(self, carriers: sms.Server, client: Any) -> None:
        ids = [send(client)["MessageId"] for _ in range(2)]
        assert [each["message_id"] for each in carriers.accepted] == ids
        assert ids[0] != ids[1]
        assert carriers.requests == {("SendTextMessage", MOBILE): 2}

    def test_anybody_may_read_what_was_accepted_newest_last(self, carriers: sms.Server, client: Any) -> None:
        assert asked_over_http(carriers, "GET", "/accepted") == (200, "application/json", [])
        for channel in ("text", "call"):
            send(client, channel)
        status, kind, accepted = asked_over_http(carriers, "GET", "/accepted")
        assert (status, kind) == (200, "application/json")
        assert accepted == carriers.accepted
        assert [each["channel"] for each in accepted] == ["text", "call"]

    @pytest.mark.parametrize("path", ["/", "/accept", "/accepted/", "/accepted?all"])
    def test_any_other_path_is_not_found(self, carriers: sms.Server, path: str) -> None:
        assert asked_over_http(carriers, "GET", path) == (404, "application/json", {"message": "Not Found"})

    def test_all_is_forgotten_when_told_so(self, carriers: sms.Server, client: Any) -> None:
        send(client)
        client.carrier_lookup(PhoneNumber=MOBILE)
        carriers.opt_out(MOBILE)
        carriers.forget()
        assert (carriers.accepted, carriers.requests, carriers.lookups, carriers.opted_out) == ([], {}, {}, {})


class TestWhatIsNotValid:
    @pytest.mark.parametrize("channel", ["text", "call"])
    @pytest.mark.parametrize(
        ("field", "value", "complaint"),
        [
            ("DestinationPhoneNumber", "206-555-0199", "is not a phone number"),
            ("DestinationPhoneNumber", "12065550199", "is not a phone number"),
            ("DestinationPhoneNumber", "+02065550199", "is not a phone number"),
            ("OriginationIdentity", "my line", "is not an origination identity"),
            ("OriginationIdentity", "x" * 257, "is not an origination identity"),
            ("ConfigurationSetName", "my set", "is not a configuration set"),
            ("TimeToLive", 259_201, "must be from 5 to 259200"),
            ("Context", {f"key-{n}": "x" for n in range(6)}, "must have at most 5 entries"),
            *(
                (
                    "Context",
                    context,
                    "must have keys of 1 to 100 and values of 1 to 800 characters, without blanks around them",
                )
                for context in ({"k" * 101: "x"}, {"a key": "x"}, {"key": "x" * 801}, {"key": " x"}, {"key": "x\n"})
            ),
        ],
    )
    def test_it_is_refused_by_its_field_and_not_accepted(
        self, carriers: sms.Server, client: Any, channel: str, field: str, value: Any, complaint: str
    ) -> None:
        assert refusal(client, channel, **{field: value}) == invalid(field, complaint)
        assert carriers.accepted == []

    @pytest.mark.parametrize(("channel", "longest"), [("text", 1_600), ("call", 6_000)])
    def test_a_body_is_not_blank_and_only_so_long(self, client: Any, channel: str, longest: int) -> None:
        complaint = f"must have 1 to {longest} characters and not be blank"
        assert send(client, channel, MessageBody="é" * longest) == {"MessageId": UUID}
        for body in (" \n ", "é" * (longest + 1)):
            assert refusal(client, channel, MessageBody=body) == invalid("MessageBody", complaint)

    @pytest.mark.parametrize("field", ["OriginationIdentity", "MessageBody"])
    def test_what_is_missing_is_named(self, client: Any, field: str) -> None:
        nothing: dict[str, Any] = {field: None}
        assert refusal(client, **nothing) == invalid(field, "must be present", "MISSING_PARAMETER")

    def test_all_complaints_come_at_once(self, client: Any) -> None:
        answer = refusal(client, MessageBody=" ", Context={f"key-{n}": "x" for n in range(6)})
        assert [each["Name"] for each in answer["Fields"]] == ["MessageBody", "Context"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"TimeToLive": 5},
            {"TimeToLive": 259_200},
            {"Context": {f"{n}".ljust(100, "k"): "a b".ljust(800, "x") for n in range(5)}},
            {"OriginationIdentity": "arn:aws:sms-voice:us-east-1:123456789012:pool/pool-0123456789abcdef"},
        ],
    )
    def test_what_is_just_within_the_limits_is_accepted(self, client: Any, changes: dict[str, Any]) -> None:
        assert send(client, **changes) == {"MessageId": UUID}

    def test_an_operation_that_is_not_simulated_is_refused(self, client: Any) -> None:
        with pytest.raises(ClientError) as refused:
            client.describe_pools()
        assert told(refused.value) == {
            "status": 400,
            "code": "UnknownOperationException",
        }


class TestMagicNumbers:
    @pytest.mark.parametrize("number", MAGIC)
    def test_each_is_a_number_and_a_mobile_phone(self, client: Any, number: str) -> None:
        parsed = phonenumbers.parse(number)
        assert phonenumbers.is_valid_number_for_region(parsed, "US")
        assert without_metadata(client.carrier_lookup(PhoneNumber=number)) == {
            "E164PhoneNumber": number,
            "OriginalPhoneNumber": number,
            "PhoneNumberType": "MOBILE",
        }

    def test_who_is_opted_out_at_the_carrier_gets_calls_and_no_texts(self, carriers: sms.Server, client: Any) -> None:
        number = sms.OPTED_OUT_AT_CARRIER
        assert refusal(client, "text", number) == opted_out(number)
        assert send(client, "call", number) == {"MessageId": UUID}
        assert [each["channel"] for each in carriers.accepted] == ["call"]
        assert carriers.requests == {("SendTextMessage", number): 1, ("SendVoiceMessage", number): 1}

    @pytest.mark.parametrize("channel", ["text", "call"])
    def test_what_is_no_number_gets_nothing(self, carriers: sms.Server, client: Any, channel: str) -> None:
        expected = invalid("DestinationPhoneNumber", "is not a phone number")
        assert refusal(client, channel, sms.NOT_A_NUMBER) == expected
        assert carriers.accepted == []

    @pytest.mark.parametrize("channel", ["text", "call"])
    def test_one_throttles_twice_and_then_accepts(self, carriers: sms.Server, client: Any, channel: str) -> None:
        number = sms.SEND_THROTTLES_TWICE
        for _ in range(2):
            assert refusal(client, channel, number) == THROTTLED
        assert carriers.accepted == []
        assert send(client, channel, number) == {"MessageId": UUID}
        assert len(carriers.accepted) == 1
        assert carriers.requests == {(OPERATIONS[channel], number): 3}

    @pytest.mark.parametrize("channel", ["text", "call"])
    @pytest.mark.parametrize("number", [sms.ANSWER_IS_LOST, sms.ANSWER_IS_LOST_RECEIPT_COMES])
    def test_an_answer_that_is_lost_was_an_acceptance(
        self, carriers: sms.Server, client: Any, number: str, channel: str
    ) -> None:
        with pytest.raises(ConnectionClosedError):
            send(client, channel, number)
        assert [each["destination"] for each in carriers.accepted] == [number]
        # Nothing below the client asks again by itself.
        assert carriers.requests == {(OPERATIONS[channel], number): 1}

    @pytest.mark.parametrize("channel", ["text", "call"])
    def test_an_answer_500_may_be_an_acceptance(self, carriers: sms.Server, client: Any, channel: str) -> None:
        number = sms.ANSWERS_500
        assert refusal(client, channel, number) == {
            "status": 500,
            "code": "InternalServerException",
            "Message": "Internal failure",
            "RequestId": UUID,
        }
        assert [each["destination"] for each in carriers.accepted] == [number]
        assert carriers.requests == {(OPERATIONS[channel], number): 1}

    def test_one_never_answers_and_accepts_nothing(self, carriers: sms.Server, client: Any) -> None:
        assert carriers.send_hangs_seconds > 10
        carriers.send_hangs_seconds = 0.1
        with pytest.raises(ConnectionClosedError):
            send(client, "text", sms.NEVER_ANSWERS)
        assert carriers.accepted == []
        assert carriers.requests == {("SendTextMessage", sms.NEVER_ANSWERS): 1}

    def test_who_waits_for_an_answer_in_vain_is_not_waited_for_when_it_stops(self) -> None:
        began, failures = time.monotonic(), []

        def wait(client: Any) -> None:
            with pytest.raises((ConnectionClosedError, ReadTimeoutError)) as failure:
                send(client, "call", sms.NEVER_ANSWERS)
            failures.append(failure.value)

        with simulated_carriers() as carriers:
            client = client_of(f"http://127.0.0.1:{carriers.server_address[1]}")
            thread = threading.Thread(target=wait, args=(client,))
            thread.start()
            while not carriers.requests:
                time.sleep(0.01)
        thread.join()
        assert [type(failure) for failure in failures] == [ConnectionClosedError]
        assert time.monotonic() - began < 3


class TestOptOutLists:
    def test_a_listed_number_gets_no_texts_until_it_is_taken_from_the_list(
        self, carriers: sms.Server, client: Any
    ) -> None:
        before = time.time()
        carriers.opt_out(MOBILE)
        assert refusal(client) == opted_out(MOBILE)
        answer = without_metadata(client.delete_opted_out_number(OptOutListName="Default", OptedOutNumber=MOBILE))
        assert before - 1 <= answer.pop("OptedOutTimestamp").timestamp() <= time.time()
        assert answer == {
            "OptOutListArn": "arn:aws:sms-voice:us-east-1:123456789012:opt-out-list/Default",
            "OptOutListName": "Default",
            "OptedOutNumber": MOBILE,
            "EndUserOptedOut": True,
        }
        assert send(client) == {"MessageId": UUID}
        assert carriers.requests == {("SendTextMessage", MOBILE): 2, ("DeleteOptedOutNumber", MOBILE): 1}

    def test_a_list_holds_for_the_lines_that_have_it(self, carriers: sms.Server, client: Any) -> None:
        carriers.opt_out_lists[LINE] = "north"
        carriers.opt_out(MOBILE, "north")
        assert refusal(client) == opted_out(MOBILE)
        assert send(client, OriginationIdentity="+15035559001") == {"MessageId": UUID}

    def test_a_number_that_is_not_in_the_list_cannot_be_taken_from_it(self, carriers: sms.Server, client: Any) -> None:
        carriers.opt_out(MOBILE, "north")
        with pytest.raises(ClientError) as refused:
            client.delete_opted_out_number(OptOutListName="Default", OptedOutNumber=MOBILE)
        assert told(refused.value) == {
            "status": 400,
            "code": "ResourceNotFoundException",
            "Message": "The phone number is not in the opt-out list",
            "ResourceType": "opted-out-number",
            "ResourceId": MOBILE,
        }
        arn = "arn:aws:sms-voice:us-east-1:123456789012:opt-out-list/north"
        assert client.delete_opted_out_number(OptOutListName=arn, OptedOutNumber=MOBILE)["OptOutListName"] == "north"
        assert carriers.opted_out == {}


class TestReceipts:
    def test_a_text_is_sent_and_delivered(self, carriers: sms.Server, client: Any, played: Played) -> None:
        answer = send(client)
        wait_for_receipts(played, 2)
        asked_at = round(datetime.fromisoformat(carriers.accepted[0]["at"]).timestamp() * 1000)
        common = {
            "eventVersion": "1.0",
            "originationPhoneNumber": LINE,
            "destinationPhoneNumber": MOBILE,
            "isoCountryCode": "US",
            "messageId": answer["MessageId"],
            "messageRequestTimestamp": asked_at,
            "messageEncoding": "GSM",
            "messageType": "TRANSACTIONAL",
            "context": CONTEXT,
            "totalMessageParts": 1,
        }
        sent = {"eventType": "TEXT_SENT", "messageStatus": "SENT", "isFinal": False}
        delivered = {"eventType": "TEXT_DELIVERED", "messageStatus": "DELIVERED", "isFinal": True}
        detail_type = "Text Message Delivery Status Updated"
        assert played == [
            (detail_type, {**common, **sent, "eventTimestamp": asked_at + 1}),
            (detail_type, {**common, **delivered, "eventTimestamp": asked_at + 2}),
        ]

    def test_a_call_is_initiated_answered_and_completed(
        self, carriers: sms.Server, client: Any, played: Played
    ) -> None:
        answer = send(client, "call")
        wait_for_receipts(played, 3)
        asked_at = round(datetime.fromisoformat(carriers.accepted[0]["at"]).timestamp() * 1000)
        assert played == [
            (
                "Voice Message Delivery Status Updated",
                {
                    "eventType": f"VOICE_{status}",
                    "eventVersion": "1.0",
                    "eventTimestamp": asked_at + place,
                    "isFinal": status == "COMPLETED",
                    "messageStatus": status,
                    "originationPhoneNumber": LINE,
                    "destinationPhoneNumber": MOBILE,
                    "isoCountryCode": "US",
                    "messageId": answer["MessageId"],
                    "messageRequestTimestamp": asked_at,
                    "context": CONTEXT,
                },
            )
            for place, status in enumerate(["INITIATED", "ANSWERED", "COMPLETED"], 1)
        ]

    @pytest.mark.parametrize(
        ("channel", "expected"),
        [
            ("text", [("TEXT_SENT", False), ("TEXT_UNREACHABLE", True)]),
            ("call", [("VOICE_INITIATED", False), ("VOICE_NO_ANSWER", True)]),
        ],
    )
    def test_who_cannot_be_reached_is_not(
        self, client: Any, played: Played, channel: str, expected: list[tuple[str, bool]]
    ) -> None:
        assert send(client, channel, sms.UNREACHABLE) == {"MessageId": UUID}
        wait_for_receipts(played, 2)
        assert [(detail["eventType"], detail["isFinal"]) for _, detail in played] == expected

    def test_they_come_in_the_order_of_the_messages(self, client: Any, played: Played) -> None:
        ids = [send(client)["MessageId"] for _ in range(3)]
        wait_for_receipts(played, 6)
        assert [detail["messageId"] for _, detail in played] == [each for each in ids for _ in range(2)]

    def test_what_was_accepted_without_an_answer_has_receipts_for_one_number_alone(
        self, client: Any, played: Played
    ) -> None:
        for number in (sms.ANSWER_IS_LOST, sms.ANSWERS_500, sms.ANSWER_IS_LOST_RECEIPT_COMES):
            with pytest.raises((ConnectionClosedError, ClientError)):
                send(client, "text", number)
        send(client)
        wait_for_receipts(played, 4)
        destinations = [detail["destinationPhoneNumber"] for _, detail in played]
        assert destinations == [sms.ANSWER_IS_LOST_RECEIPT_COMES] * 2 + [MOBILE] * 2

    def test_a_pool_and_a_message_without_a_context_are_not_named(self, client: Any, played: Played) -> None:
        send(client, OriginationIdentity="pool-0123456789abcdef", Context=None)
        wait_for_receipts(played, 2)
        assert not any({"originationPhoneNumber", "context"} & set(detail) for _, detail in played)

    def test_those_that_were_not_due_when_it_stops_do_not_come(self, played: Played) -> None:
        later = sms.Server(
            socket.create_server(("127.0.0.1", 0)), lambda detail_type, detail: played.append((detail_type, detail)), 60
        )
        later.answer("SendTextMessage", message())
        began = time.monotonic()
        later.server_close()
        assert time.monotonic() - began < 1
        assert played == []


class TestWithoutHttp:
    """The same answers in one process, where nothing runs at the same time."""

    def test_a_receipt_comes_before_the_answer(self, played: Played) -> None:
        carriers = sms.Carriers(lambda *receipt: played.append(receipt))
        answer = carriers.answer("SendVoiceMessage", message())
        assert [detail["messageId"] for _, detail in played] == [answer["MessageId"]] * 3

    @pytest.mark.parametrize(
        ("number", "raised", "accepted", "receipts"),
        [
            (sms.OPTED_OUT_AT_CARRIER, sms.Refused, 0, 0),
            (sms.NOT_A_NUMBER, sms.Refused, 0, 0),
            (sms.SEND_THROTTLES_TWICE, sms.Refused, 0, 0),
            (sms.ANSWER_IS_LOST, sms.Dropped, 1, 0),
            (sms.ANSWERS_500, sms.Failed500, 1, 0),
            (sms.NEVER_ANSWERS, sms.Hangs, 0, 0),
            (sms.ANSWER_IS_LOST_RECEIPT_COMES, sms.Dropped, 1, 2),
        ],
    )
    def test_what_happens_to_an_answer_is_raised(
        self, played: Played, number: str, raised: type[Exception], accepted: int, receipts: int
    ) -> None:
        carriers = sms.Carriers(lambda *receipt: played.append(receipt))
        with pytest.raises(raised):
            carriers.answer("SendTextMessage", message(number))
        assert (len(carriers.accepted), len(played)) == (accepted, receipts)
        assert carriers.requests == {("SendTextMessage", number): 1}

    @pytest.mark.parametrize(
        ("field", "value"), [("DestinationPhoneNumber", None), ("MessageBody", ""), ("TimeToLive", 4)]
    )
    def test_what_a_client_of_aws_would_not_even_send_is_refused_too(self, field: str, value: Any) -> None:
        carriers = sms.Carriers()
        with pytest.raises(sms.Refused) as refused:
            carriers.answer("SendTextMessage", message(**{field: value}))
        fields: Any = refused.value.fields["Fields"]
        assert (refused.value.code, [each["Name"] for each in fields]) == ("ValidationException", [field])


def test_emails_that_ses_sends_are_seen_and_forgotten() -> None:
    content = {"Simple": {"Subject": {"Data": "Your appointment"}, "Body": {"Text": {"Data": "See you."}}}}
    with deployed() as service:
        ses: Any = session().create_client("sesv2", REGION)
        for number in (1, 2):
            to = {"ToAddresses": [f"pat-{number}@example.org"]}
            ses.send_email(FromEmailAddress=EMAIL_SENDER, Destination=to, Content=content)
        assert service.emails() == [(f"pat-{number}@example.org", "Your appointment") for number in (1, 2)]
        service.forget()
        assert service.emails() == []


class TestInTheLocalStack:
    def test_receipts_go_over_the_default_bus_to_the_number_that_they_are_about(self) -> None:
        with start(demo=True, retry_seconds=0) as stack:
            client = client_of(stack.sms_url)
            send(client, "text", sms.UNREACHABLE, Context=None)
            changed = stack.wait_until(
                lambda: [each["detail"] for each in list(stack.events) if each["detail-type"] == "NumberStatusChanged"]
            )
            # Its receipts are not due yet when the stack stops.
            send(client)
        assert [(each["phone_number"], each["suspect"]) for each in changed] == [(sms.UNREACHABLE, True)]

    def test_ses_sends_in_the_name_of_the_demo_practice(self) -> None:
        with start(demo=True) as stack:
            identity = stack.client("sesv2").get_email_identity(EmailIdentity=demo_data.EMAIL_SENDER)
        assert (identity["IdentityType"], identity["VerificationStatus"]) == ("EMAIL_ADDRESS", "SUCCESS")
