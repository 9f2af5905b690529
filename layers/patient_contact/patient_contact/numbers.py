"""Phone numbers of a practice's patients, as they are kept: what is known of each, and who shares it.

I/O. A number has an item when something is known of it, and one for each patient who has it on file.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from patient_contact import clock, table
from patient_contact.consent import LineConsent, OpenReview, Said
from patient_contact.facesheet import UNKNOWN_NUMBER, Number, Patient
from patient_contact.verdict import NOTHING_KNOWN, Evidence, Verdict

CONSENT = "CONSENT#"
_SHARED = "PATIENT#"
# How many others who have a number are counted, before it is only said that there are more.
MAX_COUNTED = 100


def read(practice_id: str, number: str) -> Number:
    """Read what is known of a number, strongly consistent."""
    item = table.get(table.number_key(practice_id, number))
    return UNKNOWN_NUMBER if item is None else number_of(item)


def number_of(item: Mapping[str, Any]) -> Number:
    """Read a number's item."""
    consent = {name.removeprefix(CONSENT): consent_of(kept) for name, kept in item.items() if name.startswith(CONSENT)}
    return Number(verdict_of(item), consent)


def consent_of(kept: Mapping[str, Any] | None) -> LineConsent:
    """Read what is kept of the consent on one line."""
    if kept is None:
        return LineConsent()
    newest = _said(kept) if "status" in kept else None
    own = _said(kept["keyword"]) if "keyword" in kept else newest if newest and newest.own else None
    reviews = {id_: OpenReview(**review) for id_, review in kept.get("reviews", {}).items()}
    return LineConsent(newest, own, reviews)


def kept_consent(consent: LineConsent) -> dict[str, Any]:
    """Give what is kept of the consent on one line: nothing twice, since each message reads it.

    The newest wish itself, beside it the newest `keyword` of the patient, if that is another, and the open `reviews`.
    """
    kept: dict[str, Any] = {} if consent.newest is None else asdict(consent.newest)
    if consent.own is not None and consent.own != consent.newest:
        kept["keyword"] = asdict(consent.own)
    if consent.reviews:
        kept["reviews"] = {id_: asdict(review) for id_, review in consent.reviews.items()}
    return kept


def _said(kept: Mapping[str, Any]) -> Said:
    return Said(
        kept.get("id", ""),
        kept["status"],
        kept["source"],
        kept["said_at"],
        kept["recorded_at"],
        kept.get("actor"),
        kept.get("own", False),
    )


def verdict_of(item: Mapping[str, Any]) -> Verdict:
    """Read the verdict in a number's item."""
    kept = item.get("verdict")
    if kept is None:
        return NOTHING_KNOWN
    evidence = kept["evidence"] and Evidence(**kept["evidence"])
    unreachable = tuple(Evidence(**failure) for failure in kept["unreachable"])
    return Verdict(**{**kept, "evidence": evidence, "unreachable": unreachable})


def change_verdict(practice_id: str, number: str, edit: Callable[[Verdict], Verdict], because: Evidence) -> Verdict:
    """Change what is known of a number by `edit`, which is pure and may run again on a newer verdict; give the result.

    When it is the same, nothing is written. A change of status, suspicion or line type is kept with its evidence,
    `because`.
    """
    key = table.number_key(practice_id, number)
    item = table.get(key) or {}
    for _ in table.attempts():
        before = verdict_of(item)
        after = edit(before)
        if after == before:
            return after
        kept = item.get("verdict")
        expected: dict[str, Any] = {"condition": "attribute_not_exists(verdict)"}
        if kept is not None:
            expected = {"condition": "verdict = :before", "before": kept}
        operations = [table.update_op(key, "SET verdict = :after", **expected, after=asdict(after))]
        if _visible(after) != _visible(before):
            operations.append(table.put_op(_change_of_verdict(key[0], after, because)))
        try:
            table.transact(operations)
        except table.Contended:
            continue
        except table.ConditionFailed as failed:
            item = failed.items.get(0, {})
            continue
        return after
    raise table.TableUnavailable("contended")


def _visible(verdict: Verdict) -> tuple[object, ...]:
    return verdict.status, verdict.suspect, verdict.line_type


def _change_of_verdict(pk: str, verdict: Verdict, because: Evidence) -> dict[str, Any]:
    now = clock.iso(clock.now())
    return {
        "PK": pk,
        "SK": f"STATUS#{now}#{uuid.uuid4()}",
        "at": now,
        "status": verdict.status,
        "suspect": verdict.suspect,
        "line_type": verdict.line_type,
        "looked_up_at": verdict.looked_up_at,
        "evidence": asdict(because),
    }


def share_op(practice_id: str, number: str, patient_id: str) -> table.Item:
    """One operation of a transaction: the patient has this number on file."""
    return table.put_op({"PK": table.number_pk(practice_id, number), "SK": _SHARED + patient_id})


def leave_op(practice_id: str, number: str, patient_id: str) -> table.Item:
    """One operation of a transaction: the patient has this number on file no more."""
    return table.delete_op((table.number_pk(practice_id, number), _SHARED + patient_id))


def sharing(practice_id: str, number: str, limit: int, after: str | None = None) -> tuple[list[str], str | None]:
    """Give a page of the ids of the patients who have this number, and the id to go on after."""
    page = table.query(table.number_pk(practice_id, number), _SHARED, limit=limit, after=after and _SHARED + after)
    return [item["SK"].partition("#")[2] for item in page.items], page.next and page.next.partition("#")[2]


def shared_with(patient: Patient, number: str) -> int | str:
    """Count the other patients who have this number: to 100, then `100+`."""
    found, _ = sharing(patient.practice_id, number, MAX_COUNTED + 2)
    others = len(found) - (patient.patient_id in found)
    return others if others <= MAX_COUNTED else f"{MAX_COUNTED}+"


def history(
    practice_id: str, number: str, prefix: str, limit: int, after: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """Give a page of what was recorded of a number, newest first, and the place to go on after."""
    pk = table.number_pk(practice_id, number)
    start = None
    if after is not None:
        at, _, rest = after.partition(" ")
        start = (at, prefix + rest)
    keys, more = table.newest_keys(pk, prefix, limit=limit, after=start)
    found = table.batch_get((pk, sk) for _, sk in keys)
    if found.unread:
        raise table.TableUnavailable("history left unread")
    page = [found.items[pk, sk] for _, sk in keys if (pk, sk) in found.items]
    return page, f"{keys[-1][0]} {keys[-1][1].removeprefix(prefix)}" if more else None


def answer(number: Number) -> dict[str, Any]:
    """Give what is known of a number in the form of the API."""
    verdict = number.verdict
    consents = []
    for line, consent in sorted(number.consent.items()):
        record = consent.record
        names = ("source", "actor", "said_at", "recorded_at")
        told = {name: record and getattr(record, name) for name in names}
        consents.append({"line": line, "status": consent.status, **told})
    return {
        "status": verdict.status,
        "suspect": verdict.suspect,
        "line_type": verdict.line_type,
        "looked_up_at": verdict.looked_up_at,
        "evidence": verdict.evidence and asdict(verdict.evidence),
        "sms_consent": consents,
    }
