"""Importing consent from another system: it can only opt out, and says beforehand what it would change.

I/O. The same file again changes nothing: each row is recorded under a name made from what it says.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from patient_contact import clock, consents, log, numbers, table
from patient_contact.consent import NOTHING_SAID, LineConsent, Said
from patient_contact.consent_csv import Row
from patient_contact.consents import MAX_TOGETHER, Change, NumberLine

# How many transactions are under way at a time.
THREADS = 4


class OutOfTime(Exception):
    """The file was recorded in part; the same file again records the rest, and nothing twice."""


def plan(practice_id: str, actor: str, rows: Sequence[Row]) -> tuple[dict[str, Any], list[Change], dict[str, Any]]:
    """Say what rows would change, in their order, and give the changes with the items of the numbers that they are of.

    `changes` are the rows that opt somebody out, `skipped` those that would opt in over an opt-out on record,
    `unchanged` is how many are on record already, or older than what is in force.
    """
    read = table.batch_get(table.number_key(practice_id, row.phone_number) for row in rows)
    if read.unread:
        raise table.TableUnavailable("numbers left unread")
    items = {table.ids_of(pk)[1]: item for (pk, _), item in read.items.items()}
    state: dict[tuple[str, str], LineConsent] = {
        (number, line): consent
        for number, item in items.items()
        for line, consent in numbers.number_of(item).consent.items()
    }
    recorded_at = clock.iso(clock.now())
    wanted: list[Change] = []
    told: dict[str, Any] = {"changes": [], "skipped": [], "unchanged": 0}
    for row in rows:
        place = row.phone_number, row.line
        before = state.get(place, NOTHING_SAID)
        where = {"csv_line": row.csv_line, "phone_number": row.phone_number, "line": row.line}
        if row.status == "opted_in":
            if before.status == "opted_out":
                told["skipped"].append({**where, "reason": "OPT_OUT_ON_RECORD"})
            else:
                told["unchanged"] += 1
            continue
        change = _change(practice_id, actor, row, recorded_at)
        wanted.append(change)
        state[place] = change.edit(before)
        if before.status != state[place].status:
            told["changes"].append({**where, "from": before.status, "to": state[place].status})
        else:
            told["unchanged"] += 1
    return told, wanted, items


def _change(practice_id: str, actor: str, row: Row, recorded_at: str) -> Change:
    said = Said(
        # Keyed, since it is in the index's sort key and so in a cursor.
        log.keyed_hash(practice_id, "import", row.phone_number, row.line, row.source),
        "opted_out",
        "import",
        clock.iso(row.said_at),
        recorded_at,
        actor,
        # What was the patient's own word there is so here: only they can take it back.
        own=row.source.lower() == "keyword",
    )
    of = NumberLine(practice_id, row.phone_number, row.line)
    return Change(of, lambda before: before.after(said), consents.entry_of(said, evidence=row.source or None))


def apply(wanted: Sequence[Change], items: dict[str, Any], has_time: Callable[[], bool]) -> None:
    """Record changes, many in a transaction; raise OutOfTime when no time is left for another."""
    # Costs 5 ms to import, and only an import needs it.
    from concurrent.futures import ThreadPoolExecutor

    def together(changes: Sequence[Change]) -> None:
        if not has_time():
            raise OutOfTime
        consents.change_all(changes, items)

    for turn, changes in enumerate(_turns(wanted)):
        if turn:
            # These numbers were written in the turn before.
            items = {}
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(together, changes))


def _turns(wanted: Sequence[Change]) -> Iterator[list[list[Change]]]:
    """Give the changes turn by turn, each number once in a turn, cut into what goes together."""
    left = list(wanted)
    while left:
        turn: dict[str, Change] = {}
        later: list[Change] = []
        for each in left:
            if each.of.phone_number in turn:
                later.append(each)
            else:
                turn[each.of.phone_number] = each
        now = list(turn.values())
        yield [now[start : start + MAX_TOGETHER] for start in range(0, len(now), MAX_TOGETHER)]
        left = later
