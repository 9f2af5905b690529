"""Messages that the service sends itself, as they are kept: claimed for one attempt, and what became of it.

I/O. Each step of a life (`life`) is one conditional write: it holds for what was read, or nothing is written.
"""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from patient_contact import clock, decisions, life, table
from patient_contact.confirmations import PREFIX, WITHIN_MINUTES, Kind
from patient_contact.decisions import Recorded
from patient_contact.life import Item, Resolution, Step

# Longer than an invocation of send_message lasts, and shorter than its queue hides a message: whoever receives the
# message again finds the lease over.
LEASE_SECONDS = 60
# The index's partition of sends whose outcome is unknown; of all practices, since one alarm watches it.
UNKNOWN_PK = "DUE#UNKNOWN"
# How long an outcome may stay unknown before the alarm rings.
OVERDUE_MINUTES = 15
# How long a confirmation is kept: longer than an event about it may come again. That it was taken is kept for good.
CONFIRMATION_DAYS = 30
# The switch that stops all sending of the stack, whatever practices say.
SWITCH = ("STACK", "SENDING")


class Taken(Exception):
    """Somebody else has taken the next step of the message; `item` is the message as it is now."""

    def __init__(self, item: Item) -> None:
        super().__init__("taken")
        self.item = item


class NotUnknown(Exception):
    """The outcome of the message is known, or of another attempt than was asked about."""


def confirm_op(practice_id: str, number: str, line: str, kind: Kind, reply_id: str, said_at: datetime) -> table.Item:
    """Give the operation of a transaction that lets a reply be confirmed, within five minutes or not at all."""
    now = clock.now()
    pk, sk = table.confirmation_key(practice_id, number, reply_id)
    item = {
        "PK": pk,
        "SK": sk,
        "at": clock.iso(now),
        "kind": kind,
        "line": line,
        "state": "routed",
        "sender": "service",
        "channel": "text",
        "destination": number,
        "send_before": clock.iso(said_at + timedelta(minutes=WITHIN_MINUTES)),
        "expires_at": int((now + timedelta(days=CONFIRMATION_DAYS)).timestamp()),
    }
    return table.put_op(item, "attribute_not_exists(PK)")


def key_of(practice_id: str, message_id: str, patient_id: str | None, phone_number: str) -> table.Key:
    """Say where a message lies: with its patient, or what confirms a reply, with the number that it came from."""
    if patient_id is not None:
        return table.decision_key(practice_id, patient_id, message_id)
    return table.confirmation_key(practice_id, phone_number, message_id.removeprefix(PREFIX))


def take(key: table.Key, step: Step, **also: object) -> dict[str, Any]:
    """Take a step of a message's life, and give the message as it then is; raise Taken when it is not as expected."""
    append = {"life": list(step.entries)} if step.entries else None
    try:
        return table.update(key, {**step.set, **also}, step.expected, append=append, remove=step.remove)
    except table.Holds as holds:
        raise Taken(holds.item) from None


def claim(key: table.Key, item: Item, decided: Mapping[str, Any]) -> dict[str, Any]:
    """Claim a message, as it was read, for one attempt to send it, with what was decided otherwise; raise Taken.

    The attempt's id is new: when the claim is refused and yet bears it, a resend of the SDK met its own write.
    """
    now = clock.now()
    attempt = str(uuid.uuid4())
    step = life.sending(item, attempt, clock.iso(now), clock.iso(now + timedelta(seconds=LEASE_SECONDS)))
    try:
        return take(key, step, **decided)
    except Taken as taken:
        if taken.item.get("attempt") == attempt:
            return dict(taken.item)
        raise


def announce_again(key: table.Key, recorded: Recorded, run: int, send_before: str | None) -> None:
    """Let a message of a list that is still under way be announced once more, in another run of the list.

    What was announced before may have been held back, or lost. Who has taken a step of it meanwhile goes on with it.
    """
    changed = {"run": run, **({} if send_before is None else {"send_before": send_before})}
    with suppress(Taken):
        take(key, Step(changed, {"state": recorded.state, "attempt": recorded.told["attempt"]}))


def withdraw(key: table.Key, item: Item, reason: life.Withdrawal) -> bool:
    """Withdraw a message that nobody has claimed; say whether it was still so."""
    try:
        take(key, life.withdrawn(item, clock.iso(clock.now()), reason))
    except Taken:
        return False
    return True


def settle(key: table.Key, step: Step) -> None:
    """Record what became of an attempt; when somebody else has, by a receipt or for its lease, theirs stands."""
    try:
        take(key, step)
    except Taken as taken:
        heard = step.set["state"] == "sent" and life.accepted(
            taken.item,
            str(step.expected["attempt"]),
            clock.iso(clock.now()),
            str(step.set["provider_message_id"]),
            "provider",
        )
        if heard:
            settle(key, heard)


def now_unknown(key: table.Key, item: Item, code: str) -> Step:
    """Give the step to `unknown`: it is listed for staff, and rings when it stays there."""
    now = clock.iso(clock.now())
    index = {"GSI1PK": UNKNOWN_PK, "GSI1SK": f"{table.ids_of(key[0])[0]}#{now}#{item['attempt']}"}
    # Confirmations of replies are nobody's to resolve.
    return life.unknown(item, now, code, index if key[1].startswith("DECISION#") else {})


def is_over(item: Item) -> bool:
    """Say whether the lease of a send under way is over: whoever held it has ended since, and did not say how."""
    return clock.iso(clock.now()) > str(item["lease_until"])


def hear(key: table.Key, attempt: str, event_type: str, at: datetime, provider_message_id: str) -> Item | None:
    """Note what a receipt says of a message, and give the message; None when there is none of ours."""
    item: Item | None = table.get(key)
    for _ in table.attempts():
        if item is None:
            return None
        step = life.accepted(item, attempt, clock.iso(clock.now()), provider_message_id, "receipt")
        delivery = life.delivered(item, attempt, event_type, clock.iso(at))
        if step is None and delivery is None:
            return item
        # Nothing but the delivery changes: the message must still be at what it was read at.
        step = step or Step({}, {"state": item["state"], "attempt": attempt, "delivery": item.get("delivery")})
        also = {} if delivery is None else {"delivery": delivery}
        try:
            return take(key, step, **also)
        except Taken as taken:
            item = taken.item or None
    raise table.TableUnavailable("contended")


def resolve(key: table.Key, resolution: Resolution, by: str, note: str | None, attempt: str | None) -> Recorded:
    """Record what staff say became of a message, once; `attempt` is the one that they looked at, None for the first.

    Raises NotUnknown, and UnknownDecision.
    """
    item = table.get(key)
    if item is None:
        raise UnknownDecision
    if attempt not in (None, item.get("attempt")):
        raise NotUnknown
    if attempt is None and resolution == "not_sent" and item["state"] == "unknown" and _was_not_sent(item):
        # It may be what was said of the attempt before, once more.
        raise NotUnknown
    if item["state"] != "unknown":
        return _resolved_before(item, resolution, by)
    try:
        return decisions.recorded(take(key, life.resolved(item, clock.iso(clock.now()), resolution, by, note)))
    except Taken as taken:
        return _resolved_before(taken.item, resolution, by)


def _was_not_sent(item: Item) -> bool:
    return any(entry["state"] == "routed" for entry in item.get("life", []))


def _resolved_before(item: Item, resolution: Resolution, by: str) -> Recorded:
    """Give a message that the same person has resolved just so, their answer being lost; else raise NotUnknown."""
    last = item.get("life", [{}])[-1]
    state = "sent" if resolution == "sent" else "routed"
    if last.get("by") == by and last["state"] == item["state"] == state:
        return decisions.recorded(item)
    raise NotUnknown


class UnknownDecision(Exception):
    """No decision was taken for the message."""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A send whose outcome is unknown: of which patient, and since when."""

    patient_id: str
    recorded: Recorded
    since: str


def list_unknown(practice_id: str, limit: int, after: str | None) -> tuple[list[Unresolved], str | None]:
    """Give a page of the practice's sends whose outcome is unknown, the oldest first, and the place to go on after."""
    prefix = f"{practice_id}#"
    # One more than asked, since what follows may be another practice's.
    keys, _ = table.index_keys(UNKNOWN_PK, prefix + (after or ""), limit + 1)
    all_own = [(key, sk.removeprefix(prefix)) for key, sk in keys if sk.startswith(prefix)]
    own = all_own[:limit]
    found = table.batch_get(key for key, _ in own)
    if found.unread:
        raise table.TableUnavailable("decisions left unread")
    # What was resolved since the index was written is left out.
    page = [
        Unresolved(table.ids_of(key[0])[1], decisions.recorded(found.items[key]), place.partition("#")[0])
        for key, place in own
        if found.items.get(key, {}).get("state") == "unknown"
    ]
    return page, own[-1][1] if len(all_own) > limit else None


def count_overdue() -> int:
    """Count the sends of all practices whose outcome has been unknown for 15 minutes."""
    before = clock.iso(overdue_before())
    counted, after, more = 0, " ", True
    while more:
        keys, more = table.index_keys(UNKNOWN_PK, after, 1_000)
        counted += sum(sk.split("#")[1] < before for _, sk in keys)
        after = keys[-1][1] if keys else after
    return counted


def overdue_before() -> datetime:
    """Give the time since when an outcome that is unknown should be known by now."""
    return clock.now() - timedelta(minutes=OVERDUE_MINUTES)
