"""What the HTTP API receives and answers.

Shapes: imports the pure half. Messages name the field and the rule, never the value.
"""

import zoneinfo
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from patient_contact import bulk
from patient_contact.bulk_list import Refusal
from patient_contact.consent import ConsentSource, Evidence
from patient_contact.contact_info import e164, email_address, is_country
from patient_contact.facesheet import BROADCAST_TEXTS_PER_DAY
from patient_contact.facts import Channel, ConsentStatus, LineType, MessageClass, Status
from patient_contact.life import Delivery, Resolution, Sender, State
from patient_contact.reasons import Reason
from patient_contact.received import Body, Id, IsoTime, Messages, Received, Subject, limited
from patient_contact.remedies import RemedyCode
from patient_contact.replies import ReviewWord
from patient_contact.routing import Rule

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Note = Annotated[str, StringConstraints(max_length=1_000)]
PhoneText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
AddressText = Annotated[str, StringConstraints(min_length=1, max_length=320)]
Time = Annotated[str, Field(description="UTC, ISO 8601")]
# As AWS End User Messaging names its resources, or their ARNs.
AwsName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:/-]{1,256}$")]


# Left out of an answer when there is none.
OnlyIfGiven = Annotated[str | None, Field(exclude_if=lambda value: value is None)]


class Answered(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True, defer_build=True)


# --- practices and automations ------------------------------------------------------------------------------------


class PolicyFlags(Received):
    """The practice's documented departures from the default rules."""

    call_when_text_not_included: bool = False
    email_when_no_phone_channel: bool = False
    text_other_number: bool = False
    opt_out_blocks_calls: bool = False


def _is_e164(number: str) -> str:
    if e164(number, "ZZ") != number:
        raise ValueError("a line's number is a valid phone number in E.164, like +15035550100")
    return number


def _is_sender(address: str) -> str:
    normalised = email_address(address)
    if normalised is None:
        raise ValueError("not an email address")
    return normalised


class LineBody(Received):
    """One of the practice's own sending numbers; `review_words` are keywords of replies that it leaves to staff.

    The rest says how the service sends on it: from which identity of AWS End User Messaging (its number unless set),
    with which configuration set and opt-out list, and emails from which address. With `self_managed_opt_outs` AWS
    answers no keywords on it, and the service confirms STOP, START and HELP.
    """

    id: Id
    name: Name
    phone_number: Annotated[PhoneText, AfterValidator(_is_e164)]
    review_words: Annotated[list[ReviewWord], Field(max_length=5, default_factory=list)]
    origination_identity: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:/+-]{1,256}$")] | None = None
    configuration_set: AwsName | None = None
    opt_out_list: AwsName | None = None
    email_sender: Annotated[AddressText, AfterValidator(_is_sender)] | None = None
    self_managed_opt_outs: bool = False


class PracticeBody(Received):
    """A practice, as it is put."""

    name: Name
    time_zone: Annotated[str, StringConstraints(max_length=64)]
    default_country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    policy: PolicyFlags = PolicyFlags()
    lines: Annotated[list[LineBody], Field(min_length=1, max_length=20)]
    default_line: Id
    sending: bool = False
    broadcast_texts_per_day: Annotated[int, Field(ge=0, le=1_000_000)] = BROADCAST_TEXTS_PER_DAY

    @field_validator("time_zone")
    @classmethod
    def _time_zone_exists(cls, name: str) -> str:
        if name not in zoneinfo.available_timezones():
            raise ValueError("not a time zone of the IANA database, like America/Los_Angeles")
        return name

    @field_validator("default_country")
    @classmethod
    def _country_exists(cls, code: str) -> str:
        if not is_country(code):
            raise ValueError("not a country code of ISO 3166, like US")
        return code

    @field_validator("lines")
    @classmethod
    def _lines_differ(cls, lines: list[LineBody]) -> list[LineBody]:
        if len({line.id for line in lines}) < len(lines) or len({line.phone_number for line in lines}) < len(lines):
            raise ValueError("each line has its own id and its own number")
        return lines

    @model_validator(mode="after")
    def _default_line_exists(self) -> Self:
        if self.default_line not in {line.id for line in self.lines}:
            raise ValueError("default_line is not among the lines")
        return self


class Warned(Answered):
    """Something that the practice should know of what it has set."""

    code: str
    message: str


class LineAnswer(Answered):
    """One of the practice's own sending numbers."""

    id: str
    name: str
    phone_number: str
    review_words: Annotated[list[ReviewWord], Field(exclude_if=lambda words: not words)]
    origination_identity: OnlyIfGiven
    configuration_set: OnlyIfGiven
    opt_out_list: OnlyIfGiven
    email_sender: OnlyIfGiven
    self_managed_opt_outs: Annotated[bool, Field(exclude_if=lambda is_on: not is_on)]


class PracticeAnswer(Answered):
    """A practice."""

    practice_id: str
    name: str
    time_zone: str
    default_country: str
    policy: PolicyFlags
    lines: list[LineAnswer]
    default_line: str
    sending: bool
    broadcast_texts_per_day: int


class PracticePutAnswer(PracticeAnswer):
    """A practice as it now is, with what it should know."""

    warnings: list[Warned]


class AutomationBody(Received):
    """An automation, as it is put; `line` left out is the practice's default line, whichever it is then."""

    name: Name
    line: Id | None = None
    enabled: bool = True
    messages: Messages


class AutomationAnswer(Answered):
    """An automation."""

    automation_id: str
    name: str
    line: str | None
    enabled: bool
    messages: dict[str, dict[str, str]]
    channels: list[Channel]


class AutomationPutAnswer(AutomationAnswer):
    """An automation as it now is, with what its channels cannot do under the practice's policy."""

    warnings: list[Warned]


class AutomationList(Answered):
    """A page of automations."""

    items: list[AutomationAnswer]
    next: str | None


class CellAnswer(Answered):
    """What is sent for one set of channels (null: nothing), and why."""

    channels: str
    channel: Channel | None
    reason: Reason


class RowAnswer(Answered):
    """One shape of patient under one consent."""

    patient: str
    consent: Literal["in", "out", "any", "–"]
    cells: list[CellAnswer]


class TruthTable(Answered):
    """The truth table of a policy."""

    policy: PolicyFlags
    rows: list[RowAnswer]


# --- patients -----------------------------------------------------------------------------------------------------


class PhoneBody(Received):
    """A phone as registration sends it."""

    number: PhoneText
    line_type: LineType | None = None
    status: Status | None = None


class EmailBody(Received):
    """An email address as registration sends it."""

    address: AddressText
    status: Status | None = None


class ContactInfoBody(Received):
    """What registration sends; it replaces the phones and emails on file, and nothing else."""

    phones: Annotated[list[PhoneBody], Field(max_length=20)]
    emails: Annotated[list[EmailBody], Field(max_length=20)]


EMAIL_NOT_SUPPORTED = "Email is not supported as a preferred contact."


def _is_not_email(text: str) -> str:
    if "@" in text:
        raise ValueError(EMAIL_NOT_SUPPORTED)
    return text


class PreferredContactBody(Received):
    """The phone on file that staff prefer."""

    phone_number: Annotated[str, StringConstraints(min_length=1, max_length=320), AfterValidator(_is_not_email)]


class DoNotContactBody(Received):
    """Whether automations are stopped."""

    enabled: bool
    note: Note | None = None


def _without_its_value(value: object, read: ValidatorFunctionWrapHandler) -> datetime:
    """Read a time; what is said of one that is none would else repeat it."""
    try:
        time: datetime = read(value)
    except ValidationError:
        raise ValueError("not a time in ISO 8601 with its offset, like 2026-11-20T17:02:11Z") from None
    return time


class SmsConsentBody(Received):
    """What staff record for a patient: an opt-out, or, with evidence of the patient's wish, an opt-in.

    `said_at` is when the patient said so or signed: now, unless given. With it, the same again changes nothing.
    """

    phone_number: PhoneText
    line: Id
    status: Literal["opted_out", "opted_in"]
    evidence: Evidence | None = None
    note: Note | None = None
    said_at: Annotated[IsoTime, WrapValidator(_without_its_value)] | None = None


SharedWith = Annotated[
    Annotated[int, Field(ge=0, le=100)] | Literal["100+"],
    Field(description="how many other patients of the practice have this phone"),
]


class PhoneAnswer(Answered):
    """A phone on file, as staff see it; `suspect`: texts to it have failed lately, and it is routed all the same."""

    number: str
    line_type: LineType
    status: Status
    suspect: bool
    display: Literal["TEXT", "CALL"]
    shared_with: SharedWith


class EmailAnswer(Answered):
    """An email address on file."""

    address: str
    status: Status


class PreferredContactAnswer(Answered):
    """The phone that staff prefer; dormant when it has left the file."""

    number: str
    display: Literal["TEXT", "CALL"]
    on_file: bool


class ConsentAnswer(Answered):
    """The consent in force for a phone number and a line, and where it came from."""

    phone_number: str
    line: str
    status: ConsentStatus
    source: ConsentSource
    recorded_at: Time


class SmsConsentAnswer(Answered):
    """SMS consent in words, and where something was recorded."""

    status: str
    numbers: list[ConsentAnswer]


class Facesheet(Answered):
    """One patient: contact info, preferred contact, do not contact, SMS consent."""

    practice_id: str
    patient_id: str
    version: int
    phones: list[PhoneAnswer]
    emails: list[EmailAnswer]
    preferred_contact: PreferredContactAnswer | None
    do_not_contact: bool
    sms_consent: SmsConsentAnswer
    updated_at: Time
    updated_by: str


class Change(Answered):
    """One change of a patient: who, when, what, from what to what."""

    version: int
    at: Time
    by: str
    what: Literal["contact_info", "preferred_contact", "do_not_contact"]
    old: object
    new: object
    note: OnlyIfGiven = None


class ChangeList(Answered):
    """A page of changes, newest first."""

    items: list[Change]
    next: str | None


class SearchBody(Received):
    """Exactly one of the two."""

    phone_number: PhoneText | None = None
    patient_id: Id | None = None

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if (self.phone_number is None) == (self.patient_id is None):
            raise ValueError("give phone_number or patient_id, and only one of them")
        return self


class Found(Answered):
    """A patient who was found."""

    patient_id: str


class FoundList(Answered):
    """A page of patients."""

    items: list[Found]
    next: str | None


# --- consent ------------------------------------------------------------------------------------------------------


class NumberBody(Received):
    """A phone number."""

    phone_number: PhoneText


class EvidenceAnswer(Answered):
    """What a change rests on: a receipt, a lookup, a provider's refusal, or that registration sent the number anew."""

    source: Literal["receipt", "lookup", "refusal", "registration"]
    code: str
    at: Time
    provider_message_id: OnlyIfGiven = None


class LineConsentAnswer(Answered):
    """The consent in force on one line, and where it came from; without a source where nothing was ever said."""

    line: str
    status: ConsentStatus
    source: ConsentSource | None
    actor: str | None
    said_at: Time | None
    recorded_at: Time | None


class SaidAnswer(Answered):
    """One thing that was recorded of consent, and what was in force after it.

    `status` is what was said or found, `under_review` for a reply that was put on the list, with its `text`.
    """

    line: str
    status: ConsentStatus | Literal["not_a_request"]
    in_force: ConsentStatus
    source: ConsentSource
    said_at: Time
    recorded_at: Time
    actor: OnlyIfGiven = None
    evidence: OnlyIfGiven = None
    note: OnlyIfGiven = None
    text: OnlyIfGiven = None
    review_id: OnlyIfGiven = None
    ends: Annotated[
        list[str] | None,
        Field(exclude_if=lambda value: value is None, description="reviews that this answered, and so ended"),
    ] = None


class NumberChange(Answered):
    """One change of what is known of a number, and the evidence for it."""

    at: Time
    status: Status
    suspect: bool
    line_type: LineType
    evidence: EvidenceAnswer | None


class NumberAnswer(Answered):
    """A phone number: what is known of it, consent by line, who shares it, and a page of its consent history.

    `patients` are the first hundred who have it on file, `changes` the last fifty of its status and line type.
    """

    phone_number: str
    status: Status
    suspect: bool
    line_type: LineType
    looked_up_at: Time | None
    evidence: EvidenceAnswer | None
    sms_consent: list[LineConsentAnswer]
    patients: list[str]
    more_patients: bool
    changes: list[NumberChange]
    history: list[SaidAnswer]
    next: str | None


class OptOutAnswer(Answered):
    """A number that is opted out of texts from a line."""

    phone_number: str
    line: str
    source: ConsentSource
    actor: str | None
    said_at: Time
    recorded_at: Time


class OptOutList(Answered):
    """A page of current opt-outs, by line, the first said first."""

    items: list[OptOutAnswer]
    next: str | None


class ReviewAnswer(Answered):
    """A reply that staff must read by the end of the day on which it is due, since it may be a wish of this kind."""

    review_id: str
    due_on: Annotated[str, Field(description="a day in the practice's time zone, ISO 8601")]
    overdue: bool
    phone_number: str
    line: str
    wish: Literal["opted_in", "opted_out"]
    text: str
    said_at: Time
    recorded_at: Time
    sms_consent: ConsentStatus
    patients: list[str]
    more_patients: bool


class ReviewList(Answered):
    """A page of open reviews, the first due first."""

    items: list[ReviewAnswer]
    next: str | None


class ReviewBody(Received):
    """What a reply was, as staff read it."""

    outcome: Literal["opted_out", "not_a_request"]
    note: Note | None = None


class ClosedReview(Answered):
    """A review that is closed, and what is in force after it."""

    review_id: str
    phone_number: str
    line: str
    outcome: Literal["opted_out", "not_a_request"]
    closed_by: str
    closed_at: Time
    sms_consent: ConsentStatus


class ImportChange(Answered):
    """A row of a file that opts a number out; `csv_line` is where it begins, the header's line being 1."""

    csv_line: int
    phone_number: str
    line: str
    from_: Annotated[ConsentStatus, Field(alias="from")]
    to: ConsentStatus


class ImportSkipped(Answered):
    """A row that would opt a number in that is opted out: an import can only opt out."""

    csv_line: int
    phone_number: str
    line: str
    reason: Literal["OPT_OUT_ON_RECORD"]


class ImportRefused(Answered):
    """A row that cannot be read: the column, null when it is the whole row, and why; never its value."""

    csv_line: int
    column: str | None
    message: str


class ImportAnswer(Answered):
    """What an import changed, or in a dry run would change; `unchanged` rows are on record or change nothing."""

    dry_run: bool
    rows: int
    changes: list[ImportChange]
    skipped: list[ImportSkipped]
    unchanged: int
    refused: list[ImportRefused]


# --- routing ------------------------------------------------------------------------------------------------------


class MessageBody(Received):
    """A message to be routed; `line` left out is the default line, `phone_number` is the phone staff chose (manual)."""

    message_class: Annotated[MessageClass, Field(alias="class")]
    channels: Annotated[list[Channel], Field(min_length=1, max_length=3)]
    line: Id | None = None
    phone_number: PhoneText | None = None

    @field_validator("channels")
    @classmethod
    def _channels_differ(cls, channels: list[Channel]) -> list[Channel]:
        if len(set(channels)) < len(channels):
            raise ValueError("each channel is named once")
        return channels

    @model_validator(mode="after")
    def _manual_is_one_channel(self) -> Self:
        if self.message_class == "manual" and len(self.channels) != 1:
            raise ValueError("a manual message has exactly one channel")
        if self.phone_number is not None and (self.message_class != "manual" or self.channels == ["email"]):
            raise ValueError("phone_number is for a manual text or call")
        return self


class FactsPhoneBody(Received):
    """A phone, as routing sees it."""

    number: PhoneText
    line_type: LineType = "unknown"
    status: Status = "valid"


class FactsEmailBody(Received):
    """An email address, as routing sees it."""

    address: AddressText
    status: Status = "valid"


class FactsConsentBody(Received):
    """The consent recorded for a phone number and a line."""

    phone_number: PhoneText
    line: Id
    status: ConsentStatus


class FactsBody(Received):
    """The facts of a patient who need not be stored."""

    phones: Annotated[list[FactsPhoneBody], Field(max_length=20, default_factory=list)]
    emails: Annotated[list[FactsEmailBody], Field(max_length=20, default_factory=list)]
    preferred_contact: Annotated[PhoneText, AfterValidator(_is_not_email)] | None = None
    do_not_contact: bool = False
    sms_consent: Annotated[list[FactsConsentBody], Field(max_length=400, default_factory=list)]

    @field_validator("sms_consent")
    @classmethod
    def _consent_is_said_once(cls, consents: list[FactsConsentBody]) -> list[FactsConsentBody]:
        if len({(consent.phone_number, consent.line) for consent in consents}) < len(consents):
            raise ValueError("each phone number and line has one consent")
        return consents


class ChangesBody(Received):
    """What would be if: preferences that replace the stored ones."""

    preferred_contact: Annotated[PhoneText, AfterValidator(_is_not_email)] | None = None
    do_not_contact: bool = False


class EvaluateBody(Received):
    """Messages for a stored patient or given facts; `policy` replaces the practice's, `changes` stored preferences."""

    message: MessageBody | None = None
    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=50)] | None = None
    patient_id: Id | None = None
    patient: FactsBody | None = None
    policy: PolicyFlags | None = None
    changes: ChangesBody | None = None

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if (self.message is None) == (self.messages is None):
            raise ValueError("give message or messages, and only one of them")
        if (self.patient_id is None) == (self.patient is None):
            raise ValueError("give patient_id or patient, and only one of them")
        if self.changes is not None and self.patient is not None:
            raise ValueError("changes are for a stored patient; put them into patient")
        return self


class StepAnswer(Answered):
    """One rule that was tried, and why it fired or did not."""

    rule: Rule
    channel: Channel | None
    phone: str | None
    fired: bool
    reason: Reason


class MessageAnswer(Answered):
    """The message that was routed."""

    message_class: Annotated[MessageClass, Field(alias="class")]
    channels: list[Channel]
    line: str
    phone_number: OnlyIfGiven = None


class FactsPhoneAnswer(Answered):
    """A phone, as routing saw it."""

    number: str
    line_type: LineType
    status: Status


class FactsConsentAnswer(Answered):
    """A consent, as routing saw it."""

    phone_number: str
    line: str
    status: ConsentStatus


class FactsAnswer(Answered):
    """The facts that were read, in the form that evaluate accepts."""

    phones: list[FactsPhoneAnswer]
    emails: list[EmailAnswer]
    preferred_contact: str | None
    do_not_contact: bool
    sms_consent: list[FactsConsentAnswer]


class DecisionAnswer(Answered):
    """Whether, where and how one message goes to one patient, and why; enough to replay it."""

    outcome: Literal["deliver", "suppress"]
    channel: Channel | None
    destination: str | None
    reason: Reason
    rule: Rule | None
    explanation: str
    steps: list[StepAnswer]
    message: MessageAnswer
    policy: PolicyFlags
    facts: FactsAnswer


class DecisionList(Answered):
    """The decisions of many messages, in their order."""

    decisions: list[DecisionAnswer]


class LifeEntry(Answered):
    """A state that a message was in, from when, and what brought it there; refusals of one kind are counted."""

    state: State
    at: Time
    attempt: OnlyIfGiven = None
    channel: Annotated[Channel | None, Field(exclude_if=lambda value: value is None)] = None
    provider_message_id: OnlyIfGiven = None
    code: Annotated[OnlyIfGiven, Field(description="the provider's code, or why its answer is not known")] = None
    reason: OnlyIfGiven = None
    times: Annotated[int | None, Field(exclude_if=lambda value: value is None)] = None
    by: OnlyIfGiven = None
    note: OnlyIfGiven = None


class DeliveryAnswer(Answered):
    """How far the message has come, by the receipts of its provider."""

    status: Delivery
    code: str
    at: Time


class RecordedDecision(DecisionAnswer):
    """A decision that was taken for a message, with where the message stands and how it came there.

    Taken again right before sending, it may have come out otherwise: `previous` is the one before. `withdrawn` says why
    the message was not sent after all, `code` is the provider's.
    """

    message_id: str
    decided_at: Time
    state: State
    sender: Sender
    send_before: OnlyIfGiven = None
    attempt: OnlyIfGiven = None
    withdrawn: OnlyIfGiven = None
    provider_message_id: OnlyIfGiven = None
    code: OnlyIfGiven = None
    delivery: Annotated[DeliveryAnswer | None, Field(exclude_if=lambda value: value is None)] = None
    previous: Annotated[DecisionAnswer | None, Field(exclude_if=lambda value: value is None)] = None
    life: list[LifeEntry]


class UnknownSend(RecordedDecision):
    """A message whose provider did not say whether it took it: since when, and whether that is too long."""

    patient_id: str
    since: Time
    overdue: bool


class UnknownSendList(Answered):
    """A page of sends whose outcome is unknown, the oldest first."""

    items: list[UnknownSend]
    next: str | None


class ResolveBody(Received):
    """What became of a message whose outcome is unknown: of this `attempt`, which may be left out the first time."""

    outcome: Resolution
    attempt: Annotated[str, StringConstraints(max_length=64)] | None = None
    note: Note | None = None


class RecordedDecisionList(Answered):
    """A page of decisions, newest first."""

    items: list[RecordedDecision]
    next: str | None


class ManualMessageBody(Received):
    """A message that staff write; `phone_number` is one on file, for a text or call, `subject` for an email."""

    channel: Channel
    line: Id | None = None
    body: Body
    subject: Subject | None = None
    phone_number: PhoneText | None = None

    @model_validator(mode="after")
    def _fits_its_channel(self) -> Self:
        limited(self.channel, self.body)
        if (self.subject is not None) != (self.channel == "email"):
            raise ValueError("an email has a subject, a text or call has none")
        if self.phone_number is not None and self.channel == "email":
            raise ValueError("phone_number is for a text or call")
        return self


# --- broadcasts, campaigns, dry runs ------------------------------------------------------------------------------

# Staff choose so many patients for a broadcast at most; a larger list is a campaign.
MAX_PATIENT_IDS = 3_000
PatientIds = Annotated[list[Id], Field(min_length=1, max_length=MAX_PATIENT_IDS)]
ReadTime = Annotated[IsoTime, WrapValidator(_without_its_value)]


class UploadedList(Received):
    """A list in the stack's bucket of lists, under `lists/{practice_id}/`: `.csv` with a header, or `.jsonl`.

    A row is a line: a CSV row has a column `patient_id`, the others fill the message's placeholders; a line of JSON is
    `{"patient_id": "…", "context": {…}}`, or a patient id in quotes.
    """

    key: Annotated[str, StringConstraints(min_length=1, max_length=1_024)]


class BulkBody(Received):
    """What one message to many patients is; `starts_at` is now, unless given, and `line` the default line."""

    name: Name
    line: Id | None = None
    messages: Messages
    starts_at: ReadTime | None = None
    send_before: ReadTime | None = None


class BroadcastBody(BulkBody):
    """A message to patients whom staff have chosen."""

    patient_ids: PatientIds


class CampaignBody(BulkBody):
    """A message to the patients of a list."""

    list: UploadedList


class WhatIfBody(Received):
    """What a dry run asks about: another policy, or other messages; nothing, and it says who would get what."""

    policy: PolicyFlags | None = None
    messages: Messages | None = None


class AutomationDryRunBody(WhatIfBody):
    """Over whom an automation is tried: patient ids, or a list."""

    patient_ids: PatientIds | None = None
    list: UploadedList | None = None

    @model_validator(mode="after")
    def _is_over_somebody(self) -> Self:
        if (self.patient_ids is None) == (self.list is None):
            raise ValueError("give either patient_ids or a list")
        return self


class Routed(Answered):
    """What a patient gets, and why."""

    outcome: Literal["deliver", "suppress"]
    channel: Channel | None
    reason: Reason


class ChangeAnswer(Answered):
    """How many patients would get something, or something for a reason, that they would not get before."""

    model_config = ConfigDict(frozen=True, defer_build=True, populate_by_name=True)

    from_: Annotated[Routed, Field(alias="from")]
    to: Routed
    patients: int


class BulkAnswer(Answered):
    """A broadcast, campaign or dry run, and how far it has come: exact counts, but for what is under way.

    `done` rows are `routed`, `suppressed` or `refused`. `sent`, `failed`, `unknown` and `withdrawn` are what became of
    those routed; what the practice sends itself is `handed_over`. `total` is known once the list is read, and it is
    `completed` when all rows have come to their end. `rate` is how many do so in a second.
    """

    id: str
    kind: bulk.Kind
    dry_run: bool
    name: str
    line: str
    channels: list[Channel]
    sender: Sender | None
    created_at: Time
    created_by: str
    starts_at: Time | None
    send_before: Time | None
    state: bulk.State
    failure: str | None
    total: int | None
    done: int
    routed: int
    suppressed: int
    refused: int
    by_channel: dict[Channel, int]
    by_reason: dict[Reason | Refusal, int]
    sent: int
    failed: int
    unknown: int
    withdrawn: int
    handed_over: int
    rate: float | None
    estimated_end: Time | None
    changes: Annotated[list[ChangeAnswer], Field(description="of a dry run that asks what would change")]


class RemedyAnswer(Answered):
    """The one change that would help."""

    code: RemedyCode
    message: str


class RecipientAnswer(Answered):
    """What became of a row of the list; `before` is what it would be without what a dry run asks about."""

    row: int
    patient_id: str | None
    outcome: Literal["deliver", "suppress", "refused"]
    channel: Channel | None
    reason: Reason | Refusal
    explanation: str
    remedy: Annotated[RemedyAnswer | None, Field(exclude_if=lambda value: value is None)] = None
    before: Annotated[Routed | None, Field(exclude_if=lambda value: value is None)] = None


class RecipientList(Answered):
    """A page of what became of the rows of a list, in its order; it may be short, or empty, and yet have a next."""

    items: list[RecipientAnswer]
    next: str | None


# --- errors -------------------------------------------------------------------------------------------------------


class FieldError(Answered):
    """What is wrong with one field; never its value."""

    loc: list[str | int]
    type: str
    msg: str


class Problem(Answered):
    """A problem document of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
