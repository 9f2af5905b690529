"""The events that come in: triggered automations, read to the letter, messages to be sent, lists to be routed.

Shapes: imports the pure half and what HTTP and events receive alike.
"""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from patient_contact.bulk_list import Chunk
from patient_contact.content import MAX_CALL
from patient_contact.events import (
    AUTOMATION_TRIGGERED,
    BULK_QUEUED,
    MAX_CLOCK_SKEW_DAYS,
    MAX_EVENT_AGE_DAYS,
    MESSAGE_ROUTED,
    Refused,
)
from patient_contact.received import E164, MESSAGE_ID_PATTERN, Id, IsoTime, Messages, OccurrenceId, fields_of

Model = TypeVar("Model", bound=BaseModel)
# A limit makes pydantic look at every character: a lone surrogate could never be stored.
ContextText = Annotated[str, StringConstraints(max_length=MAX_CALL)]


class AutomationTriggered(BaseModel):
    """The detail of an `AutomationTriggered` event: one occurrence of an automation for one patient."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # A literal 1 would let `true` and `1.0` through.
    version: Annotated[int, Field(ge=1, le=1)]
    practice_id: Id
    patient_id: Id
    automation_id: Id
    occurrence_id: OccurrenceId
    context: dict[ContextText, ContextText | int | Annotated[float, Field(allow_inf_nan=False)]] = {}
    messages: Messages | None = None
    send_before: IsoTime | None = None

    @property
    def patient(self) -> tuple[str, str]:
        """The practice's id and the patient's."""
        return self.practice_id, self.patient_id

    @property
    def message_id(self) -> str:
        """The one message of this occurrence."""
        return f"automation:{self.automation_id}:{self.occurrence_id}"


class BusEvent(BaseModel):
    """The EventBridge envelope, as far as we read it."""

    model_config = ConfigDict(frozen=True)

    time: IsoTime
    detail_type: Annotated[str, Field(alias="detail-type")]
    detail: dict[str, Any]


def accept_trigger(body: str, now: datetime) -> AutomationTriggered:
    """Read an SQS record's body as an `AutomationTriggered` event; raise Refused for what is none."""
    event = _event(body, AUTOMATION_TRIGGERED)
    if event.time < now - timedelta(days=MAX_EVENT_AGE_DAYS):
        raise Refused(f"older than {MAX_EVENT_AGE_DAYS} days")
    if event.time > now + timedelta(days=MAX_CLOCK_SKEW_DAYS):
        raise Refused("from the future")
    return _detail(event, AutomationTriggered)


class ToSend(BaseModel):
    """The detail of `MessageRouted`, as far as it says which message that is; all else is read from the table.

    A message is for a patient, or confirms a reply to a phone number.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    practice_id: Id
    message_id: Annotated[str, StringConstraints(pattern=MESSAGE_ID_PATTERN)]
    patient_id: Id | None = None
    phone_number: E164 | None = None

    @model_validator(mode="after")
    def _is_for_somebody(self) -> Self:
        if (self.patient_id is None) == (self.phone_number is None):
            raise ValueError("a message is for a patient, or confirms a reply to a phone number")
        return self


def accept_to_send(body: str) -> ToSend:
    """Read an SQS record's body as a `MessageRouted` event; raise Refused for what is none."""
    return _detail(_event(body, MESSAGE_ROUTED), ToSend)


class BulkQueued(BaseModel):
    """The detail of `BulkQueued`: a broadcast, campaign or dry run whose list is to be read, in which of its runs."""

    model_config = ConfigDict(frozen=True, strict=True)

    practice_id: Id
    bulk_id: Id
    run: Annotated[int, Field(ge=1)]


class ChunkBody(BaseModel):
    """Where the rows of a chunk lie in their list."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    number: Annotated[int, Field(ge=0)]
    begin: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    first_row: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]
    too_long: bool


class ToRoute(BaseModel):
    """A chunk of a list that is to be routed, in which run of its bulk."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    version: Annotated[int, Field(ge=1, le=1)]
    practice_id: Id
    bulk_id: Id
    run: Annotated[int, Field(ge=1)]
    rows: ChunkBody

    @classmethod
    def of(cls, queued: BulkQueued, chunk: Chunk) -> Self:
        """Give a chunk as a message."""
        rows = ChunkBody(**asdict(chunk))
        return cls(version=1, practice_id=queued.practice_id, bulk_id=queued.bulk_id, run=queued.run, rows=rows)

    @property
    def chunk(self) -> Chunk:
        """The chunk."""
        return Chunk(**self.rows.model_dump())


def accept_bulk(body: str) -> BulkQueued:
    """Read an SQS record's body as a `BulkQueued` event; raise Refused for what is none."""
    return _detail(_event(body, BULK_QUEUED), BulkQueued)


def accept_chunk(body: str) -> ToRoute:
    """Read an SQS record's body as a chunk to be routed; raise Refused for what is none."""
    try:
        return ToRoute.model_validate_json(body)
    except ValidationError as error:
        raise Refused(f"invalid chunk: {fields_of(error, ToRoute)}") from None


def _event(body: str, detail_type: str) -> BusEvent:
    try:
        event = BusEvent.model_validate(json.loads(body))
    except ValidationError as error:
        raise Refused(f"invalid event: {fields_of(error, BusEvent)}") from None
    except (ValueError, RecursionError):
        raise Refused("invalid event: not JSON") from None
    if event.detail_type != detail_type:
        raise Refused("unknown detail-type")
    return event


def _detail(event: BusEvent, model: type[Model]) -> Model:
    try:
        return model.model_validate(event.detail)
    except ValidationError as error:
        raise Refused(f"invalid detail: {fields_of(error, model)}") from None
