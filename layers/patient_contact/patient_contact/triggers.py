"""The events that come in: triggered automations, read to the letter.

Shapes: imports the pure half and what HTTP and events receive alike.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from patient_contact.content import MAX_CALL
from patient_contact.events import AUTOMATION_TRIGGERED, MAX_CLOCK_SKEW_DAYS, MAX_EVENT_AGE_DAYS, Refused
from patient_contact.received import Id, Messages, OccurrenceId

# A limit makes pydantic look at every character: a lone surrogate could never be stored.
ContextText = Annotated[str, StringConstraints(max_length=MAX_CALL)]


def _iso_time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time is ISO 8601 text")  # noqa: TRY004 - pydantic's errors are ValueErrors
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError("a time says its offset from UTC")
    if not 1970 < time.year < 9999:
        raise ValueError("a time is of our days")
    return time.astimezone(UTC)


# Not as pydantic reads times: it takes any number, a phone number too, for seconds since 1970.
IsoTime = Annotated[datetime, BeforeValidator(_iso_time)]


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
    try:
        event = BusEvent.model_validate(json.loads(body))
    except ValidationError as error:
        raise Refused(f"invalid event: {_fields(error, BusEvent)}") from None
    except (ValueError, RecursionError):
        raise Refused("invalid event: not JSON") from None
    if event.detail_type != AUTOMATION_TRIGGERED:
        raise Refused("unknown detail-type")
    if event.time < now - timedelta(days=MAX_EVENT_AGE_DAYS):
        raise Refused(f"older than {MAX_EVENT_AGE_DAYS} days")
    if event.time > now + timedelta(days=MAX_CLOCK_SKEW_DAYS):
        raise Refused("from the future")
    try:
        return AutomationTriggered.model_validate(event.detail)
    except ValidationError as error:
        raise Refused(f"invalid detail: {_fields(error, AutomationTriggered)}") from None


def _fields(error: ValidationError, model: type[BaseModel]) -> str:
    """Name the fields that an error is about; a name that is not ours may itself be data, and is not repeated."""
    ours = {field.alias or name for name, field in model.model_fields.items()}
    names = {str(part["loc"][0]) if part["loc"] else "all of it" for part in error.errors(include_input=False)}
    return ", ".join(sorted(name if name in ours | {"all of it"} else "unknown field" for name in names))
