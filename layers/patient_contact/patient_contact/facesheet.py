"""What is kept of a practice, a patient and a phone number, and the two views of it: routing's facts and the facesheet.

Pure. Times are UTC, ISO 8601, as text.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from patient_contact.consent import ConsentRecord, LineConsent
from patient_contact.facts import Consent, Email, Facts, Phone, Policy, Status
from patient_contact.verdict import NOTHING_KNOWN, Verdict

# How many texts a practice's broadcasts may take in a day, unless it sets another number.
BROADCAST_TEXTS_PER_DAY = 3_000


@dataclass(frozen=True, slots=True)
class Line:
    """One of the practice's own sending numbers; `review_words` are the keywords that it leaves to staff.

    What it sends goes out from its number, or from another `origination_identity` of AWS End User Messaging. With
    `self_managed_opt_outs`, AWS answers no keywords for it, and the service confirms them.
    """

    id: str
    name: str
    phone_number: str
    review_words: tuple[str, ...] = ()
    origination_identity: str | None = None
    configuration_set: str | None = None
    opt_out_list: str | None = None
    email_sender: str | None = None
    self_managed_opt_outs: bool = False


@dataclass(frozen=True, slots=True)
class Practice:
    """The tenant: its policy, its lines and how its phone numbers are read."""

    practice_id: str
    name: str
    time_zone: str
    default_country: str
    policy: Policy
    lines: tuple[Line, ...]
    default_line: str
    sending: bool
    version: int
    broadcast_texts_per_day: int = BROADCAST_TEXTS_PER_DAY

    def has_line(self, line: str) -> bool:
        """Say whether `line` is one of the practice's lines."""
        return self.line(line) is not None

    def line(self, line: str) -> Line | None:
        """Give the line of this id."""
        return next((own for own in self.lines if own.id == line), None)


@dataclass(frozen=True, slots=True)
class Patient:
    """Contact info and preferences of one patient; `version` counts the changes made to them."""

    practice_id: str
    patient_id: str
    version: int
    phones: tuple[Phone, ...]
    emails: tuple[Email, ...]
    preferred_contact: str | None
    do_not_contact: bool
    updated_at: str
    updated_by: str


@dataclass(frozen=True, slots=True)
class Number:
    """What is known of a phone number whoever has it: what carriers say of it, and consent by line."""

    verdict: Verdict = NOTHING_KNOWN
    consent: Mapping[str, LineConsent] = field(default_factory=dict)


UNKNOWN_NUMBER = Number()


def facts_of(patient: Patient, numbers: Mapping[str, Number]) -> Facts:
    """Gather what routing needs: the patient's file, with what is known of each number whoever has it."""
    phones = phones_of(patient, numbers)
    consents = tuple(Consent(number, line, record.status) for number, line, record in _recorded(phones, numbers))
    return Facts(phones, patient.emails, patient.preferred_contact, patient.do_not_contact, consents)


def phones_of(patient: Patient, numbers: Mapping[str, Number]) -> tuple[Phone, ...]:
    """Give the phones on file; a line type that registration sent beats the number's, either's `invalid` stands."""
    return tuple(_known(phone, numbers.get(phone.number, UNKNOWN_NUMBER)) for phone in patient.phones)


def _known(phone: Phone, number: Number) -> Phone:
    line_type = number.verdict.line_type if phone.line_type == "unknown" else phone.line_type
    status: Status = "invalid" if "invalid" in (phone.status, number.verdict.status) else "valid"
    return Phone(phone.number, line_type, status)


def _recorded(phones: Iterable[Phone], numbers: Mapping[str, Number]) -> Iterator[tuple[str, str, ConsentRecord]]:
    """Give the (number, line) pairs of these phones on which something was recorded, with what it was."""
    for phone in phones:
        for line, consent in sorted(numbers.get(phone.number, UNKNOWN_NUMBER).consent.items()):
            if (record := consent.record) is not None:
                yield phone.number, line, record


def facesheet(
    patient: Patient, numbers: Mapping[str, Number], shared_with: Mapping[str, int | str]
) -> dict[str, object]:
    """Give the facesheet in the form of the API; `shared_with` says how many others have each number."""
    phones = phones_of(patient, numbers)
    consents = [
        {
            "phone_number": number,
            "line": line,
            "status": record.status,
            "source": record.source,
            "recorded_at": record.recorded_at,
        }
        for number, line, record in _recorded(phones, numbers)
    ]
    opted_out = sum(consent["status"] == "opted_out" for consent in consents)
    return {
        "practice_id": patient.practice_id,
        "patient_id": patient.patient_id,
        "version": patient.version,
        "phones": [
            {
                "number": phone.number,
                "line_type": phone.line_type,
                "status": phone.status,
                "suspect": phone.status == "valid" and numbers.get(phone.number, UNKNOWN_NUMBER).verdict.suspect,
                "display": display(phone),
                "shared_with": shared_with.get(phone.number, 0),
            }
            for phone in phones
        ],
        "emails": [{"address": email.address, "status": email.status} for email in patient.emails],
        "preferred_contact": _preferred_contact(patient.preferred_contact, phones),
        "do_not_contact": patient.do_not_contact,
        "sms_consent": {
            "status": f"Opted Out of {opted_out} numbers" if opted_out else "Opted In",
            "numbers": consents,
        },
        "updated_at": patient.updated_at,
        "updated_by": patient.updated_by,
    }


def display(phone: Phone) -> Literal["TEXT", "CALL"]:
    """Show a phone as staff know it: TEXT when it is text-enabled, else CALL."""
    return "TEXT" if phone.line_type == "text_enabled" else "CALL"


def _preferred_contact(number: str | None, phones: tuple[Phone, ...]) -> dict[str, object] | None:
    """Show what staff chose; a number that has left the file is dormant, and shown CALL, its type being unknown."""
    if number is None:
        return None
    phone = next((phone for phone in phones if phone.number == number), None)
    return {"number": number, "display": display(phone or Phone(number)), "on_file": phone is not None}
