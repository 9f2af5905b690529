"""The routing rules: from a patient's facts, a message and a policy to one decision.

Pure: no I/O, no clock, no environment. The rules are named as in the README (R1 to R5, and M for manual messages);
each exit carries its reason.
"""

from typing import Literal, NamedTuple

from patient_contact import reasons
from patient_contact.facts import Channel, ConsentStatus, Facts, Message, Phone, Policy
from patient_contact.reasons import Reason

Rule = Literal["R1", "R2", "R3", "R4", "R5", "M"]


# Named tuples: a frozen dataclass takes twice as long to make, and millions of these are made.
class Step(NamedTuple):
    """One rule that was tried: on which channel and phone, whether it fired, and why or why not."""

    rule: Rule
    channel: Channel | None
    phone: str | None
    fired: bool
    reason: Reason


class Decision(NamedTuple):
    """Whether, where and how one message goes to one patient, with all that is needed to explain or replay it."""

    outcome: Literal["deliver", "suppress"]
    channel: Channel | None
    destination: str | None
    reason: Reason
    rule: Rule | None
    steps: tuple[Step, ...]
    message: Message
    policy: Policy
    facts: Facts

    @property
    def explanation(self) -> str:
        """Say the decision in one sentence, fit for staff."""
        on_phone = self.destination if self.channel != "email" else None
        if on_phone is None:
            on_phone = next((step.phone for step in self.steps if step.phone and step.reason == self.reason), None)
        return reasons.sentence(
            self.channel,
            self.reason,
            phone=on_phone,
            line=self.message.line,
            phone_was_chosen=self.message.phone_number is not None,
        )


def decide(facts: Facts, message: Message, policy: Policy) -> Decision:
    """Decide whether, where and by which channel `message` goes to the patient; the same facts always decide the same.

    At most one channel is ever chosen. The first rule that fires decides.
    """
    phone = _phone_for(facts, message)
    number = None if phone is None else phone.number
    if message.message_class == "manual":
        return _decide_manual(facts, message, policy, phone)

    included = message.channels
    steps: list[Step] = []

    if message.message_class == "automation":
        if facts.do_not_contact:
            steps.append(Step("R1", None, None, True, "DO_NOT_CONTACT"))
            return Decision("suppress", None, None, "DO_NOT_CONTACT", "R1", tuple(steps), message, policy, facts)
        steps.append(Step("R1", None, None, False, "DO_NOT_CONTACT_OFF"))
    rules_before = len(steps)

    if "text" in included:
        fires, reason = _text(phone, facts, message.line)
        steps.append(Step("R2", "text", number, fires, reason))
        if fires:
            return Decision("deliver", "text", number, reason, "R2", tuple(steps), message, policy, facts)

    if "call" in included:
        fires, reason = _call(phone, facts, message, policy)
        steps.append(Step("R3", "call", number, fires, reason))
        if fires:
            return Decision("deliver", "call", number, reason, "R3", tuple(steps), message, policy, facts)

    other = _other_number(facts, message, phone) if policy.text_other_number else None
    if other is not None:
        fires, reason = _text(other, facts, message.line)
        steps.append(Step("R2", "text", other.number, fires, reason))
        if fires:
            return Decision("deliver", "text", other.number, reason, "R2", tuple(steps), message, policy, facts)

    if "email" in included:
        address = _valid_email(facts)
        fires, reason = _email(address, phone, policy)
        steps.append(Step("R4", "email", None, fires, reason))
        if fires:
            return Decision("deliver", "email", address, reason, "R4", tuple(steps), message, policy, facts)

    # R5: the reason of the first included channel in the order text, call, email, which is the one tried first.
    reason = steps[rules_before].reason
    return Decision("suppress", None, None, reason, "R5", tuple(steps), message, policy, facts)


def _decide_manual(facts: Facts, message: Message, policy: Policy, phone: Phone | None) -> Decision:
    """Rule M: the one channel that staff chose, or nothing; never another channel in its place."""
    (channel,) = message.channels
    destination = number = None if phone is None else phone.number
    if channel == "text":
        possible, reason = _text(phone, facts, message.line)
    elif channel == "call":
        possible, reason = phone is not None and phone.status == "valid", "NO_VALID_PHONE"
    else:
        number, destination = None, _valid_email(facts)
        possible, reason = destination is not None, "NO_VALID_EMAIL"
    if possible:
        step = Step("M", channel, number, True, "CHOSEN_BY_STAFF")
        return Decision("deliver", channel, destination, "CHOSEN_BY_STAFF", "M", (step,), message, policy, facts)
    step = Step("M", channel, number, False, reason)
    return Decision("suppress", None, None, reason, "M", (step,), message, policy, facts)


def _text(phone: Phone | None, facts: Facts, line: str) -> tuple[bool, Reason]:
    """R2: whether `phone` can be texted on `line`, and why or why not."""
    if phone is None or phone.status != "valid":
        return False, "NO_VALID_PHONE"
    if phone.line_type == "landline":
        return False, "LANDLINE"
    if phone.line_type != "text_enabled":
        return False, "LINE_TYPE_UNKNOWN"
    consent = _consent(facts, phone.number, line)
    if consent == "opted_out":
        return False, "SMS_OPTED_OUT"
    if consent != "opted_in":
        return False, "CONSENT_UNDER_REVIEW"
    return True, "TEXT_ENABLED"


def _call(phone: Phone | None, facts: Facts, message: Message, policy: Policy) -> tuple[bool, Reason]:
    """R3: whether `phone` is called, and why or why not; a number that can be texted is not called."""
    if phone is None:
        return False, "NO_VALID_PHONE"
    if policy.opt_out_blocks_calls and _consent(facts, phone.number, message.line) != "opted_in":
        return False, "CALLS_REVOKED"
    can_be_texted, why = _text(phone, facts, message.line)
    if not can_be_texted:
        return True, why
    if policy.call_when_text_not_included and "text" not in message.channels:
        return True, "TEXT_NOT_INCLUDED"
    return False, "TEXT_ENABLED"


def _email(address: str | None, phone: Phone | None, policy: Policy) -> tuple[bool, Reason]:
    """R4, tried when neither R2 nor R3 fired: whether the patient is emailed, and why or why not."""
    if address is None:
        return False, "NO_VALID_EMAIL"
    if phone is None:
        return True, "NO_VALID_PHONE"
    if policy.email_when_no_phone_channel:
        return True, "NO_PHONE_CHANNEL"
    return False, "PHONE_ON_FILE"


def _phone_for(facts: Facts, message: Message) -> Phone | None:
    """Choose the phone ("Which phone" in the README); consent plays no part in it."""
    if message.phone_number is not None and message.message_class == "manual":
        return next((phone for phone in facts.phones if phone.number == message.phone_number), None)
    if facts.preferred_contact is not None and message.message_class in ("automation", "manual"):
        for phone in facts.phones:
            if phone.number == facts.preferred_contact and phone.status == "valid":
                return phone
    landline = unknown = None
    for phone in facts.phones:
        if phone.status != "valid":
            continue
        if phone.line_type == "text_enabled":
            return phone
        if phone.line_type == "landline":
            landline = landline or phone
        else:
            unknown = unknown or phone
    return landline or unknown


def _other_number(facts: Facts, message: Message, phone: Phone | None) -> Phone | None:
    """Find the number that `text_other_number` may text instead of a preferred contact that cannot be texted.

    Only ever because of the preferred contact's line type: an opt-out never moves texts to another number.
    """
    if (
        message.message_class != "automation"
        or "text" not in message.channels
        or "call" in message.channels
        or phone is None
        or phone.number != facts.preferred_contact
        or phone.line_type == "text_enabled"
    ):
        return None
    return next(
        (other for other in facts.phones if other.status == "valid" and other.line_type == "text_enabled"), None
    )


def _consent(facts: Facts, number: str, line: str) -> ConsentStatus:
    """Give the consent recorded for (number, line): `opted_in` until something is recorded."""
    for consent in facts.sms_consent:
        if consent.phone_number == number and consent.line == line:
            return consent.status
    return "opted_in"


def _valid_email(facts: Facts) -> str | None:
    """Give the first valid address in the order on file."""
    for email in facts.emails:
        if email.status == "valid":
            return email.address
    return None


def automation_disabled(facts: Facts, message: Message, policy: Policy) -> Decision:
    """Suppress a message of an automation that is switched off: decided before the rules, so none was tried."""
    return Decision("suppress", None, None, "AUTOMATION_DISABLED", None, (), message, policy, facts)
