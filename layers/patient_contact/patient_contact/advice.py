"""What a practice should know of what it has set: who is left unreached, by the routing rules themselves.

Pure: imports the routing rules.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from patient_contact.facesheet import Practice
from patient_contact.facts import Channel, Consent, Email, Facts, Message, Phone, Policy
from patient_contact.routing import decide

_LINE = "line"
_TEXT_ENABLED = Phone("+15035550101", "text_enabled")
_LANDLINE = Phone("+15035550102", "landline")
_UNKNOWN = Phone("+15035550103", "unknown")
_EMAILS = (Email("pat@example.org"),)


@dataclass(frozen=True, slots=True)
class Advice:
    """A code, and a sentence for staff."""

    code: str
    message: str


# Everyone here has an email address too, so that only the rules can leave them out.
_PEOPLE: tuple[tuple[str, str, Facts], ...] = (
    ("TEXT_ENABLED", "whose number is text-enabled", Facts((_TEXT_ENABLED,), _EMAILS)),
    (
        "SMS_OPTED_OUT",
        "who opted their text-enabled number out of texts",
        Facts((_TEXT_ENABLED,), _EMAILS, sms_consent=(Consent(_TEXT_ENABLED.number, _LINE, "opted_out"),)),
    ),
    ("LANDLINE", "whose number is a landline", Facts((_LANDLINE,), _EMAILS)),
    ("LINE_TYPE_UNKNOWN", "whose number's line type is unknown", Facts((_UNKNOWN,), _EMAILS)),
    ("NO_VALID_PHONE", "who have an email address and no valid phone", Facts((), _EMAILS)),
)


def of_channels(channels: frozenset[Channel], policy: Policy) -> tuple[Advice, ...]:
    """Say which patients an automation with these channels never reaches under the policy."""
    found = []
    for code, people, facts in _PEOPLE:
        decision = decide(facts, Message("automation", channels, _LINE), policy)
        if decision.outcome == "suppress":
            found.append(Advice(code, f"Patients {people} get nothing from it ({decision.reason})."))
    return tuple(found)


def of_practice(practice: Practice) -> tuple[Advice, ...]:
    """Say what a practice's policy risks where it is, and which emails it could not send."""
    return (*_of_policy(practice), *_of_sending(practice))


def _of_policy(practice: Practice) -> Iterator[Advice]:
    if practice.default_country == "US" and not practice.policy.opt_out_blocks_calls:
        yield Advice(
            "OPT_OUT_BLOCKS_CALLS_OFF",
            "opt_out_blocks_calls is off: numbers that opted out of texts are still called by automations, "
            "broadcasts and campaigns. US rules treat STOP as revoking robocalls as well as robotexts.",
        )


def _of_sending(practice: Practice) -> Iterator[Advice]:
    without = [line.id for line in practice.lines if line.email_sender is None]
    if practice.sending and without:
        yield Advice(
            "NO_EMAIL_SENDER",
            f"sending is on, and emails on {', '.join(without)} fail: set the line's email_sender to an address "
            "that SES may send from.",
        )
