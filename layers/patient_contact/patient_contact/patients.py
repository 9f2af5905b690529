"""Patients, as they are kept: contact info, preferences, changes; and gathered, with what is known of their numbers.

I/O. State and its change record are written in one transaction, conditional on the version that was read.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

from patient_contact import clock, numbers, table
from patient_contact.facesheet import Number, Patient
from patient_contact.facts import Email, Phone, is_number

# How old facts may be when they decide, in seconds.
MAX_AGE = 5.0

What = Literal["contact_info", "preferred_contact", "do_not_contact"]


class UnknownPatient(Exception):
    """The practice has no such patient."""


class StaleVersion(Exception):
    """The patient has changed since the version that the caller read."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes a patient (`sub`), under which version they last saw (`If-Match`, None: any)."""

    sub: str
    if_match: str | None = None


def etag(patient: Patient) -> str:
    """The patient's version as an entity tag."""
    return f'"{patient.version}"'


def read(practice_id: str, patient_id: str) -> Patient | None:
    """Read a patient, strongly consistent."""
    item = table.get((table.patient_pk(practice_id, patient_id), "PATIENT"))
    return None if item is None else _patient(item)


def read_numbers(practice_id: str, patient: Patient) -> dict[str, Number]:
    """Read what is known of the patient's phone numbers, strongly consistent; raise TableUnavailable when it cannot."""
    keys = _number_keys(practice_id, patient)
    found = table.batch_get(keys)
    if found.unread:
        raise table.TableUnavailable("numbers left unread")
    return _known(keys, found)


@dataclass(frozen=True, slots=True)
class Gathered:
    """A patient with what is known of their numbers."""

    patient: Patient
    numbers: Mapping[str, Number]


Found = Gathered | table.TableUnavailable | None


@dataclass(frozen=True, slots=True)
class Gathering:
    """Many patients with their numbers, by (practice id, patient id), and the time as of which they were read.

    A patient who does not exist is None. One who could not be read now is a TableUnavailable, alone: it is never taken
    for one who does not exist.
    """

    people: Mapping[tuple[str, str], Found]
    as_of: datetime
    fresh_until: float
    also: table.BatchRead

    def is_fresh(self) -> bool:
        """Say whether a decision may still be taken on this: a STOP that was recorded since is not in it."""
        return time.monotonic() < self.fresh_until


def gather(
    patients: Iterable[tuple[str, str]],
    also: Iterable[table.Key] = (),
    then: Callable[[table.BatchRead], Iterable[table.Key]] = lambda _: (),
) -> Gathering:
    """Read many (practice id, patient id) with their numbers, strongly consistent, in two rounds of batch reads.

    What lies at the keys of `also` is read in the first round, and in the second, what `then` asks for on seeing that.
    """
    as_of, fresh_until = clock.now(), time.monotonic() + MAX_AGE
    unavailable = table.TableUnavailable("left unread")
    wanted = {(table.patient_pk(*ids), "PATIENT"): ids for ids in patients}
    found = table.batch_get([*wanted, *also])
    files = {ids: _patient(found.items[key]) for key, ids in wanted.items() if key in found.items}
    number_keys = {ids: _number_keys(ids[0], patient) for ids, patient in files.items()}
    of_numbers = table.batch_get([*(key for keys in number_keys.values() for key in keys), *then(found)])

    answer: dict[tuple[str, str], Found] = {}
    for key, ids in wanted.items():
        if key in found.unread or of_numbers.unread.intersection(number_keys.get(ids, [])):
            answer[ids] = unavailable
        elif ids not in files:
            answer[ids] = None
        else:
            answer[ids] = Gathered(files[ids], _known(number_keys[ids], of_numbers))
    read = table.BatchRead({**found.items, **of_numbers.items}, found.unread | of_numbers.unread)
    return Gathering(answer, as_of, fresh_until, read)


def change(
    practice_id: str,
    patient_id: str,
    what: What,
    edit: Callable[[Patient | None], Patient],
    actor: Actor,
    note: str | None = None,
) -> Patient:
    """Change a patient by `edit` and record who changed what from what to what; give the patient as they now are.

    `edit` is pure and may run again on a newer patient. When it gives back the very same one, nothing is recorded.
    Raises StaleVersion, what `edit` raises, and TableUnavailable when others kept writing for 20 s.
    """
    for _ in table.attempts():
        before = read(practice_id, patient_id)
        expect_version(before, actor.if_match)
        edited = edit(before)
        if edited is before:
            return edited
        after = replace(
            edited,
            version=1 if before is None else before.version + 1,
            updated_at=clock.iso(clock.now()),
            updated_by=actor.sub,
        )
        try:
            table.transact(_writes(before, after, what, note))
        except (table.ConditionFailed, table.Contended):
            continue
        return after
    raise table.TableUnavailable("contended")


def new_patient(practice_id: str, patient_id: str) -> Patient:
    """A patient of whom nothing is on file yet."""
    return Patient(
        practice_id, patient_id, 0, (), (), preferred_contact=None, do_not_contact=False, updated_at="", updated_by=""
    )


def expect_version(patient: Patient | None, if_match: str | None) -> None:
    """Hold an If-Match header, if there is one, against the patient; raise StaleVersion when it is another's."""
    if if_match is None:
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if patient is None or not ("*" in tags or etag(patient) in tags):
        raise StaleVersion


def unchanged(patient: Patient) -> tuple[table.Item, Exception]:
    """Give the operation that holds a patient at this version, and what its failure means."""
    key = (table.patient_pk(patient.practice_id, patient.patient_id), "PATIENT")
    return table.check_op(key, "version = :seen", seen=patient.version), StaleVersion()


def _writes(before: Patient | None, after: Patient, what: What, note: str | None) -> list[table.Item]:
    pk = table.patient_pk(after.practice_id, after.patient_id)
    patient = {
        "PK": pk,
        "SK": "PATIENT",
        "phones": [asdict(phone) for phone in after.phones],
        "emails": [asdict(email) for email in after.emails],
        "preferred_contact": after.preferred_contact,
        "do_not_contact": after.do_not_contact,
        "version": after.version,
        "updated_at": after.updated_at,
        "updated_by": after.updated_by,
    }
    record = {
        "PK": pk,
        "SK": f"CHANGE#{after.version:010}",
        "at": after.updated_at,
        "version": after.version,
        "by": after.updated_by,
        "what": what,
        "old": None if before is None else _aspect(before, what),
        "new": _aspect(after, what),
        **({} if note is None else {"note": note}),
    }
    condition: dict[str, Any] = (
        {"condition": "attribute_not_exists(PK)"}
        if before is None
        else {"condition": "version = :before", "before": before.version}
    )
    had = [] if before is None else numbers_on_file(before)
    has = numbers_on_file(after)
    ids = after.practice_id, after.patient_id
    shares = [numbers.share_op(ids[0], number, ids[1]) for number in has if number not in had]
    leaves = [numbers.leave_op(ids[0], number, ids[1]) for number in had if number not in has]
    return [
        table.put_op(patient, **condition),
        table.put_op(record, "attribute_not_exists(PK)"),
        *shares,
        *leaves,
    ]


def _aspect(patient: Patient, what: What) -> object:
    """The part of a patient that a change is about."""
    if what == "preferred_contact":
        return patient.preferred_contact
    if what == "do_not_contact":
        return patient.do_not_contact
    return {"phones": [asdict(p) for p in patient.phones], "emails": [asdict(e) for e in patient.emails]}


def list_changes(
    practice_id: str, patient_id: str, limit: int, after: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Give a page of a patient's changes, newest first, and the version to go on after."""
    page = table.query(
        table.patient_pk(practice_id, patient_id),
        "CHANGE#",
        limit=limit,
        after=after and f"CHANGE#{after}",
        newest_first=True,
    )
    return page.items, page.next and page.next.partition("#")[2]


def numbers_on_file(patient: Patient) -> list[str]:
    """Give the numbers on file that are numbers; junk has no item of its own."""
    return [phone.number for phone in patient.phones if is_number(phone.number)]


def _number_keys(practice_id: str, patient: Patient) -> list[table.Key]:
    return [table.number_key(practice_id, number) for number in numbers_on_file(patient)]


def _known(keys: Iterable[table.Key], found: table.BatchRead) -> dict[str, Number]:
    """What was found of numbers, by number; of most of them nothing is known."""
    return {table.ids_of(key[0])[1]: numbers.number_of(found.items[key]) for key in keys if key in found.items}


def _patient(item: Mapping[str, Any]) -> Patient:
    practice_id, patient_id = table.ids_of(item["PK"])
    return Patient(
        practice_id,
        patient_id,
        item["version"],
        tuple(Phone(**phone) for phone in item["phones"]),
        tuple(Email(**email) for email in item["emails"]),
        item["preferred_contact"],
        item["do_not_contact"],
        item["updated_at"],
        item["updated_by"],
    )
