"""The engine against a second, naive reading of the rules, on random cases."""

from hypothesis import given

from patient_contact.facts import Facts, Message, Phone, Policy
from patient_contact.routing import decide
from tests.unit.random_cases import messages, patients, policies, thorough

BEST_FIRST = ("text_enabled", "landline", "unknown")


def by_the_book(facts: Facts, message: Message, policy: Policy) -> tuple[object, ...]:
    manual, automation = message.message_class == "manual", message.message_class == "automation"
    consent = {(said.phone_number, said.line): said.status for said in facts.sms_consent}
    valid = [phone for phone in facts.phones if phone.status == "valid"]
    emails = [email.address for email in facts.emails if email.status == "valid"]

    preferred = [phone for phone in valid if phone.number == facts.preferred_contact and (manual or automation)]
    candidates = preferred + sorted(valid, key=lambda phone: BEST_FIRST.index(phone.line_type))
    if manual and message.phone_number:
        candidates = [phone for phone in facts.phones if phone.number == message.phone_number]
    chosen = candidates[0] if candidates else None

    def said(phone: Phone) -> str:
        return consent.get((phone.number, message.line), "opted_in")

    def why_not_text(phone: Phone | None) -> str:
        if phone is None or phone.status == "invalid":
            return "NO_VALID_PHONE"
        by_type = {"landline": "LANDLINE", "unknown": "LINE_TYPE_UNKNOWN", "text_enabled": ""}[phone.line_type]
        by_consent = {"opted_out": "SMS_OPTED_OUT", "under_review": "CONSENT_UNDER_REVIEW", "opted_in": ""}
        return by_type or by_consent[said(phone)]

    def why_not_call(phone: Phone | None) -> str:
        if phone is None:
            return "NO_VALID_PHONE"
        if policy.opt_out_blocks_calls and said(phone) != "opted_in":
            return "CALLS_REVOKED"
        in_call_only = policy.call_when_text_not_included and "text" not in message.channels
        return "" if why_not_text(phone) or in_call_only else "TEXT_ENABLED"

    why_not_email = "" if emails else "NO_VALID_EMAIL"
    if emails and valid and not policy.email_when_no_phone_channel:
        why_not_email = "PHONE_ON_FILE"
    moves = policy.text_other_number and automation and preferred and preferred[0].line_type != "text_enabled"
    moves = moves and "text" in message.channels and "call" not in message.channels
    elsewhere = [phone for phone in valid if phone.line_type == "text_enabled"][:1] if moves else []

    # rule, channel, phone, tried, why not, why
    do_not_contact = "" if facts.do_not_contact else "DO_NOT_CONTACT_OFF"
    call_why = why_not_text(chosen) or "TEXT_NOT_INCLUDED"
    email_why = "NO_PHONE_CHANNEL" if valid else "NO_VALID_PHONE"
    rows: list[tuple[str, str | None, Phone | None, bool, str, str]] = [
        ("R1", None, None, automation, do_not_contact, "DO_NOT_CONTACT"),
        ("R2", "text", chosen, "text" in message.channels, why_not_text(chosen), "TEXT_ENABLED"),
        ("R3", "call", chosen, "call" in message.channels, why_not_call(chosen), call_why),
        *(("R2", "text", other, True, why_not_text(other), "TEXT_ENABLED") for other in elsewhere),
        ("R4", "email", None, "email" in message.channels, why_not_email, email_why),
    ]
    if manual:
        no_phone = "NO_VALID_PHONE" if chosen is None or chosen.status == "invalid" else ""
        blocked = {"text": why_not_text(chosen), "call": no_phone, "email": "" if emails else "NO_VALID_EMAIL"}
        (asked,) = message.channels
        rows = [("M", asked, None if asked == "email" else chosen, True, blocked[asked], "CHOSEN_BY_STAFF")]

    steps: list[tuple[object, ...]] = []
    for rule, channel, phone, tried, why_not, why in rows:
        number = phone.number if phone else None
        if tried:
            steps.append((rule, channel, number, not why_not, why_not or why))
        if tried and not why_not:
            to = emails[0] if channel == "email" else number
            return "suppress" if rule == "R1" else "deliver", channel, to, why, rule, steps
    reason = steps[1 if automation else 0][-1]
    return "suppress", None, None, reason, "M" if manual else "R5", steps


@thorough
@given(patients, messages, policies)
def test_a_decision_is_what_a_naive_reading_of_the_rules_gives(facts: Facts, message: Message, policy: Policy) -> None:
    taken = decide(facts, message, policy)

    steps = [tuple(step) for step in taken.steps]
    told = (taken.outcome, taken.channel, taken.destination, taken.reason, taken.rule, steps)
    assert told == by_the_book(facts, message, policy)
