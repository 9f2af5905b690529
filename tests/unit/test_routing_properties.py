"""What holds of every decision, whatever the patient, the message and the policy.

Drawing costs more than deciding: the promises are held one after the other to the same 10,000 cases.
"""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

from hypothesis import assume, given, settings

from patient_contact import api, asked, decision_data
from patient_contact.facesheet import Line, Practice
from patient_contact.facts import Facts, Message, Policy
from patient_contact.routing import Decision, decide
from tests.unit.random_cases import (
    LINE,
    OTHER_LINE,
    messages,
    patients,
    policies,
    thorough,
)

ROOT = Path(__file__).parents[2]

PRACTICE = Practice(
    "north",
    "North Clinic",
    "America/Los_Angeles",
    "US",
    Policy(),
    (Line(LINE, "Main", "+15035559000"), Line(OTHER_LINE, "Billing", "+15035559001")),
    LINE,
    sending=False,
    version=1,
)


def _verdict(decision: Decision) -> Decision:
    """Give a decision without the facts and policy it was taken on."""
    return decision._replace(facts=Facts(), policy=Policy())


def at_most_one_channel_is_chosen_and_only_an_included_one(facts: Facts, message: Message, policy: Policy) -> None:
    decision = decide(facts, message, policy)

    fired = [step.channel for step in decision.steps if step.fired and step.rule != "R1"]
    if decision.outcome == "deliver":
        assert fired == [decision.channel]
        assert decision.channel in message.channels
        addresses = [email.address for email in facts.emails if email.status == "valid"]
        numbers = [phone.number for phone in facts.phones if phone.status == "valid"]
        assert decision.destination in (addresses if decision.channel == "email" else numbers)
    else:
        assert (fired, decision.channel, decision.destination) == ([], None, None)


def do_not_contact_silences_automations_and_nothing_else(facts: Facts, message: Message, policy: Policy) -> None:
    on = decide(replace(facts, do_not_contact=True), message, policy)
    off = decide(replace(facts, do_not_contact=False), message, policy)

    if message.message_class == "automation":
        assert (on.outcome, on.reason, on.rule) == ("suppress", "DO_NOT_CONTACT", "R1")
        assert off.reason != "DO_NOT_CONTACT"
    else:
        assert _verdict(on) == _verdict(off)


def an_opted_out_number_is_never_texted_on_that_line_in_any_class(
    facts: Facts, message: Message, policy: Policy
) -> None:
    decision = decide(facts, message, policy)

    if decision.channel == "text":
        refused = {(said.phone_number, said.line) for said in facts.sms_consent if said.status != "opted_in"}
        assert (decision.destination, message.line) not in refused


def the_default_policy_emails_only_a_patient_without_a_valid_phone(
    facts: Facts, message: Message, policy: Policy
) -> None:
    decision = decide(facts, message, Policy())

    if decision.channel == "email" and message.message_class != "manual":
        assert all(phone.status == "invalid" for phone in facts.phones)


def the_preferred_contact_never_changes_a_broadcast_or_a_campaign(
    facts: Facts, message: Message, policy: Policy
) -> None:
    if message.message_class in ("broadcast", "campaign"):
        without = decide(replace(facts, preferred_contact=None), message, policy)
        assert _verdict(decide(facts, message, policy)) == _verdict(without)


def the_same_facts_are_decided_the_same(facts: Facts, message: Message, policy: Policy) -> None:
    first = decide(facts, message, policy)
    equal = replace(facts, phones=tuple(replace(phone) for phone in facts.phones))
    decide(Facts(tuple(reversed(facts.phones))), message, policy)

    assert decide(equal, replace(message, channels=frozenset(sorted(message.channels))), policy) == first


def a_decision_replays_from_its_own_data(facts: Facts, message: Message, policy: Policy) -> None:
    decision = decide(facts, message, policy)
    read_back = decision_data.from_data(json.loads(json.dumps(decision_data.to_data(decision))))

    assert read_back == decision
    assert decide(read_back.facts, read_back.message, read_back.policy) == decision


def a_policy_flag_changes_only_what_it_is_for(facts: Facts, message: Message, policy: Policy) -> None:
    for field in fields(Policy):
        off = decide(facts, message, replace(policy, **{field.name: False}))
        on = decide(facts, message, replace(policy, **{field.name: True}))
        if _verdict(off) != _verdict(on):
            assert message.message_class != "manual"
            ALLOWED[field.name](off, on)


def _call_when_text_not_included(off: Decision, on: Decision) -> None:
    assert "text" not in on.message.channels
    assert (on.channel, on.reason) == ("call", "TEXT_NOT_INCLUDED")
    assert off.steps[-1].rule == "R4" or off.reason == "TEXT_ENABLED"


def _email_when_no_phone_channel(off: Decision, on: Decision) -> None:
    assert off.outcome == "suppress"
    assert (on.channel, on.reason) == ("email", "NO_PHONE_CHANNEL")
    assert on.steps[:-1] == off.steps[:-1]


def _text_other_number(off: Decision, on: Decision) -> None:
    assert on.message.message_class == "automation"
    assert on.message.channels in ({"text"}, {"text", "email"})
    first, *rest = [step for step in on.steps if step.rule == "R2"]
    assert (first.phone, first.reason in ("LANDLINE", "LINE_TYPE_UNKNOWN")) == (on.facts.preferred_contact, True)
    assert len(rest) == 1
    if on.channel != "text":
        assert (on.channel, on.destination, on.reason) == (off.channel, off.destination, off.reason)


def _opt_out_blocks_calls(off: Decision, on: Decision) -> None:
    assert off.channel == "call"
    assert (off.destination, on.message.line) in {
        (said.phone_number, said.line) for said in on.facts.sms_consent if said.status != "opted_in"
    }
    (refused,) = [step for step in on.steps if step.rule == "R3"]
    assert (refused.phone, refused.fired, refused.reason) == (off.destination, False, "CALLS_REVOKED")
    assert on.channel in (None, "email")


ALLOWED = {
    "call_when_text_not_included": _call_when_text_not_included,
    "email_when_no_phone_channel": _email_when_no_phone_channel,
    "text_other_number": _text_other_number,
    "opt_out_blocks_calls": _opt_out_blocks_calls,
}


PROMISES = (
    at_most_one_channel_is_chosen_and_only_an_included_one,
    do_not_contact_silences_automations_and_nothing_else,
    an_opted_out_number_is_never_texted_on_that_line_in_any_class,
    the_default_policy_emails_only_a_patient_without_a_valid_phone,
    the_preferred_contact_never_changes_a_broadcast_or_a_campaign,
    the_same_facts_are_decided_the_same,
    a_decision_replays_from_its_own_data,
    a_policy_flag_changes_only_what_it_is_for,
)


@thorough
@given(patients, messages, policies)
def test_every_promise_holds_of_every_decision(facts: Facts, message: Message, policy: Policy) -> None:
    for promise in PROMISES:
        promise(facts, message, policy)


FINGERPRINT = """
import hashlib
from patient_contact.decision_data import to_data
from patient_contact.routing import decide
from tests.unit.random_cases import MESSAGES, PATIENTS, POLICIES, patient

people = [patient(number) for number in range(0, PATIENTS, PATIENTS // 20)]
decided = [to_data(decide(who, what, policy)) for who in people for what in MESSAGES for policy in POLICIES]
print(hashlib.sha256(repr(decided).encode()).hexdigest())
"""


def test_the_same_facts_are_decided_the_same_in_every_process() -> None:
    prints = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(prints) == 1


def test_every_departure_is_off_unless_switched_on() -> None:
    assert Policy() == Policy(**{field.name: False for field in fields(Policy)})


@settings(thorough, max_examples=1_000)
@given(patients, messages, policies)
def test_the_facts_of_a_decision_sent_to_evaluate_decide_the_same(
    facts: Facts, message: Message, policy: Policy
) -> None:
    # Evaluate refuses a chosen phone that is not on file.
    assume(message.phone_number in {None, *(phone.number for phone in facts.phones)})
    answered = decision_data.answer(decide(facts, message, policy))
    body = api.EvaluateBody.model_validate(
        {"message": answered["message"], "patient": answered["facts"], "policy": answered["policy"]}
    )
    assert body.patient is not None
    assert body.message is not None

    again = asked.facts(body.patient, PRACTICE)
    routed = asked.message(body.message, again, PRACTICE, ("body", "message"))
    assert (
        decision_data.answer(decide(again, routed, asked.policy(body.policy) if body.policy else PRACTICE.policy))
        == answered
    )
