"""What HTTP and events receive alike: ids, and the content of messages.

Shapes: imports the pure half. Messages of errors name the field and the rule, never the value.
"""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from patient_contact import content
from patient_contact.content import Content
from patient_contact.facts import Channel

ID_PATTERN = r"^[A-Za-z0-9._~-]{1,128}$"
OCCURRENCE_PATTERN = r"^[A-Za-z0-9._~:-]{1,128}$"
MESSAGE_ID_PATTERN = r"^[A-Za-z0-9._~:-]{1,400}$"
# When a reply must have been read, and the reply's own id.
REVIEW_ID_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}~[A-Za-z0-9._~-]{1,128}$"

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
E164 = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{5,14}$")]
OccurrenceId = Annotated[str, StringConstraints(pattern=OCCURRENCE_PATTERN)]


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


def fields_of(error: ValidationError, model: type[BaseModel]) -> str:
    """Name the fields that an error is about; a name that is not ours may itself be data, and is not repeated."""
    ours = {field.alias or name for name, field in model.model_fields.items()}
    names = {str(part["loc"][0]) if part["loc"] else "all of it" for part in error.errors(include_input=False)}
    return ", ".join(sorted(name if name in ours | {"all of it"} else "unknown field" for name in names))


class Received(BaseModel):
    """What is received: unknown fields and wrong types are refused."""

    # Built at first use: a function starts without building the models that its request does not need.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


def _is_template(text: str) -> str:
    if not content.is_template(text):
        raise ValueError("every $ begins a placeholder like $name or ${name}; write $$ for a dollar sign")
    return text


def _is_one_line(text: str) -> str:
    if text.splitlines() != [text]:
        raise ValueError("a subject is one line")
    return text


Body = Annotated[str, StringConstraints(min_length=1)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=content.MAX_SUBJECT), AfterValidator(_is_one_line)]
BodyTemplate = Annotated[Body, AfterValidator(_is_template)]
SubjectTemplate = Annotated[Subject, AfterValidator(_is_template)]


def limited(channel: Channel, body: str) -> str:
    """Refuse a body that is too long for its channel."""
    broken = content.too_long(channel, body)
    if broken:
        raise ValueError(broken)
    return body


class TextTemplate(Received):
    """The text of a message: at most 1,600 characters."""

    body: Annotated[BodyTemplate, AfterValidator(lambda body: limited("text", body))]


class CallTemplate(Received):
    """What is said in a call: at most 6,000 characters."""

    body: Annotated[BodyTemplate, AfterValidator(lambda body: limited("call", body))]


class EmailTemplate(Received):
    """An email: its body at most 32 KB."""

    subject: SubjectTemplate
    body: Annotated[BodyTemplate, AfterValidator(lambda body: limited("email", body))]


class Messages(Received):
    """The content of a message by channel; a channel without content is not included."""

    text: TextTemplate | None = None
    call: CallTemplate | None = None
    email: EmailTemplate | None = None

    @model_validator(mode="after")
    def _has_a_channel(self) -> Self:
        if self.text is None and self.call is None and self.email is None:
            raise ValueError("at least one of text, call and email has content")
        return self

    def content(self) -> Content:
        """Give the content for the pure half."""
        bodies: dict[Channel, str] = {}
        if self.text:
            bodies["text"] = self.text.body
        if self.call:
            bodies["call"] = self.call.body
        if self.email:
            bodies["email"] = self.email.body
        return Content(bodies, self.email.subject if self.email else None)
