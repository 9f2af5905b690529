"""What routing needs to know of a patient, a message and a practice's policy.

Pure: anything may import this module, and it imports nothing of ours.
"""

from dataclasses import dataclass
from typing import Literal

LineType = Literal["text_enabled", "landline", "unknown"]
Status = Literal["valid", "invalid"]
ConsentStatus = Literal["opted_in", "opted_out", "under_review"]
MessageClass = Literal["automation", "broadcast", "campaign", "manual"]
Channel = Literal["text", "call", "email"]

CHANNELS: tuple[Channel, ...] = ("text", "call", "email")


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone on file: an E.164 number, or what registration sent in its place when that is no number."""

    number: str
    line_type: LineType = "unknown"
    status: Status = "valid"


@dataclass(frozen=True, slots=True)
class Email:
    """An email address on file."""

    address: str
    status: Status = "valid"


@dataclass(frozen=True, slots=True)
class Consent:
    """What is recorded of texts from one of the practice's lines to one phone number."""

    phone_number: str
    line: str
    status: ConsentStatus


@dataclass(frozen=True, slots=True)
class Facts:
    """All that routing reads of a patient; phones and emails in the order on file."""

    phones: tuple[Phone, ...] = ()
    emails: tuple[Email, ...] = ()
    preferred_contact: str | None = None
    do_not_contact: bool = False
    sms_consent: tuple[Consent, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be sent: its class, the channels for which it has content, and the line it goes out on.

    `phone_number` is the phone that staff chose, for manual messages only.
    """

    message_class: MessageClass
    channels: frozenset[Channel]
    line: str
    phone_number: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A practice's documented departures from the default rules; all off unless switched on."""

    call_when_text_not_included: bool = False
    email_when_no_phone_channel: bool = False
    text_other_number: bool = False
    opt_out_blocks_calls: bool = False


def is_number(on_file: str) -> bool:
    """Say whether a phone on file is a number, which is always kept in E.164, or what came in place of one.

    By its form alone: what a later edition of the numbering plans says must not change which number consent belongs to.
    """
    return on_file.startswith("+") and on_file[1:].isdecimal() and on_file.isascii()
