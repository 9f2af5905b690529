"""SMS consent, as it is kept: what is in force for (number, line), its history, open reviews, the index of opt-outs.

I/O. What is in force follows from what was said and when (`consent`); here it is written, all of it in one transaction.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from patient_contact import clock, log, numbers, table
from patient_contact.consent import LineConsent, Said, Wish

Edit = Callable[[LineConsent], LineConsent]


class Repeated(Exception):
    """The same was recorded before: nothing changes."""


@dataclass(frozen=True, slots=True)
class NumberLine:
    """A phone number and the line of the practice that it is texted from."""

    practice_id: str
    phone_number: str
    line: str

    @property
    def pk(self) -> str:
        """The partition of the number."""
        return table.number_pk(self.practice_id, self.phone_number)


@dataclass(frozen=True, slots=True)
class Entry:
    """What goes into the history: under `said_at` and `id`, so that the same again is seen to be the same."""

    id: str
    said_at: str
    recorded_at: str
    details: Mapping[str, object]


def entry_of(said: Said, **details: object) -> Entry:
    """Give the history's entry for a wish; details that are None are left out."""
    whole = {"status": said.status, "source": said.source, "actor": said.actor, "own": said.own or None, **details}
    return Entry(said.id, said.said_at, said.recorded_at, whole)


def by_staff(status: Wish, actor: str) -> Said:
    """Give a wish that staff record now, on the patient's behalf."""
    now = clock.iso(clock.now())
    return Said(str(uuid.uuid4()), status, "staff", now, now, actor)


def by_staff_at(of: NumberLine, status: Wish, evidence: str | None, said_at: datetime, actor: str) -> Said:
    """Give a wish that staff record and that was said, or signed, at a time: the same again has the same id."""
    at = clock.iso(said_at)
    # Keyed, since it is in the index's sort key and so in a cursor.
    id_ = log.keyed_hash(of.practice_id, "staff", of.phone_number, of.line, status, evidence or "", at, actor)
    return Said(id_, status, "staff", at, clock.iso(clock.now()), actor)


def is_recorded(of: NumberLine, said: Said) -> bool:
    """Say whether a wish is in the history."""
    return table.get((of.pk, _history_sk(of, said.said_at, said.id))) is not None


def record(
    of: NumberLine,
    said: Said,
    also: Sequence[table.Meant] = (),
    check: Callable[[LineConsent], None] | None = None,
    **details: object,
) -> LineConsent:
    """Record a wish for everyone who shares the number, and give the consent as it now is.

    `check` may raise, on what is in force, and then nothing is written. Raises Repeated, and what belongs to `also`.
    """

    def edit(before: LineConsent) -> LineConsent:
        if check is not None:
            check(before)
        return before.after(said)

    # What patients say by keyword, and is newer than all that is recorded, leaves nothing of it: no need to read that.
    unread_before = said.said_at if said.own and check is None else None
    return change(Change(of, edit, entry_of(said, **details), also, unread_before=unread_before))


@dataclass(frozen=True, slots=True)
class Change:
    """A change of consent by `edit`, which is pure and may run again, and what goes into the history of it.

    `entry` may follow from what is in force before. `review` is kept of a message that the edit puts under review,
    `outcome` of reviews that it ends. With a time as `unread_before`, the first attempt is made without reading: it
    holds where all that is recorded is older than that, and no review is open.
    """

    of: NumberLine
    edit: Edit
    entry: Entry | Callable[[LineConsent], Entry]
    also: Sequence[table.Meant] = ()
    review: Mapping[str, object] | None = None
    outcome: Mapping[str, object] | None = None
    unread_before: str | None = None


def change(wanted: Change) -> LineConsent:
    """Write state, history, reviews and index of a change, all or nothing, and give the consent as it now is."""
    item: Mapping[str, Any] = {}
    if wanted.unread_before is None:
        item = table.get(table.number_key(wanted.of.practice_id, wanted.of.phone_number)) or {}
    for _ in table.attempts():
        operations, after = _operations(wanted, item)
        try:
            table.transact([operation for operation, _ in operations])
        except table.Contended:
            continue
        except table.ConditionFailed as failed:
            for place in failed.failed:
                if (meaning := operations[place][1]) is not None:
                    raise meaning from None
            item, wanted = failed.items.get(0, {}), replace(wanted, unread_before=None)
            continue
        return after
    raise table.TableUnavailable("contended")


def change_all(wanted: Sequence[Change], items: Mapping[str, Mapping[str, Any]]) -> None:
    """Write changes of different numbers together, all or nothing; what was recorded before is left as it is.

    `items` are the items of the numbers, as they were read. At most MAX_TOGETHER changes, without `also` or reviews.
    """
    left, known = list(wanted), dict(items)
    for _ in table.attempts():
        if not left:
            return
        operations: list[tuple[table.Item, Exception | None]] = []
        whose: list[Change] = []
        for each in left:
            more, _after = _operations(each, known.get(each.of.phone_number, {}))
            if len(operations) + len(more) > table.MAX_OPERATIONS:
                # Reviews that end take operations of their own: the rest goes into the next transaction.
                break
            operations += more
            whose += [each] * len(more)
        try:
            table.transact([operation for operation, _ in operations])
        except table.Contended:
            continue
        except table.ConditionFailed as failed:
            for place in failed.failed:
                if operations[place][1] is not None:
                    left.remove(whose[place])
                else:
                    known[whose[place].of.phone_number] = failed.items.get(place, {})
            continue
        left = [each for each in left if each not in whose]
    raise table.TableUnavailable("contended")


# A change takes three operations, and two more for each review that it ends.
MAX_TOGETHER = table.MAX_OPERATIONS // 3


def _operations(
    wanted: Change, item: Mapping[str, Any]
) -> tuple[list[tuple[table.Item, Exception | None]], LineConsent]:
    """Give the operations of a change, the consent's own first, each with what its failure means, and the result."""
    of = wanted.of
    kept = item.get(f"{numbers.CONSENT}{of.line}")
    before = numbers.consent_of(kept)
    after = wanted.edit(before)
    entry = wanted.entry if isinstance(wanted.entry, Entry) else wanted.entry(before)
    is_known = wanted.unread_before is None
    return [
        (_consent_op(of, kept, after, wanted.unread_before), None),
        (table.put_op(_history(of, entry, before, after), "attribute_not_exists(PK)"), Repeated()),
        *wanted.also,
        *((each, None) for each in _index_ops(of, before, after, is_known=is_known)),
        *((each, None) for each in _review_ops(wanted, entry, before, after)),
    ], after


def _consent_op(of: NumberLine, kept: object, after: LineConsent, unread_before: str | None) -> table.Item:
    values: dict[str, object] = {"after": numbers.kept_consent(after)}
    condition = "attribute_not_exists(#consent)"
    if unread_before is not None:
        condition += " OR (#consent.said_at < :said_at AND attribute_not_exists(#consent.reviews))"
        values["said_at"] = unread_before
    elif kept is not None:
        condition = "#consent = :before"
        values["before"] = kept
    names = {"#consent": f"{numbers.CONSENT}{of.line}"}
    key = table.number_key(of.practice_id, of.phone_number)
    return table.update_op(key, "SET #consent = :after", condition, names, **values)


def _history_sk(of: NumberLine, said_at: str, id_: str) -> str:
    return f"{numbers.CONSENT}{of.line}#{said_at}#{id_}"


def _history(of: NumberLine, entry: Entry, before: LineConsent, after: LineConsent) -> dict[str, object]:
    ends = sorted(before.reviews.keys() - after.reviews.keys())
    return {
        "PK": of.pk,
        "SK": _history_sk(of, entry.said_at, entry.id),
        "at": entry.recorded_at,
        "line": of.line,
        "said_at": entry.said_at,
        "recorded_at": entry.recorded_at,
        "in_force": after.status,
        **({"ends": ends} if ends and "review_id" not in entry.details else {}),
        **{name: value for name, value in entry.details.items() if value is not None},
    }


def _index_ops(of: NumberLine, before: LineConsent, after: LineConsent, *, is_known: bool) -> list[table.Item]:
    """Keep the item of a current opt-out, by which the report finds it."""
    wish, sk = after.in_force, f"OPTOUT#{of.line}"
    if wish is None or wish.status == "opted_in":
        was_out = before.in_force is not None and before.in_force.status == "opted_out"
        return [table.delete_op((of.pk, sk))] if was_out or not is_known else []
    if is_known and wish == before.in_force:
        return []
    item = {
        "PK": of.pk,
        "SK": sk,
        "GSI1PK": opt_outs_pk(of.practice_id, of.line),
        # No number in it: this is what the report's cursor says.
        "GSI1SK": f"{wish.said_at}#{wish.id}",
        "source": wish.source,
        "said_at": wish.said_at,
        "recorded_at": wish.recorded_at,
        "actor": wish.actor,
    }
    return [table.put_op(item)]


def opt_outs_pk(practice_id: str, line: str) -> str:
    """The index's partition of the current opt-outs on a line."""
    return f"{table.practice_pk(practice_id)}#OPTOUT#{line}"


def _review_ops(wanted: Change, entry: Entry, before: LineConsent, after: LineConsent) -> list[table.Item]:
    """Keep the items of reviews that begin or end: open ones in the order in which they are due, ended ones by id."""
    pk = table.practice_pk(wanted.of.practice_id)
    where = {"PK": pk, "phone_number": wanted.of.phone_number, "line": wanted.of.line}
    operations = [
        table.put_op({**where, "SK": f"REVIEW#{id_}", **(wanted.review or {})})
        for id_ in after.reviews.keys() - before.reviews.keys()
    ]
    outcome = wanted.outcome or {"outcome": "answered", "closed_at": entry.recorded_at}
    for id_ in before.reviews.keys() - after.reviews.keys():
        ended = {**where, "SK": f"REVIEWED#{id_}", "in_force": after.status, **outcome}
        operations += [table.delete_op((pk, f"REVIEW#{id_}")), table.put_op(ended)]
    return operations
