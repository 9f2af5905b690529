"""The routing rules once more, as a decision table for zen-engine, in its JSON decision model."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import zen

from patient_contact.facts import Facts, Message, Phone, Policy

When = dict[str, Any]
# Channel (None: nothing is sent), reason and rule.
Outcome = tuple[str | None, str, str]

OUTPUTS = ("channel", "reason", "rule")
LINE_TYPES = ("text_enabled", "landline", "unknown")

CAN_BE_TEXTED: When = {"phone": "text_enabled", "consent": "opted_in"}
CANNOT_BE_TEXTED: tuple[tuple[When, str], ...] = (
    ({"phone": "landline"}, "LANDLINE"),
    ({"phone": "unknown"}, "LINE_TYPE_UNKNOWN"),
    ({"phone": "text_enabled", "consent": "opted_out"}, "SMS_OPTED_OUT"),
    ({"phone": "text_enabled", "consent": "under_review"}, "CONSENT_UNDER_REVIEW"),
)
NO_PHONE: tuple[When, str] = ({"phone": "none"}, "NO_VALID_PHONE")

MANUAL: When = {"class": "manual"}
# What is left out of a row is not looked at; the first row that fits decides.
ROWS: tuple[tuple[When, Outcome], ...] = (
    ({**MANUAL, "text": True, **CAN_BE_TEXTED}, ("text", "CHOSEN_BY_STAFF", "M")),
    *(({**MANUAL, "text": True, **when}, (None, why, "M")) for when, why in (NO_PHONE, *CANNOT_BE_TEXTED)),
    ({**MANUAL, "call": True, "phone": "none"}, (None, "NO_VALID_PHONE", "M")),
    ({**MANUAL, "call": True}, ("call", "CHOSEN_BY_STAFF", "M")),
    ({**MANUAL, "address": True}, ("email", "CHOSEN_BY_STAFF", "M")),
    (MANUAL, (None, "NO_VALID_EMAIL", "M")),
    ({"class": "automation", "do_not_contact": True}, (None, "DO_NOT_CONTACT", "R1")),
    ({"text": True, **CAN_BE_TEXTED}, ("text", "TEXT_ENABLED", "R2")),
    *(({"call": True, **when, "calls_revoked": False}, ("call", why, "R3")) for when, why in CANNOT_BE_TEXTED),
    ({"text": False, **CAN_BE_TEXTED, "call": True, "call_without_text": True}, ("call", "TEXT_NOT_INCLUDED", "R3")),
    ({"other_number": True}, ("text", "TEXT_ENABLED", "R2")),
    ({"email": True, "phone": "none", "address": True}, ("email", "NO_VALID_PHONE", "R4")),
    ({"email": True, "address": True, "email_when_no_phone_channel": True}, ("email", "NO_PHONE_CHANNEL", "R4")),
    *(({"text": True, **when}, (None, why, "R5")) for when, why in (NO_PHONE, *CANNOT_BE_TEXTED)),
    ({"call": True, "phone": "none"}, (None, "NO_VALID_PHONE", "R5")),
    ({"call": True, "calls_revoked": True}, (None, "CALLS_REVOKED", "R5")),
    ({"call": True}, (None, "TEXT_ENABLED", "R5")),
    ({"address": False}, (None, "NO_VALID_EMAIL", "R5")),
    ({}, (None, "PHONE_ON_FILE", "R5")),
)
INPUTS = tuple(dict.fromkeys(name for when, _ in ROWS for name in when))


def evaluator(*, trace: bool = False) -> Callable[[bytes], Mapping[str, Any]]:
    """Load the table the way zen-engine is fastest: a static loader, compiled once, asked with inputs as JSON."""
    engine = zen.ZenEngine({"loader": {"type": "static", "content": {"routing": _model()}}})
    options: Any = {"trace": trace}
    return lambda inputs: engine.evaluate("routing", inputs, options)


def inputs(facts: Facts, message: Message, policy: Policy) -> When:
    """Work out all that the table asks about."""
    phone = _phone_for(facts, message)
    consents = {(consent.phone_number, consent.line): consent.status for consent in facts.sms_consent}
    consent = consents.get((phone.number, message.line), "opted_in") if phone else "opted_in"
    others = [other for other in facts.phones if other.status == "valid" and other.line_type == "text_enabled"]
    return {
        "class": message.message_class,
        "do_not_contact": facts.do_not_contact,
        "text": "text" in message.channels,
        "call": "call" in message.channels,
        "email": "email" in message.channels,
        "phone": phone.line_type if phone else "none",
        "consent": consent,
        "calls_revoked": policy.opt_out_blocks_calls and consent != "opted_in",
        "other_number": policy.text_other_number
        and message.message_class == "automation"
        and message.channels & {"text", "call"} == {"text"}
        and phone is not None
        and phone.number == facts.preferred_contact
        and phone.line_type != "text_enabled"
        and bool(others)
        and consents.get((others[0].number, message.line), "opted_in") == "opted_in",
        "address": any(email.status == "valid" for email in facts.emails),
        "call_without_text": policy.call_when_text_not_included,
        "email_when_no_phone_channel": policy.email_when_no_phone_channel,
    }


def _phone_for(facts: Facts, message: Message) -> Phone | None:
    valid = [phone for phone in facts.phones if phone.status == "valid"]
    if message.phone_number is not None:
        return next((phone for phone in valid if phone.number == message.phone_number), None)
    if message.message_class in ("automation", "manual"):
        valid = [phone for phone in valid if phone.number == facts.preferred_contact] or valid
    return min(valid, key=lambda phone: LINE_TYPES.index(phone.line_type), default=None)


def _model() -> dict[str, Any]:
    cells = [
        {name: json.dumps(when[name]) if name in when else "" for name in INPUTS}
        | {name: json.dumps(value) for name, value in zip(OUTPUTS, outcome, strict=True)}
        for when, outcome in ROWS
    ]
    routing = {
        "hitPolicy": "first",
        "inputs": [{"id": name, "name": name, "field": name} for name in INPUTS],
        "outputs": [{"id": name, "name": name, "field": name} for name in OUTPUTS],
        "rules": [{"_id": str(number), **row} for number, row in enumerate(cells)],
    }
    nodes = [
        {"id": "facts", "name": "facts", "type": "inputNode"},
        {"id": "routing", "name": "routing", "type": "decisionTableNode", "content": routing},
        {"id": "decision", "name": "decision", "type": "outputNode"},
    ]
    edges = [
        {"id": "in", "type": "edge", "sourceId": "facts", "targetId": "routing"},
        {"id": "out", "type": "edge", "sourceId": "routing", "targetId": "decision"},
    ]
    return {"contentType": "application/vnd.gorules.decision", "nodes": nodes, "edges": edges}
