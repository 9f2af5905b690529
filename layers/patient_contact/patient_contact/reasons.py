"""Every reason code with the clause that says it to staff.

Pure: imports the phone number library for display, and nothing of ours.
"""

from typing import Literal

Reason = Literal[
    "AUTOMATION_DISABLED",
    "CALLS_REVOKED",
    "CHOSEN_BY_STAFF",
    "CONSENT_UNDER_REVIEW",
    "DO_NOT_CONTACT",
    "DO_NOT_CONTACT_OFF",
    "LANDLINE",
    "LINE_TYPE_UNKNOWN",
    "NO_PHONE_CHANNEL",
    "NO_VALID_EMAIL",
    "NO_VALID_PHONE",
    "PHONE_ON_FILE",
    "SMS_OPTED_OUT",
    "TEXT_ENABLED",
    "TEXT_NOT_INCLUDED",
]

CLAUSES: dict[Reason, str] = {
    "AUTOMATION_DISABLED": "the automation is switched off",
    "CALLS_REVOKED": "{phone} revoked texts on line {line}, or may have, and this practice does not call such numbers",
    "CHOSEN_BY_STAFF": "staff chose this channel, and nothing on file speaks against it",
    "CONSENT_UNDER_REVIEW": "a reply from {phone} on line {line} may be an opt-out and waits for staff to read it",
    "DO_NOT_CONTACT": "Do Not Contact is on, which stops automations",
    "DO_NOT_CONTACT_OFF": "Do Not Contact is off",
    "LANDLINE": "{phone} is a landline, which cannot be texted",
    "LINE_TYPE_UNKNOWN": "it is not known whether {phone} can be texted",
    "NO_PHONE_CHANNEL": "no text and no call of this message can go to the phone on file",
    "NO_VALID_EMAIL": "no valid email address is on file",
    "NO_VALID_PHONE": "no valid phone is on file",
    "PHONE_ON_FILE": "a valid phone is on file, so no email is sent",
    "SMS_OPTED_OUT": "{phone} is opted out of texts on line {line}",
    "TEXT_ENABLED": "{phone} can be texted on line {line}",
    "TEXT_NOT_INCLUDED": "the message has no text, and {phone} can be called",
}

# What a code says when it is why nothing is sent, where that is something else.
SUPPRESSED_CLAUSES: dict[Reason, str] = {
    "TEXT_ENABLED": "{phone} can be texted, so it is not called, and the message has no text",
}

# A phone that staff chose by hand is the one that is not valid, whatever else is on file.
CHOSEN_PHONE_INVALID = "{phone}, the phone that was chosen, is not a valid number"

VERBS = {"text": "Texted", "call": "Called", "email": "Emailed", None: "Nothing sent"}


def display(number: str) -> str:
    """Give a number as people write it (`+1 503-555-0112`); what is no number stays as it is."""
    # Costs 15 ms to import, and only those who read a sentence need it.
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def sentence(
    channel: str | None, reason: Reason, *, phone: str | None, line: str | None, phone_was_chosen: bool = False
) -> str:
    """Say in one sentence what happened on `channel` (None: nothing) and why, for staff."""
    clause = CLAUSES[reason]
    if channel is None:
        clause = SUPPRESSED_CLAUSES.get(reason, clause)
    if reason == "NO_VALID_PHONE" and phone_was_chosen:
        clause = CHOSEN_PHONE_INVALID
    return f"{VERBS[channel]}: {clause.format(phone=display(phone or 'the phone'), line=line)}."
