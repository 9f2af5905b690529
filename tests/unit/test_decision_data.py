"""A decision as data: complete enough to explain itself and to be replayed."""

import pytest

from patient_contact import api
from patient_contact.decision_data import answer, from_data, to_data
from patient_contact.facts import Consent, Email, Facts, Message, Phone, Policy
from patient_contact.routing import Decision, automation_disabled, decide

NUMBER = "+15035550112"
FACTS = Facts(
    (Phone(NUMBER, "text_enabled"), Phone("555 CALL ME", status="invalid")),
    (Email("pat@example.org"),),
    preferred_contact=NUMBER,
    sms_consent=(Consent(NUMBER, "main", "opted_out"),),
)
TAKEN = decide(FACTS, Message("automation", frozenset({"call", "text"}), "main"), Policy())

DATA = {
    "outcome": "deliver",
    "channel": "call",
    "destination": NUMBER,
    "reason": "SMS_OPTED_OUT",
    "rule": "R3",
    "steps": [
        {"rule": "R1", "channel": None, "phone": None, "fired": False, "reason": "DO_NOT_CONTACT_OFF"},
        {"rule": "R2", "channel": "text", "phone": NUMBER, "fired": False, "reason": "SMS_OPTED_OUT"},
        {"rule": "R3", "channel": "call", "phone": NUMBER, "fired": True, "reason": "SMS_OPTED_OUT"},
    ],
    "message": {"class": "automation", "channels": ["text", "call"], "line": "main"},
    "policy": {
        "call_when_text_not_included": False,
        "email_when_no_phone_channel": False,
        "text_other_number": False,
        "opt_out_blocks_calls": False,
    },
    "facts": {
        "phones": [
            {"number": NUMBER, "line_type": "text_enabled", "status": "valid"},
            {"number": "555 CALL ME", "line_type": "unknown", "status": "invalid"},
        ],
        "emails": [{"address": "pat@example.org", "status": "valid"}],
        "preferred_contact": NUMBER,
        "do_not_contact": False,
        "sms_consent": [{"phone_number": NUMBER, "line": "main", "status": "opted_out"}],
    },
}

CHOSEN = decide(FACTS, Message("manual", frozenset({"text"}), "main", NUMBER), Policy(text_other_number=True))
SWITCHED_OFF = automation_disabled(FACTS, Message("automation", frozenset({"email"}), "main"), Policy())


def test_a_decision_is_stored_without_its_sentence() -> None:
    assert to_data(TAKEN) == DATA


def test_a_decision_is_answered_with_its_sentence() -> None:
    assert answer(TAKEN) == {**DATA, "explanation": "Called: +1 503-555-0112 is opted out of texts on line main."}


def test_the_phone_that_staff_chose_is_kept() -> None:
    assert to_data(CHOSEN)["message"] == {
        "class": "manual",
        "channels": ["text"],
        "line": "main",
        "phone_number": NUMBER,
    }


@pytest.mark.parametrize("decision", [TAKEN, CHOSEN, SWITCHED_OFF], ids=["taken", "chosen", "switched off"])
def test_a_decision_is_read_back_as_it_was(decision: Decision) -> None:
    assert from_data(to_data(decision)) == decision


@pytest.mark.parametrize("decision", [TAKEN, CHOSEN, SWITCHED_OFF], ids=["taken", "chosen", "switched off"])
def test_a_decision_is_answered_in_the_shape_of_the_api(decision: Decision) -> None:
    shaped = api.DecisionAnswer.model_validate(answer(decision))

    assert shaped.model_dump(by_alias=True) == answer(decision)
