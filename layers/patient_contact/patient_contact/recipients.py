"""What became of the rows of a list, read back in pages.

I/O. The items of chunks say how many rows of each kind they have, so that an object without any is not read.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from patient_contact import bulk, bulks, lists

# An outcome; `changed`, of a dry run that asks what would change; `unreachable` is whoever gets nothing.
Which = Literal["deliver", "suppress", "refused", "changed", "unreachable"]
COLUMNS = ("row", "patient_id", "outcome", "channel", "reason", "explanation", "remedy", "before")
# How many objects are read for one page, and how many chunks are looked at.
MAX_OBJECTS = 20
MAX_CHUNKS = 500


def page(
    practice_id: str, bulk_id: str, which: Which | None, limit: int, after: str | None
) -> tuple[list[bulk.Data], str | None]:
    """Give a page of rows, and the place (chunk, and row in it) to go on after; a page may be short of its limit."""
    number, _, row = (after or "000000 0").partition(" ")
    skip = int(row)
    items: list[bulk.Data] = []
    looked_at = objects = 0
    # What comes before the first chunk that is wanted, in the order of keys.
    start: str | None = f"CHUNK#{int(number) - 1:06}" if int(number) else None
    while True:
        chunks = bulks.chunks(practice_id, bulk_id, start, 100)
        for chunk in chunks.items:
            this = chunk["SK"].partition("#")[2]
            if this != number:
                skip = 0
            if len(items) >= limit or objects >= MAX_OBJECTS or looked_at >= MAX_CHUNKS:
                return items, f"{this} {skip if this == number else 0}"
            looked_at += 1
            # One that is being routed has no results yet.
            if "results" not in chunk or not _has(chunk, which):
                continue
            objects += 1
            found = [each for each in lists.get_results(chunk["results"]) if _is(each, which)]
            room = limit - len(items)
            items += found[skip : skip + room]
            if len(found) > skip + room:
                return items, f"{this} {skip + room}"
        if chunks.next is None:
            return items, None
        start = chunks.next


def _has(chunk: Mapping[str, Any], which: Which | None) -> bool:
    per_outcome = chunk["per_outcome"]
    if which is None:
        return True
    if which == "unreachable":
        return bool(per_outcome.get("suppress") or per_outcome.get("refused"))
    return bool(per_outcome.get(which))


def _is(each: bulk.Data, which: Which | None) -> bool:
    if which is None:
        return True
    if which == "changed":
        return bulk.is_changed(each)
    # Who is in the list twice does get the message.
    if which == "unreachable":
        return bool(each["outcome"] != "deliver" and each["reason"] != "DUPLICATE")
    return bool(each["outcome"] == which)


def as_rows(items: Iterable[bulk.Data]) -> Iterator[list[str]]:
    """Give rows as the values of a CSV file."""
    for each in items:
        remedy, before = each.get("remedy"), each.get("before")
        yield [
            str(each["row"]),
            each["patient_id"] or "",
            each["outcome"],
            each["channel"] or "",
            each["reason"],
            each["explanation"],
            "" if remedy is None else remedy["message"],
            "" if before is None else (before["channel"] or before["reason"]),
        ]
