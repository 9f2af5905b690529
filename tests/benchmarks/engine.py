"""One decision with all its steps, against the same rules in zen-engine, and against pydantic on the same data."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from patient_contact import api, decision_data
from patient_contact.facts import Consent, ConsentStatus, Facts, Message, MessageClass, Policy
from patient_contact.routing import decide
from patient_contact.truth_table import CHANNEL_SETS, LINE, SHAPES
from tests.benchmarks import decision_table
from tests.benchmarks.measure import Row, Target, compare, each

Case = tuple[Facts, Message, Policy]

CONSENTS: tuple[ConsentStatus, ...] = ("opted_in", "opted_out", "under_review")
CLASSES: tuple[MessageClass, ...] = ("automation", "broadcast", "campaign", "manual")
TURNS = 40
TIMES_A_TURN = 10
ENGINE = "engine: a decision with all its steps"
ZEN = "zen-engine: the same decision table"
PYDANTIC = "pydantic: the same facts and decision, in and out"
TARGETS: dict[str, Target] = {ZEN: ("≥", 3), PYDANTIC: ("≥", 2)}


def measured() -> list[Row]:
    """Measure the engine over the truth table's patients and channels under every consent."""
    cases = list(_automations(Policy()))
    evaluate, evaluate_with_trace = decision_table.evaluator(), decision_table.evaluator(trace=True)
    for case in (*cases, *_all_rules()):
        expected = decide(*case)
        found = evaluate(_as_json(case))["result"]
        if (expected.channel, expected.reason, expected.rule) != tuple(map(found.get, decision_table.OUTPUTS)):
            raise AssertionError(f"zen-engine decides {found}, the engine {expected}")

    cases *= TIMES_A_TURN
    decisions = [decide(*case) for case in cases]
    flattened = [_as_json(case) for case in cases]
    contestants = {
        ENGINE: each(cases, lambda case: decide(*case)),
        ZEN: each(flattened, evaluate),
        "zen-engine, with a trace: its steps": each(flattened, evaluate_with_trace),
        PYDANTIC: each(
            map(decision_data.answer, decisions),
            lambda answer: api.DecisionAnswer.model_validate(answer).model_dump(by_alias=True),
        ),
        "our own: a decision to data and back": each(
            decisions, lambda decision: decision_data.from_data(decision_data.to_data(decision))
        ),
    }
    return compare(contestants, TARGETS, "µs", TURNS)


def _automations(policy: Policy) -> Iterator[Case]:
    for (_, facts), status, channels in product(SHAPES, CONSENTS, CHANNEL_SETS):
        # Opted in is what holds until something is recorded.
        recorded = () if status == "opted_in" else tuple(Consent(p.number, LINE, status) for p in facts.phones)
        yield replace(facts, sms_consent=recorded), Message("automation", channels, LINE), policy


def _all_rules() -> Iterator[Case]:
    """Give the same patients in every message class, under every policy, with do not contact on and off."""
    policies = [Policy(*flags) for flags in product((False, True), repeat=4)]
    for policy, message_class, do_not_contact in product(policies, CLASSES, (False, True)):
        for facts, message, _ in _automations(policy):
            if message_class != "manual" or len(message.channels) == 1:
                told = replace(facts, do_not_contact=do_not_contact)
                yield told, replace(message, message_class=message_class), policy


def _as_json(case: Case) -> bytes:
    return json.dumps(decision_table.inputs(*case)).encode()
