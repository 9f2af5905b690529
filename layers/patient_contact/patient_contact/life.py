"""The life of a message that the service sends itself: its states, what leads from one to the next, what receipts say.

Pure. An item is a decision, or the confirmation of a reply, as it is kept; times are UTC, ISO 8601, as text.

`routed → sending → sent | failed | unknown`, or `withdrawn`. A certain refusal goes back to `routed`; what is `unknown`
becomes `sent` by a receipt or staff, and `routed` again only by staff.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

State = Literal["suppressed", "handed_over", "routed", "sending", "sent", "failed", "unknown", "withdrawn"]
# Who sends what was decided: this service, or the practice, which consumes the event itself.
Sender = Literal["service", "practice"]
Delivery = Literal["pending", "on_its_way", "not_delivered", "delivered"]
# Why a message is withdrawn, beside the reasons for which routing suppresses one.
Withdrawal = Literal["EXPIRED", "SENDING_OFF", "CANCELLED", "UNKNOWN_LINE", "ALREADY_SENT", "SUPERSEDED"]
Resolution = Literal["sent", "not_sent"]

FINAL = frozenset({"suppressed", "handed_over", "sent", "failed", "withdrawn"})

Item = Mapping[str, Any]
Entry = dict[str, Any]

# How far a message has come, by the event types of receipts. A delivery only ever moves up in this order.
DELIVERIES: dict[Delivery, tuple[str, ...]] = {
    "pending": ("TEXT_PENDING", "TEXT_QUEUED", "TEXT_UNKNOWN", "VOICE_INITIATED"),
    "on_its_way": ("TEXT_SENT", "VOICE_RINGING", "VOICE_ANSWERED"),
    "not_delivered": (
        "TEXT_INVALID",
        "TEXT_INVALID_MESSAGE",
        "TEXT_UNREACHABLE",
        "TEXT_CARRIER_UNREACHABLE",
        "TEXT_BLOCKED",
        "TEXT_CARRIER_BLOCKED",
        "TEXT_SPAM",
        "TEXT_TTL_EXPIRED",
        "VOICE_BUSY",
        "VOICE_NO_ANSWER",
        "VOICE_FAILED",
        "VOICE_TTL_EXPIRED",
    ),
    "delivered": ("TEXT_SUCCESSFUL", "TEXT_DELIVERED", "VOICE_COMPLETED"),
}
_RANK: dict[str, int] = {name: rank for rank, name in enumerate(get_args(Delivery))}
_DELIVERY_OF: dict[str, Delivery] = {code: name for name, codes in DELIVERIES.items() for code in codes}


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the life: attributes to set where the item still is as `expected`, entries to add, names to remove."""

    set: Mapping[str, Any]
    expected: Mapping[str, Any]
    entries: Sequence[Entry] = ()
    remove: Sequence[str] = ()


# What only a send under way, or one whose outcome is unknown, has.
_OF_A_SEND = ("lease_until", "GSI1PK", "GSI1SK")


def sending(item: Item, attempt: str, now: str, lease_until: str) -> Step:
    """Claim the message for one attempt to send it; who has tried since it was read may have decided otherwise."""
    changed = {"state": "sending", "attempt": attempt, "claimed_at": now, "lease_until": lease_until}
    return Step(changed, _same_attempt(item))


def sent(item: Item, now: str, provider_message_id: str | None, **by: object) -> Step:
    """The provider has accepted the message: it said so, a receipt says so, or staff do."""
    known = {} if provider_message_id is None else {"provider_message_id": provider_message_id}
    entries = _entries(item, {"state": "sent", "at": now, **known, **by})
    return Step({"state": "sent", **known}, _same_attempt(item), entries, _OF_A_SEND)


def failed(item: Item, now: str, code: str) -> Step:
    """The provider has refused the message for good."""
    entries = _entries(item, {"state": "failed", "at": now, "code": code})
    return Step({"state": "failed", "code": code}, _same_attempt(item), entries, _OF_A_SEND)


def unknown(item: Item, now: str, code: str, index: Mapping[str, str]) -> Step:
    """Nobody knows whether the provider has accepted the message: never sent again by itself."""
    entries = _entries(item, {"state": "unknown", "at": now, "code": code})
    changed = {"state": "unknown", "code": code, **index}
    return Step(changed, _same_attempt(item), entries, ("lease_until",))


def released(item: Item, now: str, code: str | None) -> Step:
    """The message was certainly not accepted, and may be sent later; refusals are counted, since they may be many."""
    changed: dict[str, Any] = {"state": "routed"}
    if code is not None:
        refused = dict(item.get("refused", {}))
        times = refused.get(code, {}).get("times", 0) + 1
        changed["refused"] = {**refused, code: {"times": times, "at": now, "attempt": item["attempt"]}}
    return Step(changed, _same_attempt(item), (), ("lease_until",))


def withdrawn(item: Item, now: str, reason: str, **about: object) -> Step:
    """The message will not be sent; nobody has claimed it."""
    entries = [{"state": "withdrawn", "at": now, "reason": reason, **about}]
    return Step({"state": "withdrawn", "withdrawn": reason}, _same_attempt(item), entries, _OF_A_SEND)


def resolved(item: Item, now: str, resolution: Resolution, by: str, note: str | None) -> Step:
    """Staff say what became of a message whose outcome was unknown."""
    about = {"by": by, **({} if note is None else {"note": note})}
    if resolution == "sent":
        return sent(item, now, None, **about)
    return Step(
        {"state": "routed"}, _same_attempt(item), [{"state": "routed", "at": now, **about}], ("GSI1PK", "GSI1SK")
    )


def accepted(item: Item, attempt: str, now: str, provider_message_id: str, by: str) -> Step | None:
    """What follows from hearing that a provider has accepted this attempt; None for nothing.

    It is sent. If staff have said that it was not, what they ordered in its place is withdrawn, unless it is under way.
    """
    if item.get("attempt") != attempt:
        return None
    if item["state"] in ("sending", "unknown"):
        return sent(item, now, provider_message_id, by=by)
    if item["state"] == "routed":
        return withdrawn(item, now, "ALREADY_SENT", provider_message_id=provider_message_id, by=by)
    return None


def delivered(item: Item, attempt: str, event_type: str, at: str) -> dict[str, Any] | None:
    """What a receipt of this attempt says of its delivery; None when that is no more than is known."""
    delivery = _DELIVERY_OF.get(event_type)
    if delivery is None or item.get("attempt") != attempt:
        return None
    known = item.get("delivery")
    if known is not None and _RANK[known["status"]] >= _RANK[delivery]:
        return None
    return {"status": delivery, "code": event_type, "at": at}


def destination_of(item: Item, attempt: str) -> str | None:
    """Where an attempt went: it may have been to another number than the newest, which is meant where none is named.

    A practice that sends itself names its own attempts.
    """
    if attempt in ("", item.get("attempt")) or item.get("sender") == "practice":
        return str(item["destination"])
    past = [entry for entry in item.get("life", []) if entry.get("attempt") == attempt and "destination" in entry]
    return past[0]["destination"] if past else None


def told(item: Item) -> list[Entry]:
    """Give the whole life for an answer: each state with its time, the oldest first."""
    state = item["state"]
    first = "routed" if item.get("sender") == "service" and state != "suppressed" else state
    past = [{name: value for name, value in each.items() if name != "destination"} for each in item.get("life", [])]
    refused = [
        {"state": "routed", "at": each["at"], "code": code, "attempt": each["attempt"], "times": each["times"]}
        for code, each in item.get("refused", {}).items()
    ]
    now = [_under_way(item)] if state == "sending" else []
    for each in now:
        del each["destination"]
    return [{"state": first, "at": item["at"]}, *sorted([*refused, *past, *now], key=lambda entry: entry["at"])]


def _same_attempt(item: Item) -> dict[str, Any]:
    """A step holds for the state and the attempt that it was taken on (None: for a message without any)."""
    return {"state": item["state"], "attempt": item.get("attempt")}


def _entries(item: Item, entry: Entry) -> list[Entry]:
    """Give an entry, after that of the send under way, which is kept only when it ends."""
    return [_under_way(item), entry] if item["state"] == "sending" else [entry]


def _under_way(item: Item) -> Entry:
    return {
        "state": "sending",
        "at": item["claimed_at"],
        "attempt": item["attempt"],
        "channel": item["channel"],
        "destination": item["destination"],
    }
