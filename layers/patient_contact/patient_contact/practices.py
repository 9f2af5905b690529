"""Practices, their lines and their automations, as they are kept.

I/O. Read once per invocation and never kept across invocations, so that policy and content are always current.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from patient_contact import table
from patient_contact.content import Content
from patient_contact.facesheet import BROADCAST_TEXTS_PER_DAY, Line, Practice
from patient_contact.facts import Policy


class LineTaken(Exception):
    """A line's number belongs to another practice."""


class LineInUse(Exception):
    """A line that would be removed or renumbered has recorded consent, or an automation that names it."""


class LineMoved(Exception):
    """A line was removed or renumbered since the practice was read."""


@dataclass(frozen=True, slots=True)
class Automation:
    """A registered message definition, triggered once per occurrence; `line` None is the practice's default line."""

    automation_id: str
    name: str
    line: str | None
    enabled: bool
    content: Content


@dataclass(frozen=True, slots=True)
class OwnLine:
    """What replies need to know of the line that they were written to; `time_zone` is the practice's.

    `confirms` says whether the service confirms what patients say by keyword.
    """

    practice_id: str
    line: str
    phone_number: str
    review_words: tuple[str, ...]
    time_zone: str
    has_consent: bool
    confirms: bool = False


def read_lines(phone_numbers: Iterable[str]) -> dict[str, OwnLine]:
    """Read whose lines these numbers are, strongly consistent, in one round; those that are nobody's are left out."""
    keys = {table.line_key(number): number for number in phone_numbers}
    found = table.batch_get(keys)
    if found.unread:
        raise table.TableUnavailable("lines left unread")
    return {keys[key]: _own_line(keys[key], item) for key, item in found.items.items()}


def _own_line(phone_number: str, item: Mapping[str, Any]) -> OwnLine:
    return OwnLine(
        item["practice_id"],
        item["line"],
        phone_number,
        tuple(item.get("review_words", ())),
        item.get("time_zone", "UTC"),
        item.get("has_consent", False),
        item.get("confirms", False),
    )


def read(practice_id: str) -> Practice | None:
    """Read a practice, strongly consistent."""
    item = table.get(key(practice_id))
    return None if item is None else from_item(practice_id, item)


def put(practice: Practice) -> Practice:
    """Create or replace a practice and claim its lines' numbers; on LineTaken and LineInUse nothing is written."""
    for _ in table.attempts():
        before = read(practice.practice_id)
        after = replace(practice, version=1 if before is None else before.version + 1)
        if before is not None:
            _automations_keep_their_lines(before, after)
        line_writes = _line_writes(before, after)
        try:
            table.transact([_practice_write(before, after), *(write for write, _ in line_writes)])
        except table.Contended:
            continue
        except table.ConditionFailed as failed:
            if 0 in failed.failed:
                continue
            raise line_writes[failed.failed[0] - 1][1] from None
        return after
    raise table.TableUnavailable("contended")


def _practice_write(before: Practice | None, after: Practice) -> table.Item:
    item = {
        "PK": table.practice_pk(after.practice_id),
        "SK": "PRACTICE",
        "name": after.name,
        "time_zone": after.time_zone,
        "default_country": after.default_country,
        "policy": asdict(after.policy),
        "lines": [_without_defaults(line) for line in after.lines],
        "default_line": after.default_line,
        "sending": after.sending,
        "broadcast_texts_per_day": after.broadcast_texts_per_day,
        "version": after.version,
    }
    if before is None:
        return table.put_op(item, "attribute_not_exists(PK)")
    return table.put_op(item, "version = :before", before=before.version)


def _without_defaults(line: Line) -> dict[str, Any]:
    """Give a line as it is kept: each message reads it."""
    return {name: value for name, value in asdict(line).items() if value not in (None, False, ())}


def _line_writes(before: Practice | None, after: Practice) -> list[tuple[table.Item, Exception]]:
    """Give the writes that move the numbers from the old lines to the new, each with what its failure means."""
    had = {} if before is None else {line.phone_number: line for line in before.lines}
    has = {line.phone_number: line for line in after.lines}
    writes: list[tuple[table.Item, Exception]] = [
        (table.delete_op(table.line_key(number), "attribute_not_exists(has_consent)"), LineInUse())
        for number in had.keys() - has.keys()
    ]
    for number, line in has.items():
        earlier = had.get(number)
        told = _told_line(after, line)
        if before is not None and earlier is not None and earlier.id == line.id:
            if _told_line(before, earlier) != told:
                writes.append((_tell_line(number, told, after.practice_id), LineMoved()))
            continue
        pk, sk = table.line_key(number)
        item = {"PK": pk, "SK": sk, "practice_id": after.practice_id, "line": line.id, **told}
        if earlier is not None:
            writes.append((table.put_op(item, "attribute_not_exists(has_consent)"), LineInUse()))
        else:
            writes.append((table.put_op(item, "attribute_not_exists(PK)"), LineTaken()))
    return writes


def _told_line(practice: Practice, line: Line) -> dict[str, Any]:
    """Give what a line's own item says of it, which is all that a reply's function reads."""
    return {
        "review_words": list(line.review_words),
        "time_zone": practice.time_zone,
        "confirms": practice.sending and line.self_managed_opt_outs,
    }


def _tell_line(number: str, told: Mapping[str, Any], practice_id: str) -> table.Item:
    """Change what a line's own item says; whether it has consent on record stays."""
    return table.update_op(
        table.line_key(number),
        "SET review_words = :review_words, time_zone = :time_zone, confirms = :confirms",
        "practice_id = :practice_id",
        **told,
        practice_id=practice_id,
    )


def _automations_keep_their_lines(before: Practice, after: Practice) -> None:
    gone = {line.id for line in before.lines} - {line.id for line in after.lines}
    if gone and any(automation.line in gone for automation in _all_automations(before.practice_id)):
        raise LineInUse


def expect_consent(practice: Practice, line: str) -> None:
    """Mark a line as one that has recorded consent, for good, before the first consent on it is recorded."""
    number = next((own.phone_number for own in practice.lines if own.id == line), None)
    own = None if number is None else read_lines([number]).get(number)
    if own is None or (own.practice_id, own.line) != (practice.practice_id, line):
        raise LineMoved
    mark_consent(own)


def mark_consent(own: OwnLine) -> None:
    """Mark a line as one that has recorded consent, unless it is; raise LineMoved when it is somebody else's now."""
    if own.has_consent:
        return
    mark = table.update_op(
        table.line_key(own.phone_number),
        "SET has_consent = :true",
        "practice_id = :practice AND #line = :line",
        {"#line": "line"},
        true=True,
        practice=own.practice_id,
        line=own.line,
    )
    table.transact_meaning([(mark, LineMoved())])


def key(practice_id: str) -> table.Key:
    """The practice's item."""
    return table.practice_pk(practice_id), "PRACTICE"


def from_item(practice_id: str, item: Mapping[str, Any]) -> Practice:
    """Read a practice's item."""
    return Practice(
        practice_id,
        item["name"],
        item["time_zone"],
        item["default_country"],
        Policy(**item["policy"]),
        tuple(Line(**{**line, "review_words": tuple(line.get("review_words", ()))}) for line in item["lines"]),
        item["default_line"],
        item["sending"],
        item["version"],
        item.get("broadcast_texts_per_day", BROADCAST_TEXTS_PER_DAY),
    )


def automation_key(practice_id: str, automation_id: str) -> table.Key:
    """The automation's item."""
    return table.practice_pk(practice_id), f"AUTOMATION#{automation_id}"


def read_automation(practice_id: str, automation_id: str) -> Automation | None:
    """Read an automation, strongly consistent."""
    item = table.get(automation_key(practice_id, automation_id))
    return None if item is None else _automation(item)


def put_automation(practice_id: str, automation: Automation) -> None:
    """Create or replace an automation; raise LineMoved when the practice does not have its line any more.

    It counts as a change of the practice, so that a line which it names cannot be removed at the same moment.
    """
    item = {
        "PK": table.practice_pk(practice_id),
        "SK": f"AUTOMATION#{automation.automation_id}",
        "name": automation.name,
        "line": automation.line,
        "enabled": automation.enabled,
        "messages": automation.content.as_messages(),
    }
    for _ in table.attempts():
        practice = read(practice_id)
        if practice is None or not practice.has_line(automation.line or practice.default_line):
            raise LineMoved
        counted = table.update_op(
            key(practice_id),
            "SET version = :next",
            "version = :seen",
            next=practice.version + 1,
            seen=practice.version,
        )
        try:
            table.transact([table.put_op(item), counted])
        except (table.ConditionFailed, table.Contended):
            continue
        return
    raise table.TableUnavailable("contended")


def delete_automation(practice_id: str, automation_id: str) -> bool:
    """Delete an automation; say whether there was one."""
    return table.delete((table.practice_pk(practice_id), f"AUTOMATION#{automation_id}"))


def list_automations(practice_id: str, limit: int, after: str | None) -> tuple[list[Automation], str | None]:
    """Give a page of automations in the order of their ids, and the id to go on after."""
    pk = table.practice_pk(practice_id)
    page = table.query(pk, "AUTOMATION#", limit=limit, after=after and f"AUTOMATION#{after}")
    return [_automation(item) for item in page.items], page.next and page.next.partition("#")[2]


def _all_automations(practice_id: str) -> list[Automation]:
    found: list[Automation] = []
    after: str | None = None
    while True:
        page, after = list_automations(practice_id, 100, after)
        found += page
        if after is None:
            return found


def _automation(item: Mapping[str, Any]) -> Automation:
    return Automation(
        item["SK"].partition("#")[2],
        item["name"],
        item["line"],
        item["enabled"],
        Content.of(item["messages"]),
    )
