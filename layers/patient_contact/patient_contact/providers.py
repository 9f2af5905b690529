"""The providers: texts and calls by AWS End User Messaging, emails by SES. One attempt on the wire, and what it says.

I/O. Neither takes a token by which it would know a message again: what was not answered may have been accepted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from botocore import exceptions as botocore_errors
from botocore.exceptions import BotoCoreError, ClientError

from patient_contact import aws
from patient_contact.facesheet import Line
from patient_contact.facts import Channel

# How long a provider may hold a message, in seconds: it allows no less, and no more.
SHORTEST, LONGEST = 5, 259_200

THROTTLED = {"ThrottlingException", "TooManyRequestsException"}
OPTED_OUT = "DESTINATION_PHONE_NUMBER_OPTED_OUT"
DESTINATION = "DestinationPhoneNumber"
# What AWS answers in front of any service, which its description does not list: the request was not looked at.
_AT_THE_DOOR = {
    "ExpiredTokenException",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestThrottled",
    "Throttling",
    "ThrottlingException",
    "UnrecognizedClientException",
}
# Reasons for which a number is refused since it is none; others are about countries, senders and prices.
_NO_NUMBER = {None, "CANNOT_PARSE", "FIELD_VALIDATION_FAILED", "INVALID_PARAMETER"}
# Raised before anything is on the wire.
_NEVER_CONNECTED = (
    botocore_errors.ConnectTimeoutError,
    botocore_errors.EndpointConnectionError,
    botocore_errors.ProxyConnectionError,
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message on its way: content for one channel, where it goes, and by which `context` receipts find it again."""

    channel: Channel
    destination: str
    body: str
    subject: str | None
    line: Line
    context: Mapping[str, str]
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider will send the message, under this id of its own."""

    provider_message_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The message was certainly not accepted; `code` is the provider's, `kind` what follows from it."""

    code: str
    kind: Literal["try_again", "opted_out", "no_number", "for_good"]


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Whether the message was accepted is not known."""

    code: str


Answer = Accepted | Refused | NoAnswer


def send(envelope: Envelope) -> Answer:
    """Send a message: exactly one request, never a second."""
    if envelope.channel == "email" and envelope.line.email_sender is None:
        return Refused("NO_EMAIL_SENDER", "for_good")
    client = aws.email() if envelope.channel == "email" else aws.sms_sender()
    try:
        answer = {"text": _text, "call": _call, "email": _email}[envelope.channel](envelope)
    except ClientError as error:
        return _refused(client, error)
    except _NEVER_CONNECTED as error:
        return Refused(type(error).__name__, "try_again")
    except botocore_errors.ParamValidationError as error:
        return Refused(type(error).__name__, "for_good")
    except BotoCoreError as error:
        return NoAnswer(type(error).__name__)
    return Accepted(answer["MessageId"])


def opt_in_again(opt_out_list: str, number: str) -> None:
    """Take a number from a line's opt-out list, whose owner has said START; not on the list, it is well."""
    try:
        aws.sms_sender().delete_opted_out_number(OptOutListName=opt_out_list, OptedOutNumber=number)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise


def _text(envelope: Envelope) -> Mapping[str, Any]:
    return aws.sms_sender().send_text_message(MessageType="TRANSACTIONAL", **_to_a_phone(envelope))


def _call(envelope: Envelope) -> Mapping[str, Any]:
    return aws.sms_sender().send_voice_message(MessageBodyTextType="TEXT", **_to_a_phone(envelope))


def _to_a_phone(envelope: Envelope) -> dict[str, Any]:
    line = envelope.line
    return {
        "DestinationPhoneNumber": envelope.destination,
        "OriginationIdentity": line.origination_identity or line.phone_number,
        "MessageBody": envelope.body,
        "TimeToLive": int(min(max(envelope.seconds_left, SHORTEST), LONGEST)),
        "Context": dict(envelope.context),
        **({"ConfigurationSetName": line.configuration_set} if line.configuration_set else {}),
    }


def _email(envelope: Envelope) -> Mapping[str, Any]:
    utf8 = {"Charset": "UTF-8"}
    return aws.email().send_email(
        FromEmailAddress=str(envelope.line.email_sender),
        Destination={"ToAddresses": [envelope.destination]},
        # What SES publishes of the email bears it.
        EmailTags=[{"Name": "attempt", "Value": envelope.context["attempt"]}],
        Content={
            "Simple": {
                "Subject": {"Data": envelope.subject or "", **utf8},  # type: ignore[typeddict-item]  # two literals
                "Body": {"Text": {"Data": envelope.body, **utf8}},  # type: ignore[typeddict-item]  # two literals
            }
        },
    )


def _refused(client: Any, error: ClientError) -> Answer:
    """Tell what certainly was not accepted: what the service's own description lists as a refusal of the client's."""
    answer: dict[str, Any] = dict(error.response)
    code, status = answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
    operation = client.meta.service_model.operation_model(error.operation_name)
    is_listed = code in _AT_THE_DOOR or code in {shape.name for shape in operation.error_shapes}
    if not 400 <= status < 500 or not is_listed:
        return NoAnswer(code)
    if code in THROTTLED or code in _AT_THE_DOOR:
        return Refused(code, "try_again")
    reason = answer.get("Reason")
    if reason == OPTED_OUT:
        return Refused(OPTED_OUT, "opted_out")
    told = f"{code}/{reason}" if reason else code
    names = {field.get("Name") for field in answer.get("Fields", [])}
    if code == "ValidationException" and DESTINATION in names and reason in _NO_NUMBER:
        return Refused(told, "no_number")
    return Refused(told, "for_good")
