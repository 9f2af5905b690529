"""SMS consent, as it is kept: what is in force for (number, line), its history, and the index of opt-outs.

I/O. The time at which it was said decides which consent is in force; on a tie the opt-out.
"""

import uuid
from dataclasses import dataclass

from patient_contact import clock, patients, practices, table
from patient_contact.facesheet import ConsentSource, Patient, Practice


@dataclass(frozen=True, slots=True)
class OptOut:
    """A patient's wish not to be texted on a line, as somebody recorded it."""

    phone_number: str
    line: str
    source: ConsentSource
    actor: str
    said_at: str
    note: str | None = None


def record_opt_out(practice: Practice, opt_out: OptOut, patient: Patient, if_match: str | None) -> None:
    """Record an opt-out made for `patient`, for everyone who shares the number: state, history and index in one write.

    Raises StaleVersion when `if_match` is given and the patient is no longer at it.
    """
    patients.expect_version(patient, if_match)
    practices.expect_consent(practice, opt_out.line)
    recorded_at = clock.iso(clock.now())
    pk = table.number_pk(practice.practice_id, opt_out.phone_number)
    consent = {
        "status": "opted_out",
        "source": opt_out.source,
        "said_at": opt_out.said_at,
        "recorded_at": recorded_at,
        "actor": opt_out.actor,
    }
    # A note is history alone: the number is read for every message, and stays small.
    note = {} if opt_out.note is None else {"note": opt_out.note}
    history = {"PK": pk, "SK": f"CONSENT#{opt_out.line}#{opt_out.said_at}#{uuid.uuid4()}", **consent, **note}
    current = {
        "PK": pk,
        "SK": f"OPTOUT#{opt_out.line}",
        "GSI1PK": f"{table.practice_pk(practice.practice_id)}#OPTOUT#{opt_out.line}",
        "GSI1SK": f"{opt_out.said_at}#{opt_out.phone_number}",
    }
    operations = [
        table.update_op(
            (pk, "NUMBER"),
            "SET #consent = :consent",
            # A consent that was said later stays in force; at the same moment the opt-out wins.
            "attribute_not_exists(#consent) OR #consent.said_at <= :said_at",
            {"#consent": f"CONSENT#{opt_out.line}"},
            consent=consent,
            said_at=opt_out.said_at,
        ),
        table.put_op(history, "attribute_not_exists(PK)"),
        table.put_op(current),
    ]
    if if_match is not None:
        key = (table.patient_pk(practice.practice_id, patient.patient_id), "PATIENT")
        operations.append(table.check_op(key, "version = :seen", seen=patient.version))
    for _ in table.attempts():
        try:
            table.transact(operations)
        except table.Contended:
            continue
        except table.ConditionFailed as failed:
            # The patient's version is held by the last operation, where it is held at all.
            if len(operations) - 1 in failed.failed:
                raise patients.StaleVersion from None
            # Something said later is in force: what was said now is history, and changes nothing.
            table.put(history)
        return
    raise table.TableUnavailable("contended")
