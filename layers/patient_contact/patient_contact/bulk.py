"""Broadcasts, campaigns and dry runs: their states, what leads from one to the next, and how far they have come.

Pure. An item is a bulk as it is kept; times are UTC, ISO 8601, as text. Counts are attributes of their own, named by
what they count (`decided#deliver#text#TEXT_ENABLED`), so that they are added to without reading them.

`pending → queued → running → completed`; `paused` until it is resumed; `cancelled` is final, and `failed` too, but that
what it has routed can be cancelled. Completed is not kept: it is a running bulk whose rows have all come to their end,
what this service has routed being sent, or not. Each time that it goes on it has another `run`: what was queued for the
one before is passed by.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

# What a list is for: a dry run may be of an automation, too.
Kind = Literal["broadcast", "campaign", "automation"]
State = Literal["pending", "queued", "running", "paused", "completed", "cancelled", "failed"]
Action = Literal["pause", "resume", "cancel"]
# What became of a routed message, by the letter under which a chunk's tally keeps it. Before its end it may be unknown,
# and waiting again since staff said that it was not sent, more than once: the odd places are the times it was unknown.
ENDS = {"s": "sent", "f": "failed", "w": "withdrawn"}
WAITING = ".123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Item = Mapping[str, Any]
Data = dict[str, Any]

A_YEAR = 365 * 86_400
DECIDED, CHANGED, BECAME = "decided#", "changed#", "became#"


class NotNow(Exception):
    """The bulk is in a state in which this cannot be done to it; `state` says in which."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True, slots=True)
class Step:
    """Attributes to set where the item still is as `expected`; `gives_back` texts of a broadcast's quota."""

    set: Mapping[str, Any]
    expected: Mapping[str, Any]
    gives_back: bool = False


def state(item: Item) -> State:
    """Give the state of a bulk as it is kept."""
    is_read = item.get("chunks") == item.get("done", 0)
    if item["state"] == "running" and is_read and rows_over(item) == item.get("total"):
        return "completed"
    kept: State = item["state"]
    return kept


def is_over(item: Item) -> bool:
    """Say whether nobody else of a bulk is routed: it is cancelled, or has failed. What was begun comes to its end."""
    return item["state"] in ("cancelled", "failed")


def is_to_run(item: Item, run: int) -> bool:
    """Say whether this run of a bulk goes on: nobody has paused it since, or made it go on in another.

    The run of one that was cancelled takes back what is routed, if anything can be; of one that failed, that goes on.
    """
    if item["state"] == "cancelled" and ("began_at" not in item or item["dry_run"]):
        return False
    return bool(item["run"] == run and item["state"] != "paused")


def after(item: Item, action: Action, now: str) -> Step | None:
    """Give the step by which staff do this to a bulk, None when it has been done already; raise NotNow."""
    now_in = state(item)
    expected = _same_run(item)
    # From the list's beginning: of a chunk that has its result, what was held back comes again, and so does what the
    # queue has lost meanwhile.
    again = {"run": item["run"] + 1, "cursor": item["list"]["begin"], "walked": None}
    match action, now_in:
        case ("pause", "paused") | ("cancel", "cancelled") | ("resume", "pending" | "queued" | "running"):
            return None
        case "pause", "pending" | "queued" | "running":
            return Step({"state": "paused"}, expected)
        case "cancel", "pending" | "queued" | "running" | "paused" | "failed":
            if "began_at" not in item or item["dry_run"]:
                return Step({"state": "cancelled"}, expected, gives_back=True)
            return Step({"state": "cancelled", **again}, expected)
        case "resume", "paused":
            return Step({"state": first_state(item.get("starts_at"), now), **again}, expected)
    raise NotNow(now_in)


def first_state(starts_at: str | None, now: str) -> State:
    """Give the state in which a bulk waits for its list to be read."""
    return "pending" if starts_at is not None and starts_at > now else "queued"


def began(item: Item, now: str) -> Step:
    """The list is being read; from now on its rate is measured."""
    return Step({"state": "running", "began_at": now, "began_rows": rows_over(item)}, _same_run(item))


def went_on(item: Item, cursor: Data) -> Step:
    """So far the list is cut, and its chunks are queued."""
    return Step({"cursor": cursor}, _same_run(item))


def was_read(item: Item, cursor: Data, chunks: int, rows: int, failure: str | None) -> Step:
    """The whole list is cut, and all its chunks are queued: how many it has is known.

    `failure` says why rows are left out behind them.
    """
    read = {"cursor": cursor, "read_run": item["run"], "chunks": chunks, "total": rows, "failure": failure}
    return Step(read, _same_run(item))


def walked(item: Item, after: str) -> Step:
    """The chunks that were begun of one that is over are queued, up to this one: its list is not needed for them."""
    return Step({"walked": after}, _same_run(item))


def failed(item: Item, why: str) -> Step:
    """The list cannot be read (any more); what is routed stands, and what was cancelled stays so."""
    state = "cancelled" if item["state"] == "cancelled" else "failed"
    return Step({"state": state, "failure": why}, _same_run(item))


def _same_run(item: Item) -> Data:
    return {"state": item["state"], "run": item["run"]}


# --- results ------------------------------------------------------------------------------------------------------


def result(
    row: int,
    patient_id: str | None,
    outcome: Literal["deliver", "suppress", "refused"],
    channel: str | None,
    reason: str,
    explanation: str,
    **more: object,
) -> Data:
    """Give what became of one row, as it is kept and answered; `more` are `remedy` and `before`."""
    return {
        "row": row,
        "patient_id": patient_id,
        "outcome": outcome,
        "channel": channel,
        "reason": reason,
        "explanation": explanation,
        **more,
    }


def counts(results: Iterable[Data], handed_over: int = 0) -> Counter[str]:
    """Count the results of a chunk, by the names of the attributes that are added to.

    `handed_over` is how many of the messages the practice sends itself: that is all that we hear of them.
    """
    counted: Counter[str] = Counter({f"{BECAME}handed_over": handed_over} if handed_over else {})
    for each in results:
        to = _label(each)
        counted[DECIDED + to] += 1
        if "before" in each and _label(each["before"]) != to:
            counted[f"{CHANGED}{_label(each['before'])}#{to}"] += 1
    return counted


def is_changed(each: Data) -> bool:
    """Say whether the patient would get something else: what and where, not why, since the reason is no message."""
    before = each.get("before")
    return before is not None and any(before[name] != each[name] for name in ("outcome", "channel"))


def _label(each: Mapping[str, Any]) -> str:
    return f"{each['outcome']}#{each['channel'] or ''}#{each['reason']}"


def per_outcome(results: Iterable[Data]) -> dict[str, int]:
    """Count rows by what is asked for when they are listed: outcomes, and whoever would get something else."""
    found = list(results)
    counted = Counter(
        {"changed": sum(is_changed(each) for each in found), **Counter(each["outcome"] for each in found)}
    )
    return {name: count for name, count in counted.items() if count}


def letter(state: str, life: Iterable[Item]) -> str | None:
    """Give the letter under which a tally keeps that a message is in this state; None where that is no news."""
    ends = {name: letter for letter, name in ENDS.items()}
    if state in ends:
        return ends[state]
    place = 2 * sum(entry["state"] == "unknown" for entry in life) - (state == "unknown")
    return WAITING[min(place, len(WAITING) - 1)] if place and state in ("unknown", "routed") else None


def tallied(before: str, heard: Iterable[tuple[int, str]]) -> tuple[str, Counter[str]]:
    """Give a chunk's tally, a letter for each of its rows, after these, and what is to be added to the counts.

    What is heard again adds nothing, nor what is older than what is known; the first end that is heard stands.
    """
    letters = list(before)
    added: Counter[str] = Counter()
    for place, new in heard:
        letters += "." * (place + 1 - len(letters))
        was = letters[place]
        if was in ENDS or (new not in ENDS and WAITING.index(new) <= WAITING.index(was)):
            continue
        letters[place] = new
        added.update(_counted(new))
        added.subtract(_counted(was))
    return "".join(letters), Counter({name: count for name, count in added.items() if count})


def _counted(letter: str) -> list[str]:
    if letter in ENDS:
        return [BECAME + ENDS[letter]]
    return [f"{BECAME}unknown"] if WAITING.index(letter) % 2 else []


# --- progress -----------------------------------------------------------------------------------------------------


def rows_done(item: Item) -> int:
    """Count the rows that have a result."""
    return sum(count for name, count in item.items() if name.startswith(DECIDED))


def rows_over(item: Item) -> int:
    """Count the rows that have come to their end: nothing is sent, or it is known what became of it."""
    delivered = sum(count for name, count in item.items() if name.startswith(f"{DECIDED}deliver#"))
    ended = sum(count for name, count in item.items() if name.startswith(BECAME))
    return rows_done(item) - (0 if item["dry_run"] else delivered - ended)


def progress(item: Item, now: datetime) -> Data:
    """Give how far a bulk has come, in the form of the API, but for who it is."""
    decided: list[tuple[Sequence[str], int]] = [
        (name.removeprefix(DECIDED).split("#"), count) for name, count in item.items() if name.startswith(DECIDED)
    ]
    by_outcome: Counter[str] = Counter()
    by_channel: Counter[str] = Counter()
    by_reason: Counter[str] = Counter()
    for (outcome, channel, reason), count in sorted(decided):
        by_outcome[outcome] += count
        by_reason[reason] += count
        if channel:
            by_channel[channel] += count
    over = rows_over(item)
    rate = _rate(item, over)
    total = item.get("total")
    end = None
    if state(item) == "running" and total is not None and rate is not None:
        seconds = (total - over) / rate
        # What goes on so slowly has no end that could be said, nor one that a date could hold.
        end = now + timedelta(seconds=seconds) if seconds < A_YEAR else None
    return {
        "state": state(item),
        "failure": item.get("failure"),
        "total": total,
        "done": rows_done(item),
        "routed": by_outcome["deliver"],
        "suppressed": by_outcome["suppress"],
        "refused": by_outcome["refused"],
        "by_channel": dict(by_channel),
        "by_reason": dict(by_reason),
        **{name: item.get(BECAME + name, 0) for name in ("sent", "failed", "unknown", "withdrawn", "handed_over")},
        "rate": None if rate is None else round(rate, 1),
        "estimated_end": end,
        "changes": _changes(item),
    }


def _rate(item: Item, over: int) -> float | None:
    """Give how many rows a second came to their end since the list was last begun, None before the first did."""
    if "began_at" not in item or item.get("last_at", "") <= item["began_at"]:
        return None
    seconds = (datetime.fromisoformat(item["last_at"]) - datetime.fromisoformat(item["began_at"])).total_seconds()
    return float((over - item["began_rows"]) / seconds) or None


def _changes(item: Item) -> list[Data]:
    """Give the table of from → to of a dry run that asks what would change, the most patients first."""
    found = []
    for name, count in item.items():
        if name.startswith(CHANGED):
            parts = [part or None for part in name.removeprefix(CHANGED).split("#")]
            names = ("outcome", "channel", "reason")
            ends = {end: dict(zip(names, parts[at : at + 3], strict=True)) for end, at in (("from", 0), ("to", 3))}
            found.append({**ends, "patients": count})
    return sorted(found, key=lambda each: (-each["patients"], str(each["from"]), str(each["to"])))
