"""Routing, row by row: the tables under `tests/cases` are typed in from the rules, not made by the engine."""

from dataclasses import fields
from typing import get_args

import pytest

from patient_contact.facts import Channel, Email, Facts, Message, MessageClass, Phone, Policy
from patient_contact.reasons import Reason
from patient_contact.routing import Decision, Rule, automation_disabled, decide
from tests.unit import cases
from tests.unit.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_is_decided_as_its_row_says(case: cases.Case) -> None:
    assert cases.decided(case, decide) == case.expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_decision_carries_what_was_decided_on(case: cases.Case) -> None:
    decision = decide(case.facts, case.message, case.policy)

    assert (decision.facts, decision.message, decision.policy) == (case.facts, case.message, case.policy)


def test_every_table_in_the_folder_is_read() -> None:
    read_elsewhere = {"truth_table_default", "truth_table_with_departures", "replies"}

    assert {path.stem for path in cases.FOLDER.iterdir()} == set(cases.TABLES) | read_elsewhere


def test_no_two_rows_ask_the_same() -> None:
    asked = [(case.facts, case.message, case.policy) for case in CASES]

    assert [str(case) for n, case in enumerate(CASES) if asked[n] in asked[:n]] == []


def test_every_row_of_a_table_says_something_else() -> None:
    assert len({str(case) for case in CASES}) == len(CASES)


def test_every_reason_rule_class_and_channel_is_expected_somewhere() -> None:
    steps = [step for case in CASES for step in case.expected["steps"]]
    reasons = {case.expected["reason"] for case in CASES} | {step["reason"] for step in steps}

    # A switched-off automation is decided before the engine.
    assert reasons == set(get_args(Reason)) - {"AUTOMATION_DISABLED"}
    assert {case.expected["rule"] for case in CASES} == set(get_args(Rule))
    assert {case.message.message_class for case in CASES} == set(get_args(MessageClass))
    assert {case.expected["channel"] for case in CASES} == {*get_args(Channel), None}


@pytest.mark.parametrize("flag", [field.name for field in fields(Policy)])
@pytest.mark.parametrize("others_on", [False, True], ids=["alone", "with the others"])
def test_every_policy_flag_is_tried_alone_and_with_the_others(flag: str, others_on: bool) -> None:
    wanted = Policy(**{field.name: field.name == flag or others_on for field in fields(Policy)})

    assert [case for case in CASES if case.table == f"policy_{flag}" and case.policy == wanted]


def test_a_switched_off_automation_is_suppressed_before_any_rule() -> None:
    facts = Facts((Phone("+15035550101", "text_enabled"),), (Email("pat@example.org"),), do_not_contact=True)
    message = Message("automation", frozenset({"text", "call", "email"}), "main")
    policy = Policy(text_other_number=True)

    assert automation_disabled(facts, message, policy) == Decision(
        outcome="suppress",
        channel=None,
        destination=None,
        reason="AUTOMATION_DISABLED",
        rule=None,
        steps=(),
        message=message,
        policy=policy,
        facts=facts,
    )
