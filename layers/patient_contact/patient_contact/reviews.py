"""Replies that staff must read, since they may be a wish about texts: put on a list, and closed.

I/O. While one that may be an opt-out is open, no text goes out to its number on its line.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Literal
from zoneinfo import ZoneInfo

from patient_contact import clock, consents, numbers, table
from patient_contact.consent import MAX_OPEN_REVIEWS, NOTHING_SAID, LineConsent, OpenReview, Said, Wish
from patient_contact.consents import Change, Entry, NumberLine
from patient_contact.facesheet import UNKNOWN_NUMBER, Number
from patient_contact.replies import due_on

Outcome = Literal["opted_out", "not_a_request"]

# The index's partition of what is due, by the time at which it is; of all practices, since one metric watches it.
DUE_PK = "DUE#REVIEW"
# How many of the patients who share a number are named.
MAX_PATIENTS = 100


class UnknownReview(Exception):
    """The practice has no such review."""


class Closed(Exception):
    """The review was closed before, with another outcome."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class _Full(Exception):
    """So many messages from this number wait to be read that no more are put on the list."""


@dataclass(frozen=True, slots=True)
class Message:
    """A reply as it came: its id, its words, when it was said, and in whose time zone the day of that is."""

    id: str
    text: str
    said_at: datetime
    time_zone: str


def open_(of: NumberLine, message: Message, wish: Wish, also: list[table.Meant]) -> None:
    """Put a message on the list, and its number and line under review if it may be an opt-out; raise Repeated.

    When the list is full, one that may be an opt-out is recorded as one, which staff can undo, and any other is left.
    """
    zone = ZoneInfo(message.time_zone)
    due = due_on(message.said_at.astimezone(zone).date())
    due_at = clock.iso(datetime.combine(due, time.max, zone))
    review_id = f"{due.isoformat()}~{message.id}"
    said_at, recorded_at = clock.iso(message.said_at), clock.iso(clock.now())
    text = {"text": message.text, "wish": wish, "said_at": said_at, "recorded_at": recorded_at}

    def edit(before: LineConsent) -> LineConsent:
        after = before.under_review(review_id, OpenReview(wish, said_at, recorded_at))
        if len(after.reviews) > MAX_OPEN_REVIEWS:
            raise _Full
        return after

    details = {
        "status": "under_review",
        "source": "keyword",
        "wish": wish,
        "text": message.text,
        "review_id": review_id,
    }
    entry = Entry(message.id, said_at, recorded_at, details)
    listed = {**text, "due_on": due.isoformat(), "due_at": due_at, "message_id": message.id}
    indexed = {"GSI1PK": DUE_PK, "GSI1SK": f"{due_at}#{of.practice_id}#{review_id}"}
    try:
        consents.change(Change(of, edit, entry, also, review={**listed, **indexed}))
    except _Full:
        if wish == "opted_in":
            table.transact_meaning(also)
        else:
            out = Said(message.id, "opted_out", "keyword", said_at, recorded_at)
            _opt_out_unread(of, out, message.text, also)


def _opt_out_unread(of: NumberLine, out: Said, text: str, also: list[table.Meant]) -> None:
    """Record an opt-out that nobody has read as such: no keyword of the patient's own, so that staff can undo it."""

    def edit(before: LineConsent) -> LineConsent:
        return before.after(before.counted(out))

    def entry(before: LineConsent) -> Entry:
        return consents.entry_of(before.counted(out), text=text)

    consents.change(Change(of, edit, entry, also))


def list_open(practice_id: str, limit: int, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Give a page of open reviews, the first due first, with the patients concerned, and the id to go on after."""
    page = table.query(table.practice_pk(practice_id), "REVIEW#", limit=limit, after=after and f"REVIEW#{after}")
    keys = {item["phone_number"]: table.number_key(practice_id, item["phone_number"]) for item in page.items}
    found = table.batch_get(keys.values())
    if found.unread:
        raise table.TableUnavailable("numbers left unread")
    known = {number: numbers.number_of(found.items[key]) for number, key in keys.items() if key in found.items}
    sharing = {number: numbers.sharing(practice_id, number, MAX_PATIENTS) for number in keys}
    now = clock.iso(clock.now())
    return [
        {
            "review_id": item["SK"].partition("#")[2],
            "due_on": item["due_on"],
            "overdue": item["due_at"] < now,
            "phone_number": item["phone_number"],
            "line": item["line"],
            "wish": item["wish"],
            "text": item["text"],
            "said_at": item["said_at"],
            "recorded_at": item["recorded_at"],
            "sms_consent": _consent(known, item).status,
            "patients": sharing[item["phone_number"]][0],
            "more_patients": sharing[item["phone_number"]][1] is not None,
        }
        for item in page.items
    ], page.next and page.next.partition("#")[2]


def _consent(known: Mapping[str, Number], item: Mapping[str, Any]) -> LineConsent:
    return known.get(item["phone_number"], UNKNOWN_NUMBER).consent.get(item["line"], NOTHING_SAID)


def close(practice_id: str, review_id: str, outcome: Outcome, actor: str, note: str | None) -> dict[str, Any]:
    """Close a review: as an opt-out, or as none; the same again is no error.

    An opt-out counts from when it was said, or from now if staff have opted the number in since.

    Raises UnknownReview, and Closed when it was closed otherwise.
    """
    pk = table.practice_pk(practice_id)
    item = table.get((pk, f"REVIEW#{review_id}"))
    if item is None:
        return _closed(pk, review_id, outcome)
    of = NumberLine(practice_id, item["phone_number"], item["line"])
    now = clock.iso(clock.now())
    out = Said(f"{item['message_id']}~read", "opted_out", "staff", item["said_at"], now, actor)

    def edit(before: LineConsent) -> LineConsent:
        if review_id not in before.reviews:
            raise Closed("meanwhile")
        left = before.reviewed(review_id)
        return left.after(left.counted(out)) if outcome == "opted_out" else left

    def entry(before: LineConsent) -> Entry:
        said = before.counted(out) if outcome == "opted_out" else out
        return Entry(said.id, said.said_at, now, details)

    closed = {"outcome": outcome, "closed_by": actor, "closed_at": now}
    details = {"status": outcome, "source": "staff", "actor": actor, "note": note, "review_id": review_id}
    # It may just have been closed, by somebody else or by this very request.
    with suppress(Closed, consents.Repeated):
        consents.change(Change(of, edit, entry, outcome=closed))
    return _closed(pk, review_id, outcome)


def _closed(pk: str, review_id: str, outcome: Outcome) -> dict[str, Any]:
    kept = table.get((pk, f"REVIEWED#{review_id}"))
    if kept is None:
        raise UnknownReview
    if kept["outcome"] != outcome:
        raise Closed(kept["outcome"])
    names = ("phone_number", "line", "outcome", "closed_by", "closed_at")
    return {"review_id": review_id, **{name: kept.get(name) for name in names}, "sms_consent": kept["in_force"]}


def count_overdue() -> int:
    """Count the reviews of all practices that are open after the day on which they were due."""
    return table.count_index(DUE_PK, before=clock.iso(clock.now()))


def marked(of: NumberLine, message_id: str) -> table.Meant:
    """Give the operation that makes a reply count once, at whatever time it comes again, and what its failure means."""
    item: Mapping[str, object] = {"PK": of.pk, "SK": f"REPLY#{message_id}"}
    return table.put_op(item, "attribute_not_exists(PK)"), consents.Repeated()
