"""The case tables catch an engine that is wrong: one that forgets a rule, and one with any single condition broken."""

import ast
import copy
import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import pytest

from patient_contact import routing
from patient_contact.decision_data import to_data
from patient_contact.facts import Facts, Message, Policy
from patient_contact.routing import decide
from tests.unit import cases, random_cases
from tests.unit.cases import CASES

Asked = tuple[Facts, Message, Policy]


def _without_consent(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, sms_consent=()), message, policy


def _reviews_pass(facts: Facts, message: Message, policy: Policy) -> Asked:
    kept = tuple(said for said in facts.sms_consent if said.status != "under_review")
    return replace(facts, sms_consent=kept), message, policy


def _lines_mixed_up(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, sms_consent=tuple(replace(said, line="main") for said in facts.sms_consent)), message, policy


def _without_do_not_contact(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, do_not_contact=False), message, policy


def _without_preference(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, preferred_contact=None), message, policy


def _without_choice(facts: Facts, message: Message, policy: Policy) -> Asked:
    return facts, replace(message, phone_number=None), policy


def _every_phone_valid(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, phones=tuple(replace(phone, status="valid") for phone in facts.phones)), message, policy


def _every_email_valid(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, emails=tuple(replace(email, status="valid") for email in facts.emails)), message, policy


def _unknown_is_landline(facts: Facts, message: Message, policy: Policy) -> Asked:
    phones = tuple(
        replace(phone, line_type="landline" if phone.line_type == "unknown" else phone.line_type)
        for phone in facts.phones
    )
    return replace(facts, phones=phones), message, policy


def _phones_backwards(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, phones=facts.phones[::-1]), message, policy


def _emails_backwards(facts: Facts, message: Message, policy: Policy) -> Asked:
    return replace(facts, emails=facts.emails[::-1]), message, policy


def _lists_like_automations(facts: Facts, message: Message, policy: Policy) -> Asked:
    taken_for = "automation" if message.message_class in ("broadcast", "campaign") else message.message_class
    return facts, replace(message, message_class=taken_for), policy


def _automations_like_lists(facts: Facts, message: Message, policy: Policy) -> Asked:
    taken_for = "broadcast" if message.message_class == "automation" else message.message_class
    return facts, replace(message, message_class=taken_for), policy


def _campaigns_like_automations(facts: Facts, message: Message, policy: Policy) -> Asked:
    taken_for = "automation" if message.message_class == "campaign" else message.message_class
    return facts, replace(message, message_class=taken_for), policy


def _default_policy(facts: Facts, message: Message, policy: Policy) -> Asked:
    return facts, message, Policy()


FORGETFUL: dict[str, Callable[[Facts, Message, Policy], Asked]] = {
    "consent": _without_consent,
    "reviews": _reviews_pass,
    "the line of a consent": _lines_mixed_up,
    "do not contact": _without_do_not_contact,
    "the preferred contact": _without_preference,
    "the chosen phone": _without_choice,
    "that a phone is invalid": _every_phone_valid,
    "that an email address is invalid": _every_email_valid,
    "that an unknown line type is no landline": _unknown_is_landline,
    "the order of phones": _phones_backwards,
    "the order of emails": _emails_backwards,
    "that lists are no automations": _lists_like_automations,
    "that automations are no lists": _automations_like_lists,
    "that campaigns are no automations": _campaigns_like_automations,
    "the policy": _default_policy,
}


def _is_caught(broken: cases.Decide) -> bool:
    for case in CASES:
        try:
            if cases.decided(case, broken) != case.expected:
                return True
        except Exception:  # noqa: BLE001 - an engine that crashes is caught
            return True
    return False


def test_the_engine_itself_passes() -> None:
    assert not _is_caught(decide)


@pytest.mark.parametrize("forgotten", FORGETFUL)
def test_an_engine_that_forgets_one_thing_is_caught(forgotten: str) -> None:
    assert _is_caught(lambda facts, message, policy: decide(*FORGETFUL[forgotten](facts, message, policy)))


@pytest.mark.parametrize("flag", Policy.__dataclass_fields__)
@pytest.mark.parametrize("stuck", [True, False], ids=["on", "off"])
def test_an_engine_with_a_policy_flag_stuck_is_caught(flag: str, stuck: bool) -> None:
    assert _is_caught(lambda facts, message, policy: decide(facts, message, replace(policy, **{flag: stuck})))


FUNCTIONS = ast.Module(
    [node for node in ast.parse(inspect.getsource(routing)).body if isinstance(node, ast.FunctionDef)], type_ignores=[]
)
RULES = [
    node.name for node in FUNCTIONS.body if isinstance(node, ast.FunctionDef) and node.name != "automation_disabled"
]


def _breaks(node: ast.AST) -> Iterator[ast.expr]:
    """Give what a condition, a word or a fact could wrongly have been."""
    match node:
        case ast.Compare():
            yield from (ast.UnaryOp(ast.Not(), node), ast.Constant(True), ast.Constant(False))
            if isinstance(node.comparators[0], ast.Tuple):
                for n in range(len(node.comparators[0].elts)):
                    fewer = copy.deepcopy(node)
                    del cast(ast.Tuple, fewer.comparators[0]).elts[n]
                    yield fewer
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for n in range(len(node.values)):
                rest = node.values[:n] + node.values[n + 1 :]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Attribute(value=ast.Name(id="facts" | "policy")):
            yield from (ast.Constant(True), ast.Constant(False))
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=str(word)) if word.isidentifier():
            yield ast.Constant("something else")


class _Replace(ast.NodeTransformer):
    """Puts one expression in the place of another."""

    def __init__(self, place: ast.AST, by: ast.expr) -> None:
        self.place, self.by = place, by

    def visit(self, node: ast.AST) -> ast.AST:
        return self.by if node is self.place else self.generic_visit(node)


def _broken_engines(rule: str) -> Iterator[tuple[str, cases.Decide]]:
    """Give the engine with one expression of one of its functions broken, for every expression and every break."""
    (function,) = [
        n for n, node in enumerate(FUNCTIONS.body) if isinstance(node, ast.FunctionDef) and node.name == rule
    ]
    for place, node in enumerate(ast.walk(FUNCTIONS.body[function])):
        for n, wrong in enumerate(_breaks(node)):
            functions = copy.deepcopy(FUNCTIONS)
            there = list(ast.walk(functions.body[function]))[place]
            _Replace(there, list(_breaks(there))[n]).visit(functions)
            yield f"{ast.unparse(node)} -> {ast.unparse(wrong)}", _engine(functions)


def _engine(functions: ast.Module) -> cases.Decide:
    namespace = {**vars(routing)}
    exec(compile(ast.fix_missing_locations(functions), "a broken copy of routing", "exec"), namespace)
    return cast(cases.Decide, namespace["decide"])


def _at_random(count: int) -> Iterator[Asked]:
    dice = random.Random(20)
    for _ in range(count):
        facts = random_cases.patient(dice.randrange(random_cases.PATIENTS))
        yield facts, dice.choice(random_cases.MESSAGES), dice.choice(random_cases.POLICIES)


def _decides_the_same(broken: cases.Decide) -> bool:
    """Say whether nobody could tell: a break that changes no decision is none."""
    for facts, message, policy in _at_random(3_000):
        try:
            if to_data(broken(facts, message, policy)) != to_data(decide(facts, message, policy)):
                return False
        except Exception:  # noqa: BLE001 - a crash can be told
            return False
    return True


@pytest.mark.parametrize("rule", RULES)
def test_an_engine_with_any_one_condition_broken_is_caught(rule: str) -> None:
    missed = [
        what for what, broken in _broken_engines(rule) if not _is_caught(broken) and not _decides_the_same(broken)
    ]

    assert missed == []


def test_random_cases_meet_every_outcome() -> None:
    met = {(decision.channel, decision.reason) for decision in (decide(*asked) for asked in _at_random(5_000))}
    in_tables = {(case.expected["channel"], case.expected["reason"]) for case in CASES}

    assert met == in_tables
