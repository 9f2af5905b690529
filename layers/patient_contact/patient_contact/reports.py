"""Reports, each served by an index.

I/O. The index is eventually consistent, what is found through it is read consistently.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from patient_contact import clock, consents, table

COLUMNS = ("phone_number", "line", "source", "actor", "said_at", "recorded_at")


def opt_outs(
    practice_id: str, lines: Sequence[str], since: datetime | None, limit: int, after: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Give a page of the numbers that are opted out, line by line, the first said first, and the place to go on after.

    A place is the line and the sort key in the index, which holds no number.
    """
    # Before all times; the empty text is no key.
    begin = "0" if since is None else clock.iso(since)
    line, _, last = (after or "").partition(" ")
    left = list(lines[lines.index(line) :] if line in lines else lines)
    items: list[dict[str, Any]] = []
    while left:
        page, more = table.index_keys(consents.opt_outs_pk(practice_id, left[0]), max(last, begin), limit - len(items))
        items += _read(left[0], page)
        if more:
            return items, f"{left[0]} {page[-1][1]}"
        last = ""
        if len(items) >= limit and left[1:]:
            return items, f"{left[1]} "
        del left[0]
    return items, None


def _read(line: str, page: list[tuple[table.Key, str]]) -> list[dict[str, Any]]:
    found = table.batch_get(key for key, _ in page)
    if found.unread:
        raise table.TableUnavailable("opt-outs left unread")
    # Who has opted in, or out anew, since the index was written is not, or not here, in the report.
    current = [(found.items[key], key) for key, sk in page if found.items.get(key, {}).get("GSI1SK") == sk]
    return [
        {
            "phone_number": table.ids_of(key[0])[1],
            "line": line,
            "source": item["source"],
            "actor": item["actor"],
            "said_at": item["said_at"],
            "recorded_at": item["recorded_at"],
        }
        for item, key in current
    ]
