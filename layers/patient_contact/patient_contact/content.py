"""A message's content: `string.Template` texts, checked when registered and filled from an event's context.

Pure: imports facts only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Self

from patient_contact.facts import CHANNELS, Channel

MAX_TEXT = 1_600
MAX_CALL = 6_000
MAX_EMAIL_BYTES = 32 * 1024
MAX_SUBJECT = 250


@dataclass(frozen=True, slots=True)
class Content:
    """The bodies of one message by channel; `subject` is the email's."""

    bodies: Mapping[Channel, str]
    subject: str | None = None

    @classmethod
    def of(cls, messages: Mapping[str, Mapping[str, str]]) -> Self:
        """Read back what `as_messages` gave."""
        bodies = {channel: messages[channel]["body"] for channel in CHANNELS if channel in messages}
        return cls(bodies, messages.get("email", {}).get("subject"))

    @property
    def channels(self) -> frozenset[Channel]:
        """The channels that the message includes: those for which it has a body."""
        return frozenset(self.bodies)

    def placeholders(self) -> set[str]:
        """Give the names of all placeholders."""
        texts = [*self.bodies.values(), *([] if self.subject is None else [self.subject])]
        return {name for text in texts for name in Template(text).get_identifiers()}

    def as_messages(self) -> dict[str, dict[str, str]]:
        """Give the content as the API and the events have it: `{"text": {"body"}, "email": {"subject", "body"}}`."""
        messages = {channel: {"body": self.bodies[channel]} for channel in CHANNELS if channel in self.bodies}
        if "email" in messages:
            messages["email"] = {"subject": self.subject or "", **messages["email"]}
        return {str(channel): parts for channel, parts in messages.items()}


class Unfillable(Exception):
    """The content cannot be filled: `reason` says why, naming placeholders and channels, never values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_template(text: str) -> bool:
    """Say whether every `$` of the text begins a placeholder or is written `$$`."""
    return Template(text).is_valid()


def too_long(channel: Channel, body: str) -> str | None:
    """Say what limit a body breaks: 1,600 characters a text, 6,000 a call, 32 KB an email; None when it breaks none."""
    if channel == "text" and len(body) > MAX_TEXT:
        return f"a text has at most {MAX_TEXT} characters"
    if channel == "call" and len(body) > MAX_CALL:
        return f"a call has at most {MAX_CALL} characters"
    if channel == "email" and len(body.encode()) > MAX_EMAIL_BYTES:
        return f"an email body has at most {MAX_EMAIL_BYTES} bytes"
    return None


def fill(content: Content, context: Mapping[str, object]) -> Content:
    """Fill the placeholders of all channels, as the channel may still change; raise Unfillable, never half-fill."""
    bodies: dict[Channel, str] = {}
    for channel, body in content.bodies.items():
        bodies[channel] = _filled(body, context, channel)
        if too_long(channel, bodies[channel]):
            raise Unfillable(f"{channel} too long when filled")
    subject = content.subject
    if subject is not None:
        # A line break from the context would start a new mail header.
        subject = " ".join(_filled(subject, context, "email").split())
        if len(subject) > MAX_SUBJECT:
            raise Unfillable("email subject too long when filled")
    return Content(bodies, subject)


def _filled(text: str, context: Mapping[str, object], channel: Channel) -> str:
    template = Template(text)
    missing = [name for name in template.get_identifiers() if name not in context]
    if missing:
        raise Unfillable("missing placeholder: " + ", ".join(missing))
    # Measured before it is built: a short template may name a long value thousands of times.
    values = (match.group("named") or match.group("braced") for match in template.pattern.finditer(text))
    if sum(len(str(context[name])) for name in values if name) > MAX_EMAIL_BYTES:
        raise Unfillable(f"{channel} too long when filled")
    return template.substitute(context)
