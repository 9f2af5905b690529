"""What carriers say of a phone number, whoever has it: whether it is valid and can be texted, and why we think so.

Pure: imports facts only. Times are UTC, ISO 8601 to the microsecond, as text; when something happened counts, not when
we heard of it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from patient_contact.facts import LineType, Status

# What CarrierLookup says of a number, and how routing sees it. INVALID says nothing of the line.
NumberType = Literal["MOBILE", "PREPAID", "VOIP", "LANDLINE", "OTHER", "INVALID"]
LINE_TYPES: dict[str, LineType] = {
    "MOBILE": "text_enabled",
    "PREPAID": "text_enabled",
    "VOIP": "text_enabled",
    "LANDLINE": "landline",
    "OTHER": "unknown",
}

# Event types of receipts that say something of the number, beside those that do not.
INVALID = "TEXT_INVALID"
UNREACHABLE = ("TEXT_UNREACHABLE", "TEXT_CARRIER_UNREACHABLE")
REACHED = ("TEXT_DELIVERED", "TEXT_SUCCESSFUL")

LOOKUP_DAYS = 90
UNREACHABLE_DAYS = 30
UNREACHABLE_TIMES = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a change rests on: a receipt's event type, a lookup's result, a provider's refusal to send to the number.

    Or that registration sent it anew.
    """

    source: Literal["receipt", "lookup", "refusal", "registration"]
    code: str
    at: str
    provider_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a number. `unreachable` are the failures that count, oldest first, at most one a message.

    `vouched_at` is when registration or a lookup last said that the number is one, `counted_from` the time after which
    failures count: when a message last reached it, or it was last made valid again.
    """

    status: Status = "valid"
    line_type: LineType = "unknown"
    looked_up_at: str | None = None
    number_type: str | None = None
    evidence: Evidence | None = None
    unreachable: tuple[Evidence, ...] = ()
    vouched_at: str = ""
    counted_from: str = ""

    @property
    def suspect(self) -> bool:
        """Whether messages to this valid number have failed lately: shown, and still routed."""
        return self.status == "valid" and bool(self.unreachable)

    def needs_lookup(self, now: datetime) -> bool:
        """Say whether its line should be looked up: a result is reused for 90 days, but for INVALID when asked anew."""
        if self.looked_up_at is None or self.number_type == "INVALID":
            return True
        return datetime.fromisoformat(self.looked_up_at) < now - timedelta(days=LOOKUP_DAYS)

    def after_receipt(self, receipt: Evidence) -> "Verdict":
        """Give the verdict after a receipt; the same when it says nothing new of the number."""
        if receipt.code == INVALID:
            if self.status == "invalid" or receipt.at <= self.vouched_at:
                return self
            return replace(self, status="invalid", evidence=receipt)
        if receipt.code in UNREACHABLE:
            return self._after_failure(receipt)
        if receipt.code in REACHED and self.unreachable and receipt.at > self.counted_from:
            left = tuple(failure for failure in self.unreachable if failure.at > receipt.at)
            evidence = receipt if self.suspect and not left else self.evidence
            return replace(self, counted_from=receipt.at, unreachable=left, evidence=evidence)
        return self

    def _after_failure(self, failure: Evidence) -> "Verdict":
        """Count a failure to reach the number: the third within 30 days, no success between, makes it invalid."""
        known = {each.provider_message_id for each in self.unreachable}
        if self.status == "invalid" or failure.at <= self.counted_from or failure.provider_message_id in known:
            return self
        failures = sorted((*self.unreachable, failure), key=lambda each: each.at)[-UNREACHABLE_TIMES:]
        month = timedelta(days=UNREACHABLE_DAYS)
        newest = datetime.fromisoformat(failures[-1].at)
        recent = tuple(each for each in failures if newest - datetime.fromisoformat(each.at) <= month)
        if failure not in recent:
            return self
        gave_up = len(recent) >= UNREACHABLE_TIMES
        return replace(self, status="invalid" if gave_up else "valid", unreachable=recent, evidence=failure)

    def after_refusal(self, refusal: Evidence) -> "Verdict":
        """Give the verdict after a provider refused to send to the number since it is none."""
        return self if self.status == "invalid" else replace(self, status="invalid", evidence=refusal)

    def after_lookup(self, number_type: str, at: str) -> "Verdict":
        """Give the verdict after a lookup answered at `at`."""
        known = replace(self, looked_up_at=at, number_type=number_type)
        found = Evidence("lookup", number_type, at)
        if number_type == "INVALID":
            return known if self.status == "invalid" else replace(known, status="invalid", evidence=found)
        return replace(known.valid_because(found), line_type=LINE_TYPES.get(number_type, "unknown"))

    def sent_anew(self, at: str) -> "Verdict":
        """Give the verdict after registration sent the number at `at`: an invalid one is valid again."""
        if self.status == "valid":
            return self
        return self.valid_because(Evidence("registration", "SENT_ANEW", at))

    def valid_because(self, because: Evidence) -> "Verdict":
        """Give the verdict after somebody vouched for the number; what failed before an invalid one counts no more."""
        if self.status == "valid":
            return replace(self, vouched_at=because.at)
        return replace(
            self,
            status="valid",
            evidence=because,
            unreachable=(),
            vouched_at=because.at,
            counted_from=max(self.counted_from, because.at),
        )


NOTHING_KNOWN = Verdict()
