"""The events that come in: triggered automations, read to the letter.

Shapes: imports the pure half and what HTTP and events receive alike.
"""

import json
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from patient_contact.content import MAX_CALL
from patient_contact.events import AUTOMATION_TRIGGERED, MAX_CLOCK_SKEW_DAYS, MAX_EVENT_AGE_DAYS, Refused
from patient_contact.received import Id, IsoTime, Messages, OccurrenceId, fields_of

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
    try:
        event = BusEvent.model_validate(json.loads(body))
    except ValidationError as error:
        raise Refused(f"invalid event: {fields_of(error, BusEvent)}") from None
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
        raise Refused(f"invalid detail: {fields_of(error, AutomationTriggered)}") from None
