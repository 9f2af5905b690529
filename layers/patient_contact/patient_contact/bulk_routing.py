"""Rows of a list, routed: gathered, decided by the one engine, and claimed, or, in a dry run, told.

I/O. A patient whom a row was claimed for before keeps that decision, whoever routes the row again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from patient_contact import bulk, bulks, clock, content, decisions, patients, remedies, sends, table
from patient_contact.bulk_list import SENTENCES, BadRow, Chunk, Refusal, Row
from patient_contact.bulks import WhatIf
from patient_contact.content import Content, Unfillable
from patient_contact.decisions import ListPlace, Recorded
from patient_contact.facesheet import Practice, facts_of
from patient_contact.facts import Facts, Message, MessageClass, Policy
from patient_contact.patients import Gathering
from patient_contact.routing import Decision, automation_disabled, decide

# How many claims are under way at a time.
THREADS = 8


@dataclass(frozen=True, slots=True)
class Job:
    """What a bulk's rows are routed by: what it sends, for which practice, and, in a dry run, what it asks about."""

    practice: Practice
    bulk_id: str
    message_class: MessageClass
    line: str
    content: Content
    is_dry_run: bool
    is_enabled: bool
    send_before: datetime | None
    what_if: WhatIf | None
    run: int
    retention_days: int

    @property
    def message_id(self) -> str:
        """The one message of a patient of the list."""
        return f"{self.message_class}:{self.bulk_id}"

    @property
    def policy(self) -> Policy:
        """The policy that decides: the practice's, unless a dry run asks about another."""
        asked = self.what_if.policy if self.what_if else None
        return asked or self.practice.policy

    @property
    def messages(self) -> Content:
        """What is sent, unless a dry run asks about something else."""
        asked = self.what_if.content if self.what_if else None
        return asked or self.content

    def decide(self, facts: Facts, channels: Content, policy: Policy) -> Decision:
        """Decide for one patient, as sending does."""
        message = Message(self.message_class, channels.channels, self.line)
        return (decide if self.is_enabled else automation_disabled)(facts, message, policy)


def job(item: Mapping[str, Any], kept: Mapping[str, Any], practice: Practice, retention_days: int) -> Job:
    """Read what a bulk's rows are routed by."""
    send_before = item.get("send_before")
    return Job(
        practice,
        table.ids_of(item["PK"])[1],
        item["kind"],
        item["line"],
        Content.of(kept["messages"]),
        item["dry_run"],
        item["enabled"],
        None if send_before is None else datetime.fromisoformat(send_before),
        bulks.what_if(kept),
        item["run"],
        retention_days,
    )


@dataclass(frozen=True, slots=True)
class Routed:
    """What became of a row; whether the practice sends the message itself, and whether this was decided just now."""

    result: bulk.Data
    is_handed_over: bool = False
    is_new: bool = False


def route(wanted: Job, chunk: Chunk, rows: Sequence[Row | BadRow]) -> list[Routed]:
    """Route the rows of a chunk, and give what became of each, in their order.

    Raises TableUnavailable when a row cannot be routed now; those that were claimed stay so.
    """
    done = {row.number: _refused(row.number, row.reason, row.patient_id) for row in rows if isinstance(row, BadRow)}
    waiting = [row for row in rows if isinstance(row, Row)]
    while waiting:
        gathering = patients.gather((wanted.practice.practice_id, row.patient_id) for row in waiting)

        def of_one_patient(rows: list[Row], gathering: Gathering = gathering) -> dict[int, Routed]:
            # The first of a patient's rows counts that can.
            found: dict[int, Routed] = {}
            for row in rows:
                if any(each.result["outcome"] != "refused" for each in found.values()):
                    found[row.number] = _refused(row.number, "DUPLICATE", row.patient_id)
                # What was said since the facts were read is not in them: who is left is read again.
                elif gathering.is_fresh():
                    found[row.number] = _row(wanted, chunk, row, gathering)
            return found

        of_patients: dict[str, list[Row]] = {}
        for row in waiting:
            of_patients.setdefault(row.patient_id, []).append(row)
        with ThreadPoolExecutor(THREADS) as threads:
            for routed in list(threads.map(of_one_patient, of_patients.values())):
                done |= routed
        waiting = [row for row in waiting if row.number not in done]
    return [done[row.number] for row in rows]


def _row(wanted: Job, chunk: Chunk, row: Row, gathering: Gathering) -> Routed:
    person = gathering.people[wanted.practice.practice_id, row.patient_id]
    if isinstance(person, table.TableUnavailable):
        raise person
    if person is None:
        return _refused(row.number, "UNKNOWN_PATIENT", row.patient_id)
    try:
        # An automation's context comes with each occurrence; here it is asked where its messages would go.
        is_filled = wanted.message_class != "automation"
        messages = content.fill(wanted.messages, row.context) if is_filled else wanted.messages
    except Unfillable as unfillable:
        is_missing = unfillable.reason.startswith("missing placeholder")
        return _refused(row.number, "MISSING_PLACEHOLDER" if is_missing else "TOO_LONG_WHEN_FILLED", row.patient_id)
    facts = facts_of(person.patient, person.numbers)
    decision = wanted.decide(facts, messages, wanted.policy)
    order = decisions.Order(
        wanted.practice.practice_id,
        row.patient_id,
        wanted.message_id,
        messages,
        decisions.sender(wanted.practice),
        wanted.send_before,
        place=_place(wanted, chunk, row),
    )
    if wanted.is_dry_run:
        if not decisions.mark(order, wanted.bulk_id, bulks.DRY_RUN_DAYS):
            return _refused(row.number, "DUPLICATE", row.patient_id)
        before = None
        if wanted.what_if is not None:
            before = wanted.decide(facts, wanted.content, wanted.practice.policy)
        return Routed(_decided(row, decision, before))
    recorded, is_new = decisions.claim(order, decision, gathering.as_of, wanted.retention_days)
    if recorded.place != order.place:
        return _refused(row.number, "DUPLICATE", row.patient_id)
    if not is_new:
        _again(wanted, row, recorded)
    return _as_recorded(row, recorded, is_new=is_new)


def _place(wanted: Job, chunk: Chunk, row: Row) -> ListPlace:
    return ListPlace(chunk.number, row.number - chunk.first_row, wanted.run)


def _again(wanted: Job, row: Row, recorded: Recorded) -> None:
    """Let a message that is still under way, and was announced in a run before this, be announced again."""
    if recorded.state not in decisions.UNDER_WAY or recorded.place is None or recorded.place.run == wanted.run:
        return
    key = table.decision_key(wanted.practice.practice_id, row.patient_id, wanted.message_id)
    # While the list was paused, its time went on.
    later = None if wanted.send_before else clock.iso(decisions.deadline(clock.now(), wanted.message_class))
    sends.announce_again(key, recorded, wanted.run, later)


def rows_of(results: Iterable[bulk.Data]) -> list[Row]:
    """Give the rows of a chunk that were routed, from what became of them: the list itself may be gone."""
    return [Row(each["row"], each["patient_id"]) for each in results if each["outcome"] == "deliver"]


def announce_again(wanted: Job, chunk: Chunk, rows: Iterable[Row]) -> None:
    """Let what is under way of a chunk be announced again: while its list was paused, it was held back."""
    for row, item in _under_way(wanted, chunk, rows):
        _again(wanted, row, decisions.recorded(item))


def withdraw(wanted: Job, chunk: Chunk, rows: Iterable[Row]) -> int:
    """Withdraw what is routed of a chunk and not yet being sent, since its list is cancelled; say how many.

    What is being sent is announced again: its own message may be lost, and without one it would not come to its end.
    """
    withdrawn = 0
    for row, item in _under_way(wanted, chunk, rows):
        if item["state"] == "routed":
            withdrawn += sends.withdraw((item["PK"], item["SK"]), item, "CANCELLED")
        else:
            _again(wanted, row, decisions.recorded(item))
    return withdrawn


def left(wanted: Job, chunk: Chunk, patient_ids: Iterable[str | None]) -> list[Routed]:
    """Give what became of the rows of a chunk that was left half routed, of those for which a decision was taken."""
    rows = [
        Row(chunk.first_row + place, patient_id)
        for place, patient_id in enumerate(patient_ids)
        if patient_id is not None
    ]
    return [_as_recorded(row, decisions.recorded(item)) for row, item in _claimed(wanted, chunk, rows)]


def _under_way(wanted: Job, chunk: Chunk, rows: Iterable[Row]) -> Iterator[tuple[Row, table.Item]]:
    """Give the messages of a chunk that have not come to their end."""
    return ((row, item) for row, item in _claimed(wanted, chunk, rows) if item["state"] in decisions.UNDER_WAY)


def _claimed(wanted: Job, chunk: Chunk, rows: Iterable[Row]) -> Iterator[tuple[Row, table.Item]]:
    """Give the decisions that were taken for these rows of a chunk."""
    practice_id = wanted.practice.practice_id
    of = [(table.decision_key(practice_id, row.patient_id, wanted.message_id), row) for row in rows]
    found = table.batch_get(key for key, _ in of)
    if found.unread:
        raise table.TableUnavailable("decisions left unread")
    for key, row in of:
        item = found.items.get(key)
        if item is not None and decisions.place_of(item) == _place(wanted, chunk, row):
            yield row, item


def _as_recorded(row: Row, recorded: Recorded, *, is_new: bool = False) -> Routed:
    # Sending decides again, and may have done so: here it counts as it was routed.
    as_routed = recorded.previous or recorded.decision
    return Routed(_decided(row, as_routed, None), recorded.state == "handed_over", is_new)


def _decided(row: Row, decision: Decision, before: Decision | None) -> bulk.Data:
    """Give what became of a row for which a decision was taken; `before` is the one without what is asked about."""
    remedy = remedies.remedy(decision)
    more: dict[str, Any] = {} if remedy is None else {"remedy": {"code": remedy.code, "message": remedy.message}}
    if before is not None:
        more["before"] = {"outcome": before.outcome, "channel": before.channel, "reason": before.reason}
    said = decision.outcome, decision.channel, decision.reason, decision.explanation
    return bulk.result(row.number, row.patient_id, *said, **more)


def _refused(number: int, reason: Refusal, patient_id: str | None) -> Routed:
    """Give what became of a row for which no decision could be taken."""
    return Routed(bulk.result(number, patient_id, "refused", None, reason, SENTENCES[reason]))
