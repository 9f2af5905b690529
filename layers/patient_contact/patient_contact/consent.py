"""SMS consent of one phone number on one line: what was said of it, and what follows from that.

Pure: imports facts only. Times are UTC, ISO 8601 to the microsecond, as text. What is in force does not depend on the
order in which things are recorded, nor on how often: it follows from what was said, and when.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from patient_contact.facts import ConsentStatus

ConsentSource = Literal["keyword", "staff", "carrier", "import"]
Wish = Literal["opted_in", "opted_out"]
Evidence = Literal["signed_form", "recorded_call", "portal"]

# A transaction that ends all reviews of a number and line writes two items for each, and takes at most 100.
MAX_OPEN_REVIEWS = 20


@dataclass(frozen=True, slots=True)
class Said:
    """One wish about texts from a line to a number: who brought it, when it was said, when it was recorded.

    `id` tells it from all else that was said at the same moment. `own` is what patients say themselves, by a keyword.
    """

    id: str
    status: Wish
    source: ConsentSource
    said_at: str
    recorded_at: str
    actor: str | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """The consent in force for (number, line), where it came from, and when it was said and recorded."""

    status: ConsentStatus
    source: ConsentSource
    said_at: str
    recorded_at: str
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class OpenReview:
    """A message that staff have yet to read, since it may be a wish of this kind."""

    wish: Wish
    said_at: str
    recorded_at: str


@dataclass(frozen=True, slots=True)
class LineConsent:
    """All that still counts of what was said on one line: the newest, the newest of the patient's own, and reviews."""

    newest: Said | None = None
    own: Said | None = None
    reviews: Mapping[str, OpenReview] = field(default_factory=dict)

    @property
    def in_force(self) -> Said | None:
        """The wish that counts: the newest, unless the patient opted out by keyword, which only they can undo."""
        if self.only_the_patient_can_undo and self.newest is not None and self.newest.status == "opted_in":
            return self.own
        return self.newest

    @property
    def only_the_patient_can_undo(self) -> bool:
        """Whether the last thing that the patient said by keyword was an opt-out."""
        return self.own is not None and self.own.status == "opted_out"

    @property
    def status(self) -> ConsentStatus:
        """What routing is told: `opted_in` until something is recorded, and a review never replaces an opt-out."""
        record = self.record
        return "opted_in" if record is None else record.status

    @property
    def record(self) -> ConsentRecord | None:
        """What is in force and where it came from; None when nothing is recorded."""
        wish = self.in_force
        if wish is None or wish.status == "opted_in":
            unread = [review for review in self.reviews.values() if review.wish == "opted_out"]
            if unread:
                last = max(unread, key=lambda review: (review.said_at, review.recorded_at))
                return ConsentRecord("under_review", "keyword", last.said_at, last.recorded_at)
        if wish is None:
            return None
        return ConsentRecord(wish.status, wish.source, wish.said_at, wish.recorded_at, wish.actor)

    def after(self, said: Said) -> "LineConsent":
        """Give the consent after one more wish was recorded, whenever it was said."""
        newest = said if self.newest is None else max(self.newest, said, key=_order)
        own = self.own
        if said.own:
            own = said if own is None else max(own, said, key=_order)
        reviews = {id_: review for id_, review in self.reviews.items() if not _ended_by(own, review)}
        return LineConsent(newest, own, reviews)

    def counted(self, out: Said) -> Said:
        """Give an opt-out that is recorded now: from when it was said, or from now if staff have opted in since.

        They did not know of it then. What the patient has said by keyword since stays newer.
        """
        newest = self.newest
        if newest is None or newest.status == "opted_out" or newest.own or newest.said_at <= out.said_at:
            return out
        # On a tie it wins: the clock that the opt-in was recorded by may be ahead.
        return replace(out, said_at=max(out.recorded_at, newest.said_at))

    def under_review(self, id_: str, review: OpenReview) -> "LineConsent":
        """Give the consent with a message to read, unless the patient has said what they want by keyword since."""
        if _ended_by(self.own, review):
            return self
        return replace(self, reviews={**self.reviews, id_: review})

    def reviewed(self, id_: str) -> "LineConsent":
        """Give the consent with a message read that was no wish to change it."""
        return replace(self, reviews={each: review for each, review in self.reviews.items() if each != id_})


NOTHING_SAID = LineConsent()


def _order(said: Said) -> tuple[str, bool, str]:
    """The time at which it was said decides; on a tie the opt-out."""
    return said.said_at, said.status == "opted_out", said.id


def _ended_by(own: Said | None, review: OpenReview) -> bool:
    """Say whether the patient's last keyword answers what a message may have meant; at the same moment, an opt-out."""
    if own is None:
        return False
    return own.said_at > review.said_at or (own.said_at == review.said_at and own.status == "opted_out")
