"""Broadcasts, campaigns and dry runs, as they are kept: started once, read, steered, and counted chunk by chunk.

I/O. A count and what is counted are written in one transaction: a chunk or an outcome that comes again adds nothing.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from patient_contact import bulk, clock, table
from patient_contact.bulk import Action, Kind, Step
from patient_contact.bulk_list import Chunk, Format, Place
from patient_contact.content import Content
from patient_contact.facesheet import Practice
from patient_contact.facts import CHANNELS, Policy
from patient_contact.life import Sender

Item = table.Item
# How long a day's quota is kept: longer than a broadcast may wait for its start.
QUOTA_DAYS = 120
# A list is kept for 90 days in its bucket.
LONGEST_WAIT = timedelta(days=60)
# Longer than an invocation of route_batch lasts: whoever has begun a chunk has ended by then.
CHUNK_LEASE_SECONDS = 90
# How long it is kept whom a dry run has met.
DRY_RUN_DAYS = 30
_NAMESPACE = uuid.UUID("5f6a0d2e-6f0e-4c53-9a55-b9a3f0f3a1c4")


class QuotaExceeded(Exception):
    """The practice may not text so many by broadcasts that day; `left` are those that it still may."""

    def __init__(self, left: int) -> None:
        super().__init__("quota exceeded")
        self.left = left


class Reused(Exception):
    """The key by which this should be started was used to start something else."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list as it lies in the bucket: by its ETag one version of it, whose first row begins at `begin`."""

    key: str
    etag: str
    size: int
    format: Format
    begin: int
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a dry run asks about: another policy, or other messages, than there would be."""

    policy: Policy | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A bulk to be started; `request` is a digest of what asked for it, `texts` how many of the quota it takes."""

    practice_id: str
    bulk_id: str
    kind: Kind
    name: str
    line: str
    content: Content
    list: Listed
    by: str
    request: str
    is_dry_run: bool
    starts_at: datetime | None = None
    send_before: datetime | None = None
    is_enabled: bool = True
    what_if: WhatIf | None = None
    texts: int = 0


def id_of(practice_id: str, path: str, idempotency_key: str) -> str:
    """Give the id of what this key starts at this path: the same key again is the same bulk."""
    return str(uuid.uuid5(_NAMESPACE, f"{practice_id} {path} {idempotency_key}"))


def key(practice_id: str, bulk_id: str) -> table.Key:
    """Where a bulk lies; its content and the results of its chunks lie beside it."""
    return f"PRACTICE#{practice_id}#BULK#{bulk_id}", "BULK"


def content_key(practice_id: str, bulk_id: str) -> table.Key:
    """Where a bulk's content lies: apart, since each message that is sent reads the bulk."""
    return key(practice_id, bulk_id)[0], "CONTENT"


def chunk_key(practice_id: str, bulk_id: str, number: int) -> table.Key:
    """Where the result of a chunk lies."""
    return key(practice_id, bulk_id)[0], f"CHUNK#{number:06}"


def key_of_message(practice_id: str, message_id: str) -> table.Key | None:
    """Say where the bulk lies that a message is of, None when it is of none."""
    kind, _, bulk_id = message_id.partition(":")
    return key(practice_id, bulk_id) if kind in ("broadcast", "campaign") else None


def read(practice_id: str, bulk_id: str) -> Item | None:
    """Read a bulk, strongly consistent."""
    return table.get(key(practice_id, bulk_id))


def place_of(cursor: Mapping[str, int]) -> Place:
    """Read where a list is gone on with."""
    return Place(**cursor)


def listed(item: Mapping[str, Any]) -> Listed:
    """Read which list a bulk is over."""
    kept = item["list"]
    return Listed(
        kept["key"], kept["etag"], kept["size"], kept["format"], kept["begin"]["begin"], tuple(kept["columns"])
    )


def read_content(practice_id: str, bulk_id: str) -> Content:
    """Read what a bulk sends."""
    kept = table.get(content_key(practice_id, bulk_id))
    if kept is None:
        raise table.TableUnavailable("expired meanwhile")
    return Content.of(kept["messages"])


def answer(item: Mapping[str, Any], now: datetime, sender: Sender | None) -> dict[str, Any]:
    """Give a bulk in the form of the API; `sender` is who sends what it routes, None for a dry run."""
    told = ("kind", "dry_run", "name", "line", "channels", "created_at", "created_by")
    progress = bulk.progress(item, now)
    end = progress["estimated_end"]
    return {
        "id": table.ids_of(item["PK"])[1],
        **{name: item[name] for name in told},
        "sender": sender,
        "starts_at": item.get("starts_at"),
        "send_before": item.get("send_before"),
        **progress,
        "estimated_end": None if end is None else clock.iso(end),
    }


# --- starting -----------------------------------------------------------------------------------------------------


def start(order: Order, practice: Practice, retention_days: int) -> Item:
    """Start a bulk, and take its texts of the day's quota, once: the same order again gives the bulk as it is now.

    Raises Reused and QuotaExceeded.
    """
    now = clock.now()
    pk, sk = key(order.practice_id, order.bulk_id)
    expires_at = int((now + timedelta(days=retention_days)).timestamp())
    item = {"PK": pk, "SK": sk, **_data(order, now), "expires_at": expires_at}
    content = {
        "PK": pk,
        "SK": "CONTENT",
        "messages": order.content.as_messages(),
        "what_if": _what_if_data(order.what_if),
        "expires_at": expires_at,
    }
    takes = []
    if order.texts:
        day = _day(max(order.starts_at or now, now), practice)
        item["quota"] = {"day": day, "texts": order.texts}
        room = practice.broadcast_texts_per_day - order.texts
        if room < 0:
            raise QuotaExceeded(max(0, practice.broadcast_texts_per_day - _used(order.practice_id, day)))
        takes.append(_take(order.practice_id, day, order.texts, room, now))
    writes = [table.put_op(item, "attribute_not_exists(PK)"), table.put_op(content), *takes]
    for _ in table.attempts():
        try:
            table.transact(writes)
        except table.Contended:
            continue
        except table.ConditionFailed as failed:
            if 0 in failed.failed:
                return same(read(order.practice_id, order.bulk_id), order.request)
            used = failed.items[len(writes) - 1]["used"]
            raise QuotaExceeded(max(0, practice.broadcast_texts_per_day - used)) from None
        return item
    raise table.TableUnavailable("contended")


def same(item: Item | None, request: str) -> Item:
    """Give a bulk that was started before, if it was by the same order; raise Reused."""
    if item is None:
        raise table.TableUnavailable("gone meanwhile")
    if item["request"] != request:
        raise Reused
    return item


def _data(order: Order, now: datetime) -> dict[str, Any]:
    begin = Place(order.list.begin).as_data()
    routed = (order.what_if and order.what_if.content) or order.content
    starts_at = None if order.starts_at is None else clock.iso(order.starts_at)
    return {
        "kind": order.kind,
        "dry_run": order.is_dry_run,
        "name": order.name,
        "line": order.line,
        "channels": [channel for channel in CHANNELS if channel in routed.channels],
        "enabled": order.is_enabled,
        "request": order.request,
        "created_at": clock.iso(now),
        "created_by": order.by,
        **({} if starts_at is None else {"starts_at": starts_at}),
        **({} if order.send_before is None else {"send_before": clock.iso(order.send_before)}),
        "list": {
            "key": order.list.key,
            "etag": order.list.etag,
            "size": order.list.size,
            "format": order.list.format,
            "begin": begin,
            "columns": list(order.list.columns),
        },
        "state": bulk.first_state(starts_at, clock.iso(now)),
        "run": 1,
        "cursor": begin,
    }


def _what_if_data(what_if: WhatIf | None) -> dict[str, Any] | None:
    if what_if is None:
        return None
    return {
        "policy": None if what_if.policy is None else asdict(what_if.policy),
        "messages": None if what_if.content is None else what_if.content.as_messages(),
    }


def _day(time: datetime, practice: Practice) -> str:
    return time.astimezone(ZoneInfo(practice.time_zone)).date().isoformat()


def _quota_key(practice_id: str, day: str) -> table.Key:
    return table.practice_pk(practice_id), f"QUOTA#{day}"


def _used(practice_id: str, day: str) -> int:
    return int((table.get(_quota_key(practice_id, day)) or {}).get("used", 0))


def _take(practice_id: str, day: str, texts: int, room: int, now: datetime) -> Item:
    return table.update_op(
        _quota_key(practice_id, day),
        "SET expires_at = :expires_at ADD #used :texts",
        "attribute_not_exists(#used) OR #used <= :room",
        {"#used": "used"},
        texts=texts,
        room=room,
        expires_at=_quota_expires(now),
    )


def _give_back(practice_id: str, day: str, texts: int) -> Item:
    return table.update_op(
        _quota_key(practice_id, day),
        "SET expires_at = :expires_at ADD #used :texts",
        None,
        {"#used": "used"},
        texts=-texts,
        # It may be gone meanwhile, and be made by this.
        expires_at=_quota_expires(clock.now()),
    )


def _quota_expires(now: datetime) -> int:
    return int((now + timedelta(days=QUOTA_DAYS)).timestamp())


# --- steering -----------------------------------------------------------------------------------------------------


def change(practice_id: str, bulk_id: str, action: Action) -> Item | None:
    """Do to a bulk what staff ask for, and give it as it then is; None when there is none. Raises bulk.NotNow."""
    for _ in table.attempts():
        item = read(practice_id, bulk_id)
        if item is None:
            return None
        step = bulk.after(item, action, clock.iso(clock.now()))
        if step is None:
            return item
        if take(practice_id, bulk_id, step, item):
            return {**item, **step.set}
    raise table.TableUnavailable("contended")


def take(practice_id: str, bulk_id: str, step: Step, item: Mapping[str, Any]) -> bool:
    """Take a step of a bulk, and say whether it was still as expected."""
    names = {f"#{name}": name for name in (*step.set, *step.expected)}
    values = {**step.set, **{f"was_{name}": value for name, value in step.expected.items()}}
    write = table.update_op(
        key(practice_id, bulk_id),
        "SET " + ", ".join(f"#{name} = :{name}" for name in step.set),
        " AND ".join(f"#{name} = :was_{name}" for name in step.expected),
        names,
        **values,
    )
    writes = [(write, _Otherwise())]
    if step.gives_back and "quota" in item:
        writes.append((_give_back(practice_id, item["quota"]["day"], item["quota"]["texts"]), _Otherwise()))
    try:
        table.transact_meaning(writes)
    except _Otherwise:
        return False
    return True


class _Otherwise(Exception):
    """The bulk is not as expected any more."""


# --- counting -----------------------------------------------------------------------------------------------------


def begin_chunk(
    practice_id: str, bulk_id: str, chunk: Chunk, patient_ids: Sequence[str | None], retention_days: int
) -> bool:
    """Keep who is in a chunk before any of them is decided for; say whether it has no result yet.

    Whoever is claimed for is found by that, if whoever routes the chunk ends on the way and its list is gone, or its
    bulk is cancelled.
    """
    pk, sk = chunk_key(practice_id, bulk_id, chunk.number)
    now = clock.now()
    item = {
        "PK": pk,
        "SK": sk,
        "chunk": asdict(chunk),
        "patient_ids": list(patient_ids),
        "lease_until": clock.iso(now + timedelta(seconds=CHUNK_LEASE_SECONDS)),
        "expires_at": int((now + timedelta(days=retention_days)).timestamp()),
    }
    return table.put_if_absent(item, "results") is None


def record_chunk(
    practice_id: str,
    bulk_id: str,
    chunk: Chunk,
    results: str,
    counts: Mapping[str, int],
    per_outcome: Mapping[str, int],
    retention_days: int,
    until: str | None = None,
) -> bool:
    """Record the result of a chunk, and add it to the bulk's counts, once; `results` is the object of its rows.

    With `until`, only while nobody has begun it again since. Says whether it was recorded now.
    """
    pk, sk = chunk_key(practice_id, bulk_id, chunk.number)
    now = clock.now()
    result = {
        "PK": pk,
        "SK": sk,
        "results": results,
        "chunk": asdict(chunk),
        "per_outcome": dict(per_outcome),
        "expires_at": int((now + timedelta(days=retention_days)).timestamp()),
    }
    left = ("", {}) if until is None else (" AND lease_until = :until", {"until": until})
    put = table.put_op(result, "attribute_not_exists(results)" + left[0], **left[1])
    writes = [
        (put, _Counted()),
        (_add(practice_id, bulk_id, {**counts, "done": 1}, last_at=clock.iso(now)), _Gone()),
    ]
    try:
        table.transact_meaning(writes)
    except _Counted:
        return False
    return True


def tally(practice_id: str, bulk_id: str, number: int, heard: Iterable[tuple[int, str]], expires_at: int) -> None:
    """Keep what became of messages of a chunk, by row and letter, and add what is new to the counts, once."""
    pk = key(practice_id, bulk_id)[0]
    tally_key = pk, f"TALLY#{number:06}"
    every = list(heard)
    for _ in table.attempts():
        before = table.get(tally_key)
        letters, added = bulk.tallied("" if before is None else before["letters"], every)
        if not added:
            return
        item = {"PK": pk, "SK": tally_key[1], "letters": letters, "expires_at": expires_at}
        put = (
            table.put_op(item, "attribute_not_exists(PK)")
            if before is None
            else table.put_op(item, "letters = :before", before=before["letters"])
        )
        try:
            counted = _add(practice_id, bulk_id, added, last_at=clock.iso(clock.now()))
            table.transact_meaning([(put, _Counted()), (counted, _Gone())])
        except _Counted:
            continue
        except _Gone:
            # Kept no longer: nobody can ask how far it has come.
            return
        return
    raise table.TableUnavailable("contended")


def _add(practice_id: str, bulk_id: str, counts: Mapping[str, int], **sets: object) -> Item:
    names = {f"#n{place}": name for place, name in enumerate(counts)}
    values: dict[str, object] = {f"n{place}": count for place, count in enumerate(counts.values())}
    adds = "ADD " + ", ".join(f"#n{place} :n{place}" for place in range(len(counts)))
    assigns = "SET " + ", ".join(f"{name} = :{name}" for name in sets) + " " if sets else ""
    return table.update_op(key(practice_id, bulk_id), assigns + adds, "attribute_exists(PK)", names, **values, **sets)


class _Counted(Exception):
    """It is counted already, or somebody else has counted since it was read."""


class _Gone(Exception):
    """The bulk is kept no longer."""


def chunk_of(item: Mapping[str, Any]) -> Chunk:
    """Read which chunk a result is of."""
    return Chunk(**item["chunk"])


def chunks(practice_id: str, bulk_id: str, after: str | None, limit: int) -> table.Page:
    """Give a page of the chunks of a bulk that were begun, in the list's order; those that are done have `results`."""
    return table.query(key(practice_id, bulk_id)[0], "CHUNK#", limit=limit, after=after)


def what_if(item: Mapping[str, Any] | None) -> WhatIf | None:
    """Read what a dry run asks about, out of its content."""
    kept = None if item is None else item.get("what_if")
    if kept is None:
        return None
    policy, messages = kept["policy"], kept["messages"]
    return WhatIf(None if policy is None else Policy(**policy), None if messages is None else Content.of(messages))
