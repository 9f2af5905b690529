"""What comes in about phone numbers: patients' replies, carriers' receipts, and numbers to be looked up.

Shapes: imports the pure half. Each reads the body of an SQS record, and raises Refused for what can never be handled.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from patient_contact.events import MAX_CLOCK_SKEW_DAYS, RECEIPTS, Refused
from patient_contact.received import E164, MESSAGE_ID_PATTERN, Id, IsoTime, fields_of

Model = TypeVar("Model", bound=BaseModel)
EventType = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z_]{1,63}$")]


def _whole(value: object) -> object:
    """Mend half an emoji, which could not be stored, rather than lose the reply that it is in; none is no words."""
    if value is None:
        return ""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value


class Notification(BaseModel):
    """The SNS envelope, as far as we read it; its time is when a reply was said."""

    model_config = ConfigDict(frozen=True)

    said_at: Annotated[IsoTime, Field(alias="Timestamp")]
    message: Annotated[str, Field(alias="Message")]


class Reply(BaseModel):
    """A two-way SMS message of AWS End User Messaging; what else is in it is not read."""

    model_config = ConfigDict(frozen=True, strict=True)

    phone_number: Annotated[E164, Field(alias="originationNumber")]
    line_number: Annotated[str, Field(alias="destinationNumber", max_length=32)]
    text: Annotated[str, BeforeValidator(_whole), Field(alias="messageBody", max_length=20_000)]
    id: Annotated[Id, Field(alias="inboundMessageId")]


def accept_reply(body: str, now: datetime) -> tuple[Reply, datetime]:
    """Read a reply and the time at which it was said: now, if its own is further ahead than clocks differ."""
    envelope = _read(body, Notification, "notification")
    # To refuse it could lose a STOP; as it is, a START would stand above every STOP until then.
    is_ahead = envelope.said_at > now + timedelta(days=MAX_CLOCK_SKEW_DAYS)
    return _read(envelope.message, Reply, "reply"), now if is_ahead else envelope.said_at


class Context(BaseModel):
    """What the sender set to find its message again: which it is, for whom, and which attempt to send it.

    What confirms a reply is for no patient: its receipt names the number.
    """

    model_config = ConfigDict(frozen=True)

    practice_id: Id
    patient_id: Id | None = None
    message_id: Annotated[str, StringConstraints(pattern=MESSAGE_ID_PATTERN)]
    attempt: Annotated[str, StringConstraints(max_length=64)] = ""


def _context_of_ours(value: object) -> Context | None:
    """Read a context; what others in the account set for messages of their own is none."""
    try:
        return Context.model_validate(value)
    except ValidationError:
        return None


class Receipt(BaseModel):
    """A receipt's detail, as far as we read it; numbers, and the context, are not in all of them."""

    model_config = ConfigDict(frozen=True)

    event_type: Annotated[EventType, Field(alias="eventType")]
    timestamp: Annotated[int, Field(alias="eventTimestamp", ge=0, lt=253_370_764_800_000, strict=True)]
    provider_message_id: Annotated[str, Field(alias="messageId", min_length=1, max_length=200)]
    phone_number: Annotated[E164 | None, Field(alias="destinationPhoneNumber")] = None
    line_number: Annotated[str | None, Field(alias="originationPhoneNumber", max_length=64)] = None
    context: Annotated[Context | None, BeforeValidator(_context_of_ours)] = None

    @property
    def at(self) -> datetime:
        """When it happened."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.timestamp)


class _ReceiptEvent(BaseModel):
    model_config = ConfigDict(frozen=True)

    detail_type: Annotated[str, Field(alias="detail-type")]
    detail: dict[str, Any]


def accept_receipt(body: str, now: datetime) -> Receipt | None:
    """Read a receipt; None for what else the service puts on the bus."""
    event = _read(body, _ReceiptEvent, "event")
    if event.detail_type not in RECEIPTS:
        return None
    receipt = _validated(event.detail, Receipt, "receipt")
    # It would count for longer than it should: later ones would be older.
    if receipt.at > now + timedelta(days=MAX_CLOCK_SKEW_DAYS):
        raise Refused("from the future")
    return receipt


class LookupRequest(BaseModel):
    """A number whose line is to be looked up."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    practice_id: Id
    phone_number: E164


def accept_lookup(body: str) -> LookupRequest:
    """Read which number is to be looked up."""
    return _read(body, LookupRequest, "lookup")


def _read(body: str, model: type[Model], name: str) -> Model:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(f"invalid {name}: not JSON") from None
    return _validated(parsed, model, name)


def _validated(value: object, model: type[Model], name: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Refused(f"invalid {name}: {fields_of(error, model)}") from None
