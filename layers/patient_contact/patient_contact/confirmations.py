"""Confirmations of what patients say by keyword: the text, and when one still holds.

Pure. They go out on lines for which AWS answers no keywords.
"""

from typing import Literal

from patient_contact.consent import LineConsent
from patient_contact.facesheet import Line, Practice
from patient_contact.reasons import display

Kind = Literal["opt_out", "opt_in", "help"]

# Ids of these messages: the reply that they answer.
PREFIX = "confirmation:"
# Later than that, nobody expects an answer.
WITHIN_MINUTES = 5

_BODIES: dict[Kind, str] = {
    "opt_out": "{name}: You are opted out and will get no more texts from this number. Reply START to opt in again.",
    "opt_in": "{name}: You are opted in to texts from this number again. Reply HELP for help, STOP to opt out.",
    "help": "{name}: Messages about your care. Call {number} for help. Msg & data rates may apply. Reply STOP to end.",
}


def body(kind: Kind, practice: Practice, line: Line) -> str:
    """Give the text that confirms a reply."""
    return _BODIES[kind].format(name=practice.name, number=display(line.phone_number))


def still_holds(kind: Kind, reply_id: str, consent: LineConsent) -> bool:
    """Say whether a reply is still to be confirmed: it is the last that its owner said by keyword.

    The text that confirms an opt-out is the only one that an opted-out number gets, beside help that it asked for.
    """
    if kind == "help":
        return True
    is_last = consent.own is not None and consent.own.id == reply_id
    return is_last and (kind == "opt_out" or consent.status == "opted_in")
