"""The case tables of `tests/cases`, as the engine takes them and answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patient_contact.facts import Consent, Email, Facts, Message, Phone, Policy
from patient_contact.routing import Decision

FOLDER = Path(__file__).parents[1] / "cases"

# Every table of single decisions; the truth tables have a form of their own.
TABLES = (
    "do_not_contact",
    "manual",
    "nothing_sent",
    "policy_call_when_text_not_included",
    "policy_email_when_no_phone_channel",
    "policy_opt_out_blocks_calls",
    "policy_text_other_number",
    "reasons",
    "steps",
    "which_phone",
)

Decide = Callable[[Facts, Message, Policy], Decision]


@dataclass(frozen=True, slots=True)
class Case:
    """One row: what it says in English, what is decided on, and what must come out."""

    table: str
    says: str
    facts: Facts
    message: Message
    policy: Policy
    expected: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.table}: {self.says}"


def read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _case(table: str, row: dict[str, Any]) -> Case:
    patient, message = row["patient"], row["message"]
    facts = Facts(
        tuple(Phone(**phone) for phone in patient["phones"]),
        tuple(Email(**email) for email in patient.get("emails", [])),
        patient.get("preferred_contact"),
        patient.get("do_not_contact", False),
        tuple(Consent(**consent) for consent in patient.get("sms_consent", [])),
    )
    routed = Message(message["class"], frozenset(message["channels"]), message["line"], message.get("phone_number"))
    return Case(table, row["says"], facts, routed, Policy(**row.get("policy", {})), row["expected"])


def decided(case: Case, decide: Decide) -> dict[str, Any]:
    """Give what a row's `expected` says of a decision, whole."""
    decision = decide(case.facts, case.message, case.policy)
    return {
        "outcome": decision.outcome,
        "channel": decision.channel,
        "destination": decision.destination,
        "reason": decision.reason,
        "rule": decision.rule,
        "steps": [step._asdict() for step in decision.steps],
    }


CASES = tuple(_case(table, row) for table in TABLES for row in read(table))
