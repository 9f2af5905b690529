"""What would help where nothing is sent: the change that staff would make first, tried on the routing rules themselves.

Pure: imports facts and the routing rules. A remedy names no patient, number or address.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from patient_contact.facts import CHANNELS, Channel, ConsentStatus, Email, Facts, LineType, Message, Phone
from patient_contact.routing import Decision, decide

RemedyCode = Literal[
    "ADD_EMAIL",
    "ADD_PHONE",
    "ASK_LINE_TYPE",
    "ENABLE_AUTOMATION",
    "INCLUDE_CALL",
    "INCLUDE_EMAIL",
    "INCLUDE_TEXT",
    "PATIENT_OPTS_IN",
    "READ_REPLY",
    "TURN_OFF_DO_NOT_CONTACT",
]

SENTENCES: dict[RemedyCode, str] = {
    "ADD_EMAIL": "Add an email address.",
    "ADD_PHONE": "No valid phone is on file: add one that the message can use.",
    "ASK_LINE_TYPE": "Say whether the phone on file is text-enabled.",
    "ENABLE_AUTOMATION": "Switch the automation on.",
    "INCLUDE_CALL": "Include a call in the message.",
    "INCLUDE_EMAIL": "Include an email in the message.",
    "INCLUDE_TEXT": "Include a text in the message.",
    "PATIENT_OPTS_IN": "Only the patient can opt in to texts again: by replying START.",
    "READ_REPLY": "Read the patient's reply and close its review.",
    "TURN_OFF_DO_NOT_CONTACT": "Turn off Do Not Contact, if the patient agrees.",
}

_INCLUDE: dict[Channel, RemedyCode] = {"text": "INCLUDE_TEXT", "call": "INCLUDE_CALL", "email": "INCLUDE_EMAIL"}
_CONSENTS: dict[ConsentStatus, RemedyCode] = {"under_review": "READ_REPLY", "opted_out": "PATIENT_OPTS_IN"}
# What registration might add: no patient has these.
_NEW_LINES: tuple[LineType, ...] = ("text_enabled", "landline")
_NEW_NUMBER, _NEW_EMAIL = "+10000000000", Email("new@example.org")


class Remedy(NamedTuple):
    """The first change to make, and all that it takes in a sentence or more for staff."""

    code: RemedyCode
    message: str


def remedy(decision: Decision) -> Remedy | None:
    """Say what would get the message of a suppressed decision delivered; None when it is delivered.

    None for manual messages, too: staff chose their channel and phone, and see at once why it cannot be. Where one
    change is not enough, `code` is the one that has to come first and `message` says the others after it.
    """
    facts, message = decision.facts, decision.message
    if decision.outcome == "deliver" or message.message_class == "manual":
        return None
    if decision.reason == "AUTOMATION_DISABLED":
        return _and_then("ENABLE_AUTOMATION", remedy(decide(facts, message, decision.policy)))
    if decision.reason == "DO_NOT_CONTACT":
        contacted = decide(replace(facts, do_not_contact=False), message, decision.policy)
        return _and_then("TURN_OFF_DO_NOT_CONTACT", remedy(contacted))
    return _one_change(decision) or _consent_and_one_more(decision)


def _and_then(code: RemedyCode, more: Remedy | None) -> Remedy:
    return Remedy(code, SENTENCES[code] if more is None else f"{SENTENCES[code]} {more.message}")


def _one_change(decision: Decision) -> Remedy | None:
    for code, changed in _changes(decision):
        if changed.outcome == "deliver":
            return _and_then(code, None)
    return None


def _consent_and_one_more(decision: Decision) -> Remedy | None:
    """Find the two changes where revoked consent blocks calls as well, and the message lacks what consent allows."""
    for code, changed in _changes(decision):
        if code in _CONSENTS.values() and (more := _one_change(changed)):
            return _and_then(code, more)
    return None


def _changes(decision: Decision) -> Iterator[tuple[RemedyCode, Decision]]:
    """Give every change and what is decided after it, in the order in which staff would make them."""
    for code, facts, message in _changed(decision):
        yield code, decide(facts, message, decision.policy)


def _changed(decision: Decision) -> Iterator[tuple[RemedyCode, Facts, Message]]:
    facts, message = decision.facts, decision.message
    yield "ADD_EMAIL", replace(facts, emails=(*facts.emails, _NEW_EMAIL)), message
    # Never a second phone: it would get what the patient refused on the first.
    if all(phone.status == "invalid" for phone in facts.phones):
        for line_type in _NEW_LINES:
            yield "ADD_PHONE", replace(facts, phones=(*facts.phones, Phone(_NEW_NUMBER, line_type))), message
    for read in _consented(facts, message, "under_review"):
        yield "READ_REPLY", read, message
    unknown = {step.phone for step in decision.steps if step.reason == "LINE_TYPE_UNKNOWN"}
    said = (replace(phone, line_type="text_enabled") if phone.number in unknown else phone for phone in facts.phones)
    yield "ASK_LINE_TYPE", replace(facts, phones=tuple(said)), message
    for channel in CHANNELS:
        yield _INCLUDE[channel], facts, replace(message, channels=message.channels | {channel})
    for opted_in in _consented(facts, message, "opted_out"):
        yield "PATIENT_OPTS_IN", opted_in, message


def _consented(facts: Facts, message: Message, status: ConsentStatus) -> Iterator[Facts]:
    """Give the facts with one number's consent to texts on the message's line, now of `status`, given."""
    for n, said in enumerate(facts.sms_consent):
        if said.line == message.line and said.status == status:
            given = replace(said, status="opted_in")
            yield replace(facts, sms_consent=(*facts.sms_consent[:n], given, *facts.sms_consent[n + 1 :]))
