"""What a request asks for, held against the practice and the patient: lines that exist, phones that are on file.

I/O only where it says `read`. Raises `Invalid` with the place of the field, never its value.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from patient_contact import api, http, patients, practices
from patient_contact.consent import LineConsent
from patient_contact.contact_info import e164, emails_on_file, phones_on_file
from patient_contact.facesheet import Patient, Practice
from patient_contact.facts import Consent, Facts, Message, Phone, Policy

Loc = tuple[str | int, ...]


def practice(practice_id: str) -> Practice:
    """Read the practice; raise Unknown when there is none."""
    found = practices.read(practice_id)
    if found is None:
        raise http.Unknown("practice")
    return found


def patient(practice_id: str, patient_id: str) -> Patient:
    """Read the patient; raise UnknownPatient when there is none."""
    return known(patients.read(practice_id, patient_id))


def known(found: Patient | None) -> Patient:
    """Give the patient who was found; raise UnknownPatient when there was none."""
    if found is None:
        raise patients.UnknownPatient
    return found


def line(of: Practice, asked_for: str | None, loc: Loc) -> str:
    """Give the line asked for, or the default line."""
    if asked_for is None:
        return of.default_line
    if not of.has_line(asked_for):
        raise http.Invalid(loc, "unknown_line", "the practice has no such line")
    return asked_for


def number(text: str, of: Practice, loc: Loc) -> str:
    """Give a phone number in E.164."""
    normalised = e164(text, of.default_country)
    if normalised is None:
        raise http.Invalid(loc, "not_a_number", "not a valid phone number")
    return normalised


def time(text: str, of: Practice, loc: Loc) -> datetime:
    """Give a time that is ISO 8601: a moment with its offset, or a day, which begins in the practice's time zone."""
    try:
        asked_for = datetime.fromisoformat(text)
    except ValueError:
        raise http.Invalid(loc, "time", "not a time in ISO 8601, like 2026-11-20T17:02:11Z or 2026-11-20") from None
    if not 1970 < asked_for.year < 9999:
        raise http.Invalid(loc, "time", "not a time of our days")
    return asked_for if asked_for.tzinfo else asked_for.replace(tzinfo=ZoneInfo(of.time_zone))


def phone_on_file(phones: tuple[Phone, ...], text: str, of: Practice, loc: Loc) -> str:
    """Give a number as it is on file, however it was written."""
    candidates = (text, e164(text, of.default_country))
    for phone in phones:
        if phone.number in candidates:
            return phone.number
    raise http.Invalid(loc, "not_on_file", "this phone is not on the patient's file")


def said_at(body: api.SmsConsentBody, now: datetime) -> datetime | None:
    """Give when the patient said so; None for now."""
    if body.said_at is not None and body.said_at > now:
        raise http.Invalid(("body", "said_at"), "time", "lies in the future")
    return body.said_at


def may_opt_in(body: api.SmsConsentBody) -> Callable[[LineConsent], None]:
    """Hold an opt-in by staff against its evidence, and give what holds it against the consent in force."""
    if body.status == "opted_in" and body.evidence is None:
        raise http.Invalid(("body", "evidence"), "missing", "opting in for a patient needs evidence of their wish")

    def check(before: LineConsent) -> None:
        if body.status == "opted_out":
            return
        if before.only_the_patient_can_undo:
            message = "the patient opted out by replying; only they can opt in again, by replying START"
            raise http.Invalid(("body", "status"), "opted_out_by_the_patient", message)
        if any(review.wish == "opted_out" for review in before.reviews.values()):
            raise http.Conflict(
                "review-open", "A reply that may be an opt-out waits to be read: close its review first."
            )

    return check


def policy(body: api.PolicyFlags) -> Policy:
    """Give the policy asked for."""
    return Policy(**body.model_dump())


def message(body: api.MessageBody, facts: Facts, of: Practice, loc: Loc) -> Message:
    """Give the message to be routed."""
    on_line = line(of, body.line, (*loc, "line"))
    chosen = body.phone_number
    if chosen is not None:
        chosen = phone_on_file(facts.phones, chosen, of, (*loc, "phone_number"))
    return Message(body.message_class, frozenset(body.channels), on_line, chosen)


def facts(body: api.FactsBody, of: Practice) -> Facts:
    """Give the facts of a patient who is not stored, normalised as contact info is."""
    phones = phones_on_file(
        ((phone.number, phone.line_type, phone.status) for phone in body.phones), of.default_country
    )
    emails = emails_on_file((email.address, email.status) for email in body.emails)
    consents = tuple(
        Consent(_as_on_file(consent.phone_number, of), consent.line, consent.status) for consent in body.sms_consent
    )
    if len({(consent.phone_number, consent.line) for consent in consents}) < len(consents):
        raise http.Invalid(
            ("body", "patient", "sms_consent"), "duplicate", "each phone number and line has one consent"
        )
    preferred = body.preferred_contact
    return Facts(phones, emails, preferred and _as_on_file(preferred, of), body.do_not_contact, consents)


def changed(stored: Facts, changes: api.ChangesBody | None, of: Practice) -> Facts:
    """Give the facts as they would be with these preferences."""
    if changes is None:
        return stored
    result = stored
    if "preferred_contact" in changes.model_fields_set:
        preferred = changes.preferred_contact
        if preferred is not None:
            preferred = phone_on_file(stored.phones, preferred, of, ("body", "changes", "preferred_contact"))
        result = replace(result, preferred_contact=preferred)
    if "do_not_contact" in changes.model_fields_set:
        result = replace(result, do_not_contact=changes.do_not_contact)
    return result


def _as_on_file(text: str, of: Practice) -> str:
    return e164(text, of.default_country) or text
