"""A decision as plain data, in the form of the API: what is answered, stored and published are all made from it.

Pure: imports the routing rules and the facts.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from patient_contact.facts import CHANNELS, Consent, Email, Facts, Message, Phone, Policy
from patient_contact.routing import Decision, Step

Data = dict[str, Any]


def to_data(decision: Decision) -> Data:
    """Give a decision without its sentence, which is rendered when it is read."""
    message, facts = decision.message, decision.facts
    return {
        "outcome": decision.outcome,
        "channel": decision.channel,
        "destination": decision.destination,
        "reason": decision.reason,
        "rule": decision.rule,
        "steps": [step._asdict() for step in decision.steps],
        "message": {
            "class": message.message_class,
            "channels": [channel for channel in CHANNELS if channel in message.channels],
            "line": message.line,
            **({} if message.phone_number is None else {"phone_number": message.phone_number}),
        },
        "policy": asdict(decision.policy),
        "facts": {
            "phones": [asdict(phone) for phone in facts.phones],
            "emails": [asdict(email) for email in facts.emails],
            "preferred_contact": facts.preferred_contact,
            "do_not_contact": facts.do_not_contact,
            "sms_consent": [asdict(consent) for consent in facts.sms_consent],
        },
    }


def from_data(data: Mapping[str, Any]) -> Decision:
    """Read back what `to_data` gave."""
    message, facts = data["message"], data["facts"]
    return Decision(
        data["outcome"],
        data["channel"],
        data["destination"],
        data["reason"],
        data["rule"],
        tuple(Step(**step) for step in data["steps"]),
        Message(message["class"], frozenset(message["channels"]), message["line"], message.get("phone_number")),
        Policy(**data["policy"]),
        Facts(
            tuple(Phone(**phone) for phone in facts["phones"]),
            tuple(Email(**email) for email in facts["emails"]),
            facts["preferred_contact"],
            facts["do_not_contact"],
            tuple(Consent(**consent) for consent in facts["sms_consent"]),
        ),
    )


def answer(decision: Decision) -> Data:
    """Give a decision as the API answers it, with its sentence for staff."""
    return {**to_data(decision), "explanation": decision.explanation}
