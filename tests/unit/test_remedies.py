"""What staff are told would help where nothing is sent."""

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patient_contact.facts import Channel, Consent, ConsentStatus, Email, Facts, Message, Phone, Policy
from patient_contact.remedies import SENTENCES, Remedy, RemedyCode, remedy
from patient_contact.routing import automation_disabled, decide
from tests.unit.random_cases import AUTOMATIONS, LINE, MANUAL, TO_LISTS, messages, patients, policies, thorough

MOBILE = (Phone("+15035550101", "text_enabled"),)
LANDLINE = (Phone("+15035550102", "landline"),)
UNKNOWN = (Phone("+15035550103", "unknown"),)
INVALID = (Phone("+15035550104", "text_enabled", "invalid"),)
EMAIL = (Email("pat@example.org"),)

NONE_SET = Policy()
BLOCKS = Policy(opt_out_blocks_calls=True)
EMAILS = Policy(email_when_no_phone_channel=True)
OTHER = Policy(text_other_number=True)


def _said(status: ConsentStatus, *phones: Phone) -> tuple[Consent, ...]:
    return tuple(Consent(phone.number, LINE, status) for phone in phones)


OUT, WAITS = _said("opted_out", *MOBILE), _said("under_review", *MOBILE)
LANDLINE_OUT, UNKNOWN_OUT = _said("opted_out", *LANDLINE), _said("opted_out", *UNKNOWN)
LANDLINE_FIRST = Facts((*LANDLINE, *MOBILE), preferred_contact=LANDLINE[0].number)


@pytest.mark.parametrize(
    ("facts", "channels", "policy", "reason", "codes"),
    [
        (Facts(), "text", NONE_SET, "NO_VALID_PHONE", "ADD_PHONE"),
        (Facts(INVALID), "text call", NONE_SET, "NO_VALID_PHONE", "ADD_PHONE"),
        (Facts(), "call", NONE_SET, "NO_VALID_PHONE", "ADD_PHONE"),
        (Facts(INVALID, EMAIL), "text", NONE_SET, "NO_VALID_PHONE", "ADD_PHONE"),
        (Facts(INVALID, EMAIL), "text", EMAILS, "NO_VALID_PHONE", "ADD_PHONE"),
        (Facts(), "text email", NONE_SET, "NO_VALID_PHONE", "ADD_EMAIL"),
        (Facts(), "email", NONE_SET, "NO_VALID_EMAIL", "ADD_EMAIL"),
        (
            Facts(MOBILE, sms_consent=OUT),
            "text call email",
            Policy(False, True, False, True),
            "SMS_OPTED_OUT",
            "ADD_EMAIL",
        ),
        (Facts(MOBILE), "email", NONE_SET, "NO_VALID_EMAIL", "INCLUDE_TEXT"),
        (Facts(MOBILE, EMAIL), "email", NONE_SET, "PHONE_ON_FILE", "INCLUDE_TEXT"),
        (Facts(LANDLINE, EMAIL), "email", NONE_SET, "PHONE_ON_FILE", "INCLUDE_CALL"),
        (Facts(MOBILE), "call", NONE_SET, "TEXT_ENABLED", "INCLUDE_TEXT"),
        (Facts(LANDLINE), "text", NONE_SET, "LANDLINE", "INCLUDE_CALL"),
        (Facts((*LANDLINE, *UNKNOWN)), "text", NONE_SET, "LANDLINE", "INCLUDE_CALL"),
        (Facts(UNKNOWN), "text", NONE_SET, "LINE_TYPE_UNKNOWN", "ASK_LINE_TYPE"),
        (Facts(UNKNOWN, sms_consent=UNKNOWN_OUT), "text", NONE_SET, "LINE_TYPE_UNKNOWN", "INCLUDE_CALL"),
        (Facts(MOBILE, sms_consent=WAITS), "text", NONE_SET, "CONSENT_UNDER_REVIEW", "READ_REPLY"),
        (Facts(MOBILE, sms_consent=OUT), "text", NONE_SET, "SMS_OPTED_OUT", "INCLUDE_CALL"),
        (Facts((*MOBILE, *LANDLINE), sms_consent=OUT), "text", BLOCKS, "SMS_OPTED_OUT", "PATIENT_OPTS_IN"),
        (Facts(MOBILE, EMAIL, sms_consent=OUT), "text call", BLOCKS, "SMS_OPTED_OUT", "PATIENT_OPTS_IN"),
        (
            Facts(MOBILE, EMAIL, sms_consent=OUT),
            "text",
            Policy(email_when_no_phone_channel=True, opt_out_blocks_calls=True),
            "SMS_OPTED_OUT",
            "INCLUDE_EMAIL",
        ),
        (Facts(LANDLINE, sms_consent=LANDLINE_OUT), "call", BLOCKS, "CALLS_REVOKED", "PATIENT_OPTS_IN"),
        (replace(LANDLINE_FIRST, sms_consent=WAITS), "text", OTHER, "LANDLINE", "READ_REPLY"),
        (LANDLINE_FIRST, "text", NONE_SET, "LANDLINE", "INCLUDE_CALL"),
        # What takes two changes.
        (Facts(MOBILE, sms_consent=OUT), "call", BLOCKS, "CALLS_REVOKED", "PATIENT_OPTS_IN INCLUDE_TEXT"),
        (Facts(MOBILE, sms_consent=WAITS), "call", BLOCKS, "CALLS_REVOKED", "READ_REPLY INCLUDE_TEXT"),
        (Facts(LANDLINE, sms_consent=LANDLINE_OUT), "text", BLOCKS, "LANDLINE", "PATIENT_OPTS_IN INCLUDE_CALL"),
        (Facts(UNKNOWN, sms_consent=UNKNOWN_OUT), "text", BLOCKS, "LINE_TYPE_UNKNOWN", "PATIENT_OPTS_IN ASK_LINE_TYPE"),
        (Facts(MOBILE, do_not_contact=True), "text", NONE_SET, "DO_NOT_CONTACT", "TURN_OFF_DO_NOT_CONTACT"),
        (Facts(do_not_contact=True), "text", NONE_SET, "DO_NOT_CONTACT", "TURN_OFF_DO_NOT_CONTACT ADD_PHONE"),
    ],
)
def test_staff_are_told_what_they_would_change_first(
    facts: Facts, channels: str, policy: Policy, reason: str, codes: str
) -> None:
    included: frozenset[Channel] = frozenset(name for name in get_args(Channel) if name in channels.split())
    decision = decide(facts, Message("automation", included, LINE), policy)

    assert decision.reason == reason
    assert _codes(remedy(decision)) == codes.split()


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        (Facts(MOBILE), ["ENABLE_AUTOMATION"]),
        (Facts(), ["ENABLE_AUTOMATION", "ADD_PHONE"]),
        (Facts(do_not_contact=True), ["ENABLE_AUTOMATION", "TURN_OFF_DO_NOT_CONTACT", "ADD_PHONE"]),
    ],
)
def test_an_automation_that_is_switched_off_is_switched_on_before_all_else(facts: Facts, codes: list[str]) -> None:
    message = Message("automation", frozenset({"text"}), LINE)

    assert _codes(remedy(automation_disabled(facts, message, NONE_SET))) == codes


@given(patients, st.sampled_from(MANUAL), policies)
def test_a_manual_message_has_none(facts: Facts, message: Message, policy: Policy) -> None:
    assert remedy(decide(facts, message, policy)) is None


@thorough
@given(patients, st.sampled_from(AUTOMATIONS + TO_LISTS), policies)
def test_what_staff_are_told_delivers_and_they_are_told_something_of_all_that_does_not(
    facts: Facts, message: Message, policy: Policy
) -> None:
    decision = decide(facts, message, policy)
    found = remedy(decision)

    assert (found is None) == (decision.outcome == "deliver")
    assert remedy(decide(replace(facts), replace(message), policy)) == found
    if found is not None:
        codes = _codes(found)
        assert (found.code, len(set(codes))) == (codes[0], len(codes))
        assert not any(character.isdigit() for character in found.message)
        assert _delivers(codes, facts, message, policy)
        assert not any(_delivers(codes[:n], facts, message, policy) for n in range(len(codes)))
        # One change is said where one is enough, and of those the first in the order of the codes here.
        alone = [code for code in ORDER if _delivers([code], facts, message, policy)]
        assert (codes == alone[:1]) if alone else (len(codes) > 1)


@given(patients, st.sampled_from(AUTOMATIONS), policies)
def test_all_else_that_is_said_of_one_switched_off_is_what_is_said_of_it_switched_on(
    facts: Facts, message: Message, policy: Policy
) -> None:
    on = remedy(decide(facts, message, policy))

    assert _codes(remedy(automation_disabled(facts, message, policy))) == ["ENABLE_AUTOMATION", *_codes(on)]


@given(patients, messages, policies, st.booleans())
def test_do_not_contact_is_turned_off_for_automations_only(
    facts: Facts, message: Message, policy: Policy, on: bool
) -> None:
    codes = _codes(remedy(decide(replace(facts, do_not_contact=on), message, policy)))

    assert ("TURN_OFF_DO_NOT_CONTACT" in codes) == (on and message.message_class == "automation")


def test_every_code_has_its_sentence() -> None:
    assert set(SENTENCES) == set(get_args(RemedyCode)) == {*ORDER, "ENABLE_AUTOMATION"}
    assert all(said.endswith(".") and len(said) < 80 for said in SENTENCES.values())


ORDER: tuple[RemedyCode, ...] = (
    "TURN_OFF_DO_NOT_CONTACT",
    "ADD_EMAIL",
    "ADD_PHONE",
    "READ_REPLY",
    "ASK_LINE_TYPE",
    "INCLUDE_TEXT",
    "INCLUDE_CALL",
    "INCLUDE_EMAIL",
    "PATIENT_OPTS_IN",
)


def _codes(found: Remedy | None) -> list[RemedyCode]:
    """Read which changes a remedy says, from its sentences."""
    left, codes = found.message if found else "", list[RemedyCode]()
    while left:
        code = next(code for code, said in SENTENCES.items() if left.startswith(said))
        codes.append(code)
        left = left.removeprefix(SENTENCES[code]).lstrip()
    return codes


def _delivers(codes: list[RemedyCode], facts: Facts, message: Message, policy: Policy) -> bool:
    """Make the changes one after the other, as staff would, and say whether the message gets through."""
    if not codes:
        return decide(facts, message, policy).outcome == "deliver"
    return any(_delivers(codes[1:], *made, policy) for made in _made(codes[0], facts, message, policy))


def _made(code: RemedyCode, facts: Facts, message: Message, policy: Policy) -> Iterator[tuple[Facts, Message]]:
    refused = {"READ_REPLY": "under_review", "PATIENT_OPTS_IN": "opted_out"}.get(code)
    if code.startswith("INCLUDE_"):
        (channel,) = (name for name in get_args(Channel) if code == f"INCLUDE_{name.upper()}")
        yield facts, replace(message, channels=message.channels | {channel})
    elif refused:
        consents = (replace(said, status="opted_in") if said.status == refused else said for said in facts.sms_consent)
        yield replace(facts, sms_consent=tuple(consents)), message
    elif code == "ADD_EMAIL":
        yield replace(facts, emails=(Email("kim@example.org"), *facts.emails)), message
    elif code == "TURN_OFF_DO_NOT_CONTACT":
        yield replace(facts, do_not_contact=False), message
    elif code == "ADD_PHONE" and not any(phone.status == "valid" for phone in facts.phones):
        yield replace(facts, phones=(Phone("+15035550188", "text_enabled"), *facts.phones)), message
        yield replace(facts, phones=(Phone("+15035550188", "landline"), *facts.phones)), message
    elif code == "ASK_LINE_TYPE" and decide(facts, message, policy).reason == "LINE_TYPE_UNKNOWN":
        phones = (
            replace(phone, line_type="text_enabled") if phone.line_type == "unknown" else phone
            for phone in facts.phones
        )
        yield replace(facts, phones=tuple(phones)), message
