"""Providers: what each answer, and each silence, of theirs means; and that a message is on the wire once at most."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.session import get_session

from patient_contact import aws, providers
from patient_contact.facesheet import Line
from patient_contact.facts import Channel
from patient_contact.providers import Accepted, Answer, Envelope, NoAnswer, Refused
from tests.integration.sending import UUID, wire
from tests.integration.service import CELL, EMAIL_SENDER, REGION, TIME, Service
from tests.local import sms
from tests.local.runtime import forget_clients

LINE = Line(
    "main",
    "Main",
    "+15035559000",
    origination_identity="pool-main",
    configuration_set="receipts",
    email_sender=EMAIL_SENDER,
)
CONTEXT = {"practice_id": "north", "patient_id": "p-1", "message_id": "manual:key-1", "attempt": "a-1"}
pytestmark = pytest.mark.usefixtures("service")
PHONE_CHANNELS: tuple[Channel, ...] = ("text", "call")
OPERATIONS: dict[Channel, str] = {"text": "SendTextMessage", "call": "SendVoiceMessage", "email": "SendEmail"}


def envelope(channel: Channel = "text", to: str = CELL, line: Line = LINE, seconds_left: int = 60) -> Envelope:
    if channel == "email":
        to = "pat@example.org"
    return Envelope(channel, to, "Hi Pat.", "Hello" if channel == "email" else None, line, CONTEXT, seconds_left)


def send(service: Service, to: str, channel: Channel = "text") -> tuple[Answer, int, int]:
    """Send, and give the answer, how many requests were on the wire, and how many messages were accepted."""
    before = service.carriers.requests.total()
    with wire() as requests:
        answer = providers.send(envelope(channel, to))
    assert service.carriers.requests.total() - before == len(requests)
    return answer, len(requests), len(service.carriers.accepted)


class TestOverHttp:
    """Against the simulator, by its magic numbers."""

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    def test_what_is_accepted_has_the_id_that_the_provider_gave(self, service: Service, channel: Channel) -> None:
        answer, requests, accepted = send(service, CELL, channel)
        assert answer == Accepted(service.carriers.accepted[0]["message_id"])
        assert (requests, accepted) == (1, 1)

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    @pytest.mark.parametrize(
        ("number", "expected", "accepted"),
        [
            (sms.NOT_A_NUMBER, Refused("ValidationException/INVALID_PARAMETER", "no_number"), 0),
            (sms.SEND_THROTTLES_TWICE, Refused("ThrottlingException", "try_again"), 0),
            (sms.ANSWER_IS_LOST, NoAnswer("ConnectionClosedError"), 1),
            (sms.ANSWER_IS_LOST_RECEIPT_COMES, NoAnswer("ConnectionClosedError"), 1),
            (sms.ANSWERS_500, NoAnswer("InternalServerException"), 1),
            (sms.UNREACHABLE, Accepted(UUID), 1),  # type: ignore[arg-type]  # equals any id
        ],
    )
    def test_each_answer_means_one_thing_and_follows_from_one_request(
        self, service: Service, channel: Channel, number: str, expected: Answer, accepted: int
    ) -> None:
        assert send(service, number, channel) == (expected, 1, accepted)

    def test_a_number_that_is_opted_out_at_the_carrier_gets_no_text_and_may_be_called(self, service: Service) -> None:
        refused = Refused("DESTINATION_PHONE_NUMBER_OPTED_OUT", "opted_out")
        assert send(service, sms.OPTED_OUT_AT_CARRIER) == (refused, 1, 0)
        assert send(service, sms.OPTED_OUT_AT_CARRIER, "call")[0] == Accepted(UUID)  # type: ignore[arg-type]

    def test_a_number_that_is_on_the_lines_opt_out_list_gets_no_text(self, service: Service) -> None:
        service.carriers.opt_out_lists["pool-main"] = "north"
        service.carriers.opt_out(CELL, "north")
        refused = Refused("DESTINATION_PHONE_NUMBER_OPTED_OUT", "opted_out")
        assert send(service, CELL) == (refused, 1, 0)

    def test_a_text_that_is_throttled_is_asked_for_again_by_somebody_else(self, service: Service) -> None:
        answers = [send(service, sms.SEND_THROTTLES_TWICE)[0] for _ in range(3)]
        throttled = Refused("ThrottlingException", "try_again")
        assert answers == [throttled, throttled, Accepted(UUID)]  # type: ignore[arg-type]

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    def test_a_connection_that_hangs_and_then_ends_is_one_request_and_no_answer(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, channel: Channel
    ) -> None:
        monkeypatch.setattr(service.carriers, "send_hangs_seconds", 0.05)
        assert send(service, sms.NEVER_ANSWERS, channel) == (NoAnswer("ConnectionClosedError"), 1, 0)

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    def test_what_is_asked_for_is_all_that_the_line_and_the_message_say(
        self, service: Service, channel: Channel
    ) -> None:
        with wire() as requests:
            providers.send(envelope(channel))
        kind = {"MessageType": "TRANSACTIONAL"} if channel == "text" else {"MessageBodyTextType": "TEXT"}
        asked = {
            "DestinationPhoneNumber": CELL,
            "OriginationIdentity": "pool-main",
            "MessageBody": "Hi Pat.",
            "TimeToLive": 60,
            "Context": CONTEXT,
            "ConfigurationSetName": "receipts",
            **kind,
        }
        assert requests == [(OPERATIONS[channel], asked)]
        assert service.carriers.accepted == [
            {
                "message_id": UUID,
                "channel": channel,
                "destination": CELL,
                "origination": "pool-main",
                "body": "Hi Pat.",
                "context": CONTEXT,
                "configuration_set": "receipts",
                "time_to_live": 60,
                "at": TIME,
            }
        ]

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    def test_a_line_that_says_no_more_sends_from_its_number(self, service: Service, channel: Channel) -> None:
        providers.send(envelope(channel, line=Line("main", "Main", "+15035559000")))
        (accepted,) = service.carriers.accepted
        assert (accepted["origination"], accepted["configuration_set"]) == ("+15035559000", None)

    @pytest.mark.parametrize(
        ("left", "told"), [(-3, 5), (0, 5), (4, 5), (5, 5), (6, 6), (259_200, 259_200), (259_201, 259_200)]
    )
    def test_a_provider_holds_a_message_no_longer_than_it_may_wait_within_what_it_allows(
        self, service: Service, left: int, told: int
    ) -> None:
        assert isinstance(providers.send(envelope(seconds_left=left)), Accepted)
        assert [each["time_to_live"] for each in service.carriers.accepted] == [told]


class TestEmail:
    def test_an_email_is_sent_from_the_lines_sender_and_bears_its_attempt(self, service: Service) -> None:
        with wire() as requests:
            answer = providers.send(envelope("email"))
        assert isinstance(answer, Accepted)
        assert answer.provider_message_id
        utf8 = {"Charset": "UTF-8"}
        asked = {
            "FromEmailAddress": EMAIL_SENDER,
            "Destination": {"ToAddresses": ["pat@example.org"]},
            "Content": {
                "Simple": {"Subject": {"Data": "Hello", **utf8}, "Body": {"Text": {"Data": "Hi Pat.", **utf8}}}
            },
            "EmailTags": [{"Name": "attempt", "Value": "a-1"}],
        }
        assert requests == [("SendEmail", asked)]
        assert service.emails() == [("pat@example.org", "Hello")]

    def test_a_line_without_a_sender_sends_no_email_and_asks_nobody(self) -> None:
        with wire() as requests:
            answer = providers.send(envelope("email", line=Line("main", "Main", "+15035559000")))
        assert answer == Refused("NO_EMAIL_SENDER", "for_good")
        assert requests == []

    def test_a_sender_that_ses_does_not_know_is_refused_for_good(self, service: Service) -> None:
        line = Line("main", "Main", "+15035559000", email_sender="nobody@example.org")
        assert providers.send(envelope("email", line=line)) == Refused("MessageRejected", "for_good")
        assert service.emails() == []


class TestNoAnswer:
    """What is lost on the way: known not to have begun, or not known at all."""

    @pytest.mark.parametrize("channel", OPERATIONS)
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (botocore_errors.ReadTimeoutError(endpoint_url="x"), NoAnswer("ReadTimeoutError")),
            (botocore_errors.ConnectionClosedError(endpoint_url="x"), NoAnswer("ConnectionClosedError")),
            (botocore_errors.SSLError(endpoint_url="x", error=OSError()), NoAnswer("SSLError")),
            (botocore_errors.HTTPClientError(error="e"), NoAnswer("HTTPClientError")),
            (
                botocore_errors.ConnectTimeoutError(endpoint_url="x"),
                Refused("ConnectTimeoutError", "try_again"),
            ),
            (
                botocore_errors.EndpointConnectionError(endpoint_url="x"),
                Refused("EndpointConnectionError", "try_again"),
            ),
            (
                botocore_errors.ProxyConnectionError(proxy_url="x"),
                Refused("ProxyConnectionError", "try_again"),
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_went_out_is_not_known_and_what_never_connected_is_tried_again_and_neither_is_resent(
        self, channel: Channel, error: Exception, expected: Answer
    ) -> None:
        def lose(*_: object) -> None:
            raise error

        with wire(lose) as requests:
            assert providers.send(envelope(channel)) == expected
        assert len(requests) == 1

    @pytest.mark.parametrize("channel", OPERATIONS)
    def test_a_connection_that_is_refused_was_never_made(
        self, monkeypatch: pytest.MonkeyPatch, channel: Channel
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        for name in (sms.ENDPOINT, "AWS_ENDPOINT_URL_SESV2"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        forget_clients()
        try:
            assert providers.send(envelope(channel)) == Refused("EndpointConnectionError", "try_again")
        finally:
            monkeypatch.undo()
            forget_clients()

    @pytest.mark.parametrize("channel", OPERATIONS)
    def test_who_has_no_credentials_has_sent_nothing(self, monkeypatch: pytest.MonkeyPatch, channel: Channel) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        forget_clients()
        try:
            with wire() as requests:
                assert providers.send(envelope(channel)) == Refused("NoCredentialsError", "try_again")
            assert requests == []
        finally:
            monkeypatch.undo()
            forget_clients()

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    def test_what_botocore_itself_finds_wrong_is_refused_for_good(self, channel: Channel) -> None:
        with wire() as requests:
            assert providers.send(envelope(channel, "")) == Refused("ParamValidationError", "for_good")
        assert requests == []

    def test_a_provider_that_is_silent_is_asked_once_over_one_connection(self) -> None:
        with silent_server() as (port, connections):
            client: Any = get_session().create_client(
                "pinpoint-sms-voice-v2",
                REGION,
                endpoint_url=f"http://127.0.0.1:{port}",
                config=aws.SENDER_CONFIG.merge(Config(read_timeout=0.2)),
            )
            began = time.monotonic()
            with pytest.raises(botocore_errors.ReadTimeoutError):
                client.send_text_message(DestinationPhoneNumber=CELL, MessageBody="Hi")
            assert time.monotonic() - began < 2
        assert [data.count(b"POST / HTTP/1.1") for data in connections] == [1]

    def test_the_clients_of_providers_try_once_and_end_before_an_invocation_does(self) -> None:
        for client in (aws.sms_sender(), aws.email()):
            config: Any = client.meta.config
            assert config.retries["total_max_attempts"] == 1
            assert config.connect_timeout + config.read_timeout == 11


@contextmanager
def silent_server() -> Iterator[tuple[int, list[bytes]]]:
    """Listen on a port and answer nothing; yield what was received over each connection, whole when this is over."""
    received: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                place = len(received)
                received.append(b"")
                while data := connection.recv(65_536):
                    received[place] += data

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], received
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


# What each error that the services describe means for a message; an error that is new must be thought of here.
SMS_ERRORS: dict[str, Answer] = {
    "AccessDeniedException": Refused("AccessDeniedException", "for_good"),
    "ConflictException": Refused("ConflictException", "for_good"),
    "InternalServerException": NoAnswer("InternalServerException"),
    "ResourceNotFoundException": Refused("ResourceNotFoundException", "for_good"),
    "ServiceQuotaExceededException": Refused("ServiceQuotaExceededException", "for_good"),
    "ThrottlingException": Refused("ThrottlingException", "try_again"),
    "ValidationException": Refused("ValidationException", "for_good"),
}
EMAIL_ERRORS: dict[str, Answer] = {
    "AccountSuspendedException": Refused("AccountSuspendedException", "for_good"),
    "BadRequestException": Refused("BadRequestException", "for_good"),
    "LimitExceededException": Refused("LimitExceededException", "for_good"),
    "MailFromDomainNotVerifiedException": Refused("MailFromDomainNotVerifiedException", "for_good"),
    "MessageRejected": Refused("MessageRejected", "for_good"),
    "NotFoundException": Refused("NotFoundException", "for_good"),
    "SendingPausedException": Refused("SendingPausedException", "for_good"),
    "TooManyRequestsException": Refused("TooManyRequestsException", "try_again"),
}
ERRORS: dict[Channel, dict[str, Answer]] = {"text": SMS_ERRORS, "call": SMS_ERRORS, "email": EMAIL_ERRORS}
EVERY_ERROR = [(channel, code) for channel, codes in ERRORS.items() for code in codes]


def answered(status: int, channel: Channel = "text", /, **body: object) -> Answer:
    """Send, to a provider that answers this."""
    with wire(lambda *_: (status, body)) as requests:
        answer = providers.send(envelope(channel))
    assert len(requests) == 1
    return answer


class TestErrors:
    @pytest.mark.parametrize("channel", ERRORS)
    def test_every_error_that_a_service_describes_is_in_the_table(self, channel: Channel) -> None:
        client: Any = aws.email() if channel == "email" else aws.sms_sender()
        shapes = client.meta.service_model.operation_model(OPERATIONS[channel]).error_shapes
        assert {shape.name for shape in shapes} == ERRORS[channel].keys()

    @pytest.mark.parametrize(("channel", "code"), EVERY_ERROR)
    def test_every_error_that_a_service_describes_means_what_the_table_says(self, channel: Channel, code: str) -> None:
        expected = ERRORS[channel][code]
        status = 500 if isinstance(expected, NoAnswer) else 429 if "TooMany" in code else 400
        assert answered(status, channel, __type=code) == expected

    @pytest.mark.parametrize(("channel", "code"), EVERY_ERROR)
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_with_a_status_of_the_servers_no_error_is_an_answer(self, channel: Channel, code: str, status: int) -> None:
        assert answered(status, channel, __type=code) == NoAnswer(code)

    @pytest.mark.parametrize("channel", ERRORS)
    @pytest.mark.parametrize("status", [400, 403, 404, 408, 413, 429])
    def test_an_error_that_the_service_does_not_describe_is_no_answer(self, channel: Channel, status: int) -> None:
        code = "SomethingNewException"
        assert answered(status, channel, __type=code) == NoAnswer(code)

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    def test_an_error_of_the_other_service_is_no_answer(self, channel: Channel) -> None:
        assert answered(400, channel, __type="TooManyRequestsException") == NoAnswer("TooManyRequestsException")

    @pytest.mark.parametrize("channel", ERRORS)
    @pytest.mark.parametrize("code", ["ExpiredTokenException", "RequestExpired", "Throttling", "ThrottlingException"])
    def test_what_is_refused_in_front_of_any_service_was_not_looked_at(self, channel: Channel, code: str) -> None:
        assert answered(400, channel, __type=code) == Refused(code, "try_again")
        assert answered(503, channel, __type=code) == NoAnswer(code)

    @pytest.mark.parametrize("status", [400, 503])
    def test_an_answer_that_is_none_of_the_services_is_no_answer(self, status: int) -> None:
        assert isinstance(answered(status), NoAnswer)

    @pytest.mark.parametrize("channel", PHONE_CHANNELS)
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (
                {"__type": "ConflictException", "Reason": "DESTINATION_PHONE_NUMBER_OPTED_OUT"},
                Refused("DESTINATION_PHONE_NUMBER_OPTED_OUT", "opted_out"),
            ),
            (
                {"__type": "ConflictException", "Reason": "DESTINATION_PHONE_NUMBER_NOT_VERIFIED"},
                Refused("ConflictException/DESTINATION_PHONE_NUMBER_NOT_VERIFIED", "for_good"),
            ),
            (
                {"__type": "AccessDeniedException", "Reason": "ACCOUNT_DISABLED"},
                Refused("AccessDeniedException/ACCOUNT_DISABLED", "for_good"),
            ),
            (
                {
                    "__type": "ServiceQuotaExceededException",
                    "Reason": "MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT",
                },
                Refused("ServiceQuotaExceededException/MONTHLY_SPEND_LIMIT_REACHED_FOR_TEXT", "for_good"),
            ),
        ],
    )
    def test_the_reason_of_an_error_is_part_of_its_code(
        self, channel: Channel, error: dict[str, Any], expected: Answer
    ) -> None:
        assert answered(400, channel, **error) == expected

    @pytest.mark.parametrize(
        ("reason", "field", "kind"),
        [
            ("INVALID_PARAMETER", "DestinationPhoneNumber", "no_number"),
            ("CANNOT_PARSE", "DestinationPhoneNumber", "no_number"),
            ("FIELD_VALIDATION_FAILED", "DestinationPhoneNumber", "no_number"),
            # The number is one; it lies where the account may not send.
            ("DESTINATION_COUNTRY_BLOCKED", "DestinationPhoneNumber", "for_good"),
            ("COUNTRY_NOT_ENABLED", "DestinationPhoneNumber", "for_good"),
            ("INTERNATIONAL_SENDING_NOT_SUPPORTED", "DestinationPhoneNumber", "for_good"),
            # It is about something else.
            ("INVALID_PARAMETER", "MessageBody", "for_good"),
            ("INVALID_PARAMETER", "OriginationIdentity", "for_good"),
        ],
    )
    def test_only_what_is_wrong_with_the_number_itself_says_that_it_is_none(
        self, reason: str, field: str, kind: Any
    ) -> None:
        told = {"Reason": reason, "Fields": [{"Name": field, "Message": "is wrong"}]}
        code = f"ValidationException/{reason}"
        assert answered(400, __type="ValidationException", **told) == Refused(code, kind)

    def test_fields_without_a_reason_are_read_all_the_same(self) -> None:
        fields = [{"Name": "MessageBody", "Message": "x"}, {"Name": "DestinationPhoneNumber", "Message": "y"}]
        assert answered(400, __type="ValidationException", Fields=fields) == Refused("ValidationException", "no_number")


class TestOptInAgain:
    def test_it_takes_the_number_from_the_list(self, service: Service) -> None:
        service.carriers.opt_out(CELL, "north")
        providers.opt_in_again("north", CELL)
        assert service.carriers.opted_out == {}

    def test_a_number_that_is_not_on_the_list_is_well(self, service: Service) -> None:
        providers.opt_in_again("north", CELL)
        assert service.carriers.requests == {("DeleteOptedOutNumber", CELL): 1}

    def test_any_other_refusal_is_raised(self) -> None:
        with wire(lambda *_: (400, {"__type": "AccessDeniedException"})) as requests:
            with pytest.raises(botocore_errors.ClientError):
                providers.opt_in_again("north", CELL)
        assert requests == [("DeleteOptedOutNumber", {"OptOutListName": "north", "OptedOutNumber": CELL})]
