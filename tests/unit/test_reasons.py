"""Every decision says in one sentence, fit for staff, what happens and why."""

from typing import get_args

import pytest

from patient_contact.facts import Consent, Email, Facts, Message, Phone, Policy
from patient_contact.reasons import CLAUSES, SUPPRESSED_CLAUSES, Reason, display, sentence
from patient_contact.routing import automation_disabled, decide
from tests.unit.cases import CASES, Case

MOBILE, LANDLINE, UNKNOWN = "+15035550112", "+15035550113", "+15035550114"
EMAILS = (Email("pat@example.org"),)
TEXTED = Facts((Phone(MOBILE, "text_enabled"),), EMAILS)
OPTED_OUT = Facts(TEXTED.phones, EMAILS, sms_consent=(Consent(MOBILE, "main", "opted_out"),))
UNDER_REVIEW = Facts(TEXTED.phones, EMAILS, sms_consent=(Consent(MOBILE, "main", "under_review"),))
CALLED = Facts((Phone(LANDLINE, "landline"),), EMAILS)
NOT_KNOWN = Facts((Phone(UNKNOWN),), EMAILS)
EMAILED = Facts((), EMAILS)
INVALID = Facts((Phone("555 CALL ME", status="invalid"), Phone(MOBILE, "text_enabled", "invalid")))

ANY, TEXT, CALL, EMAIL, TEXT_EMAIL = (
    Message("automation", frozenset(channels), "main")
    for channels in (("text", "call", "email"), ("text",), ("call",), ("email",), ("text", "email"))
)

REVOKED = "+1 503-555-0112 revoked texts on line main, or may have"


@pytest.mark.parametrize(
    ("facts", "message", "policy", "explanation"),
    [
        (TEXTED, ANY, Policy(), "Texted: +1 503-555-0112 can be texted on line main."),
        (OPTED_OUT, ANY, Policy(), "Called: +1 503-555-0112 is opted out of texts on line main."),
        (
            UNDER_REVIEW,
            ANY,
            Policy(),
            "Called: a reply from +1 503-555-0112 on line main may be an opt-out and waits for staff to read it.",
        ),
        (CALLED, ANY, Policy(), "Called: +1 503-555-0113 is a landline, which cannot be texted."),
        (NOT_KNOWN, ANY, Policy(), "Called: it is not known whether +1 503-555-0114 can be texted."),
        (
            TEXTED,
            CALL,
            Policy(call_when_text_not_included=True),
            "Called: the message has no text, and +1 503-555-0112 can be called.",
        ),
        (EMAILED, ANY, Policy(), "Emailed: no valid phone is on file."),
        (
            TEXTED,
            EMAIL,
            Policy(email_when_no_phone_channel=True),
            "Emailed: no text and no call of this message can go to the phone on file.",
        ),
        (OPTED_OUT, TEXT, Policy(), "Nothing sent: +1 503-555-0112 is opted out of texts on line main."),
        (
            UNDER_REVIEW,
            TEXT,
            Policy(),
            "Nothing sent: a reply from +1 503-555-0112 on line main may be an opt-out and waits for staff to read it.",
        ),
        (CALLED, TEXT_EMAIL, Policy(), "Nothing sent: +1 503-555-0113 is a landline, which cannot be texted."),
        (NOT_KNOWN, TEXT, Policy(), "Nothing sent: it is not known whether +1 503-555-0114 can be texted."),
        (EMAILED, TEXT, Policy(), "Nothing sent: no valid phone is on file."),
        (
            TEXTED,
            CALL,
            Policy(),
            "Nothing sent: +1 503-555-0112 can be texted, so it is not called, and the message has no text.",
        ),
        (
            OPTED_OUT,
            CALL,
            Policy(opt_out_blocks_calls=True),
            f"Nothing sent: {REVOKED}, and this practice does not call such numbers.",
        ),
        (Facts(), EMAIL, Policy(), "Nothing sent: no valid email address is on file."),
        (TEXTED, EMAIL, Policy(), "Nothing sent: a valid phone is on file, so no email is sent."),
        (
            Facts(do_not_contact=True),
            ANY,
            Policy(),
            "Nothing sent: Do Not Contact is on, which stops automations.",
        ),
        (
            OPTED_OUT,
            Message("manual", frozenset({"call"}), "main"),
            Policy(),
            "Called: staff chose this channel, and nothing on file speaks against it.",
        ),
        (
            TEXTED,
            Message("manual", frozenset({"email"}), "main"),
            Policy(),
            "Emailed: staff chose this channel, and nothing on file speaks against it.",
        ),
        (
            CALLED,
            Message("manual", frozenset({"text"}), "main", LANDLINE),
            Policy(),
            "Nothing sent: +1 503-555-0113 is a landline, which cannot be texted.",
        ),
        (
            INVALID,
            Message("manual", frozenset({"call"}), "main"),
            Policy(),
            "Nothing sent: no valid phone is on file.",
        ),
        (
            INVALID,
            Message("manual", frozenset({"call"}), "main", MOBILE),
            Policy(),
            "Nothing sent: +1 503-555-0112, the phone that was chosen, is not a valid number.",
        ),
        (
            INVALID,
            Message("manual", frozenset({"text"}), "main", "555 CALL ME"),
            Policy(),
            "Nothing sent: 555 CALL ME, the phone that was chosen, is not a valid number.",
        ),
        (
            Facts(
                (Phone(LANDLINE, "landline"), Phone(MOBILE, "text_enabled")),
                preferred_contact=LANDLINE,
                sms_consent=OPTED_OUT.sms_consent,
            ),
            TEXT,
            Policy(text_other_number=True),
            "Nothing sent: +1 503-555-0113 is a landline, which cannot be texted.",
        ),
        (
            Facts((Phone(LANDLINE, "landline"), Phone(MOBILE, "text_enabled")), preferred_contact=LANDLINE),
            TEXT,
            Policy(text_other_number=True),
            "Texted: +1 503-555-0112 can be texted on line main.",
        ),
    ],
)
def test_a_decision_explains_itself(facts: Facts, message: Message, policy: Policy, explanation: str) -> None:
    assert decide(facts, message, policy).explanation == explanation


def test_a_switched_off_automation_explains_itself() -> None:
    explanation = automation_disabled(TEXTED, ANY, Policy()).explanation

    assert explanation == "Nothing sent: the automation is switched off."


def test_every_reason_has_its_clause() -> None:
    assert set(CLAUSES) == set(get_args(Reason))
    assert set(SUPPRESSED_CLAUSES) <= set(CLAUSES)


@pytest.mark.parametrize("reason", CLAUSES)
@pytest.mark.parametrize("channel", ["text", "call", "email", None])
def test_a_sentence_has_nothing_left_to_fill(reason: Reason, channel: str | None) -> None:
    said = sentence(channel, reason, phone=MOBILE, line="main")

    assert "{" not in said
    assert "None" not in said
    assert said.endswith(".")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_decision_of_the_case_tables_explains_itself_in_full(case: Case) -> None:
    explanation = decide(case.facts, case.message, case.policy).explanation

    verb = {"text": "Texted", "call": "Called", "email": "Emailed", None: "Nothing sent"}[case.expected["channel"]]
    assert explanation.startswith(f"{verb}: ")
    assert "the phone " not in explanation.replace("the phone on file", "").replace("the phone that was chosen", "")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("+15035550112", "+1 503-555-0112"),
        ("+442079460958", "+44 20 7946 0958"),
        ("555 CALL ME", "555 CALL ME"),
        ("", ""),
    ],
)
def test_a_number_is_shown_as_people_write_it(number: str, shown: str) -> None:
    assert display(number) == shown
