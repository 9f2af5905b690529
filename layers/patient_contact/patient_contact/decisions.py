"""Decisions, as they are kept: claimed once per (patient, message id), read back, listed.

I/O. The claim is one conditional put: the first wins, and a repeat answers with the first.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from patient_contact import clock, decision_data, life, table
from patient_contact.content import Content
from patient_contact.facesheet import Practice
from patient_contact.life import Sender, State
from patient_contact.routing import Decision

# Content up to this size lies in the decision; larger content has an item of its own.
INLINE_BYTES = 1024
CONTENT_DAYS = 30
# How long a message may wait to be sent, unless what asked for it says otherwise. A line that sends three texts a
# second takes four days for a million of them.
SEND_WITHIN = timedelta(hours=24)
CAMPAIGN_WITHIN = timedelta(days=7)
# What has not come to its end, and is brought there by being announced.
UNDER_WAY = ("routed", "sending")


@dataclass(frozen=True, slots=True)
class ListPlace:
    """Where in a list a patient stands: which chunk, and which of its rows, from 0; and in which run of the list."""

    chunk: int
    row: int
    run: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision that was taken for a message: when, where the message stands, what asked for it, and its whole life.

    When a decision was taken again before it was sent and came out otherwise, `previous` is the one before. `place` is
    where in a list its patient stands.
    """

    message_id: str
    decided_at: str
    state: str
    decision: Decision
    request: str | None = None
    previous: Decision | None = None
    place: ListPlace | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """A message to be decided for one patient: its content, who sends it, and how long it may wait for that.

    `request` is a digest of what asked for it, by which a repeat is told from a misuse of the same id. `place` is where
    in a list the patient stands.
    """

    practice_id: str
    patient_id: str
    message_id: str
    content: Content
    sender: Sender
    send_before: datetime | None = None
    request: str | None = None
    place: ListPlace | None = None


def sender(practice: Practice) -> Sender:
    """Say who sends what is routed for this practice."""
    return "service" if practice.sending else "practice"


def deadline(as_of: datetime, message_class: str) -> datetime:
    """Say until when a message may be sent, where what asked for it does not."""
    return as_of + (CAMPAIGN_WITHIN if message_class == "campaign" else SEND_WITHIN)


def claim(order: Order, decision: Decision, as_of: datetime, retention_days: int) -> tuple[Recorded, bool]:
    """Claim the message for a decision on facts of this time: the decision that stands, and whether it is this one.

    A decision to deliver keeps its content, in itself or beside it, so that what is published is what was decided on.
    """
    pk, sk = table.decision_key(order.practice_id, order.patient_id, order.message_id)
    send_before = order.send_before
    if send_before is None and order.sender == "service":
        send_before = deadline(as_of, decision.message.message_class)
    content: dict[str, Any] = {}
    if decision.outcome == "deliver":
        messages = order.content.as_messages()
        text = json.dumps(messages, ensure_ascii=False, sort_keys=True).encode()
        content = {"content": messages}
        if len(text) > INLINE_BYTES:
            content = {"content_key": _keep(pk, order, text, max(as_of, send_before or as_of))}
    deliver: State = "routed" if order.sender == "service" else "handed_over"
    item = {
        "PK": pk,
        "SK": sk,
        "at": clock.iso(as_of),
        **decision_data.to_data(decision),
        "state": deliver if decision.outcome == "deliver" else "suppressed",
        "sender": order.sender,
        **content,
        **({} if order.request is None else {"request": order.request}),
        **({} if order.place is None else _place_data(order.place)),
        **({} if send_before is None else {"send_before": clock.iso(send_before)}),
        "expires_at": _epoch(as_of + timedelta(days=retention_days)),
    }
    first = table.put_if_absent(item)
    return recorded(item if first is None else first), first is None


def mark(order: Order, run: str, retention_days: int) -> bool:
    """Mark a patient as met by a dry run at the order's place; say whether they were not met elsewhere in its list.

    The same condition as a claim's, so that a dry run counts whom a list has twice as sending would: once.
    """
    pk, _ = table.decision_key(order.practice_id, order.patient_id, order.message_id)
    place = {} if order.place is None else _place_data(order.place)
    expires_at = _epoch(clock.now() + timedelta(days=retention_days))
    first = table.put_if_absent({"PK": pk, "SK": f"DRYRUN#{run}", **place, "expires_at": expires_at})
    return first is None or place_of(first) == order.place


def _place_data(place: ListPlace) -> dict[str, int]:
    return {"chunk": place.chunk, "place": place.row, "run": place.run}


def place_of(item: Mapping[str, Any]) -> ListPlace | None:
    """Read where in a list the patient of a message stands, None when it is of none."""
    return ListPlace(item["chunk"], item["place"], item["run"]) if "chunk" in item else None


def _keep(pk: str, order: Order, text: bytes, needed: datetime) -> str:
    """Keep content that is too large for the decision, longer than it is needed, and give its sort key.

    The key names the content itself: another delivery of the message, with other content, keeps its own, and whichever
    decision is claimed publishes the content that it was taken on.
    """
    key = f"CONTENT#{order.message_id}#{hashlib.sha256(text).hexdigest()}"
    expires_at = _epoch(needed + timedelta(days=CONTENT_DAYS))
    table.put_if_absent({"PK": pk, "SK": key, "messages": order.content.as_messages(), "expires_at": expires_at})
    return key


def content_of(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the rendered content of a stored decision, from the decision or from beside it; None when it has expired."""
    if "content" in item:
        return dict(item["content"])
    beside = content_key(item)
    kept = table.get(beside) if beside else None
    return None if kept is None else dict(kept["messages"])


def content_key(item: Mapping[str, Any]) -> table.Key | None:
    """Say where the content of a stored decision lies that is too large for it."""
    return (item["PK"], item["content_key"]) if "content_key" in item else None


def read(practice_id: str, patient_id: str, message_id: str) -> Recorded | None:
    """Read the decision taken for a message, strongly consistent."""
    item = table.get(table.decision_key(practice_id, patient_id, message_id))
    return None if item is None else recorded(item)


def list_newest(practice_id: str, patient_id: str, limit: int, after: str | None) -> tuple[list[Recorded], str | None]:
    """Give a page of a patient's decisions, newest first, and the place (time and message id) to go on after."""
    pk = table.patient_pk(practice_id, patient_id)
    start = None
    if after is not None:
        at, _, message_id = after.partition(" ")
        start = (at, f"DECISION#{message_id}")
    keys, more = table.newest_keys(pk, "DECISION#", limit=limit, after=start)
    found = table.batch_get((pk, sk) for _, sk in keys)
    if found.unread:
        raise table.TableUnavailable("decisions left unread")
    # A decision may expire between the index and the read.
    page = [recorded(found.items[pk, sk]) for _, sk in keys if (pk, sk) in found.items]
    last = f"{keys[-1][0]} {keys[-1][1].partition('#')[2]}" if more else None
    return page, last


def _epoch(time: datetime) -> int:
    return int(time.timestamp())


def recorded(item: Mapping[str, Any]) -> Recorded:
    """Read a stored decision."""
    names = ("sender", "send_before", "attempt", "withdrawn", "provider_message_id", "code", "delivery")
    return Recorded(
        item["SK"].partition("#")[2],
        item["at"],
        item["state"],
        decision_data.from_data(item),
        item.get("request"),
        decision_data.from_data(item["previous"]) if "previous" in item else None,
        place_of(item),
        {**{name: item.get(name) for name in names}, "life": life.told(item)},
    )


def answer(recorded: Recorded) -> dict[str, Any]:
    """Give a recorded decision in the form of the API."""
    return {
        **decision_data.answer(recorded.decision),
        "message_id": recorded.message_id,
        "decided_at": recorded.decided_at,
        "state": recorded.state,
        "previous": recorded.previous and decision_data.answer(recorded.previous),
        **recorded.told,
    }
