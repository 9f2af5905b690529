"""The truth tables: six shapes of patients by seven sets of channels, computed from the routing rules.

Pure. They show an automation with Do Not Contact off; "out" means that every phone on file is opted out of the line.
"""

import csv
import io
from dataclasses import dataclass, replace
from itertools import combinations

from patient_contact.facts import CHANNELS, Channel, Consent, Email, Facts, Message, Phone, Policy
from patient_contact.routing import Decision, decide

LINE = "main"
TEXT_ENABLED = Phone("+15035550101", "text_enabled")
LANDLINE = Phone("+15035550102", "landline")
EMAIL = Email("pat@example.org")

SHAPES: tuple[tuple[str, Facts], ...] = (
    ("a text-enabled phone only", Facts(phones=(TEXT_ENABLED,))),
    ("a text-enabled phone and an email address", Facts(phones=(TEXT_ENABLED,), emails=(EMAIL,))),
    (
        "a text-enabled phone, a landline and an email address",
        Facts(phones=(TEXT_ENABLED, LANDLINE), emails=(EMAIL,)),
    ),
    (
        "the same, landline preferred",
        Facts(phones=(TEXT_ENABLED, LANDLINE), emails=(EMAIL,), preferred_contact=LANDLINE.number),
    ),
    ("a landline only", Facts(phones=(LANDLINE,))),
    ("a landline and an email address", Facts(phones=(LANDLINE,), emails=(EMAIL,))),
    ("an email address only", Facts(emails=(EMAIL,))),
)

CHANNEL_SETS: tuple[frozenset[Channel], ...] = tuple(
    frozenset(chosen) for size in (1, 2, 3) for chosen in combinations(CHANNELS, size)
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a patient of one shape gets from a message with one set of channels, and why; `channel` None is nothing."""

    channels: str
    channel: Channel | None
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One shape of patient under one consent: `in`, `out`, `any` where it changes nothing, `–` without a mobile."""

    patient: str
    consent: str
    cells: tuple[Cell, ...]


def label(channels: frozenset[Channel]) -> str:
    """Name a set of channels by their initials: `T C E`."""
    return " ".join(channel[0].upper() for channel in CHANNELS if channel in channels)


def truth_table(policy: Policy) -> tuple[Row, ...]:
    """Compute the table of the six shapes under `policy`; rows that consent does not change are given once."""
    rows = []
    for patient, facts in SHAPES:
        consented = _cells(facts, policy)
        opted_out = tuple(Consent(phone.number, LINE, "opted_out") for phone in facts.phones)
        refused = _cells(replace(facts, sms_consent=opted_out), policy)
        if [cell.channel for cell in consented] != [cell.channel for cell in refused]:
            rows += [Row(patient, "in", consented), Row(patient, "out", refused)]
        else:
            rows.append(Row(patient, "any" if TEXT_ENABLED in facts.phones else "–", consented))
    return tuple(rows)


def _cells(facts: Facts, policy: Policy) -> tuple[Cell, ...]:
    return tuple(
        _cell(channels, decide(facts, Message("automation", channels, LINE), policy)) for channels in CHANNEL_SETS
    )


def _cell(channels: frozenset[Channel], decision: Decision) -> Cell:
    return Cell(label(channels), decision.channel, decision.reason)


def markdown(rows: tuple[Row, ...]) -> str:
    """Give the table as Markdown; `·` is nothing sent."""
    head = ["Patient has", "Consent", *(label(channels) for channels in CHANNEL_SETS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row, patient in zip(rows, _named_once(rows), strict=True):
        lines.append("| " + " | ".join([patient, row.consent, *(cell.channel or "·" for cell in row.cells)]) + " |")
    return "\n".join(lines) + "\n"


def as_csv(rows: tuple[Row, ...]) -> str:
    """Give the table as CSV, one line a row; an empty cell is nothing sent."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["patient", "consent", *(label(channels) for channels in CHANNEL_SETS)])
    for row in rows:
        writer.writerow([row.patient, row.consent, *(cell.channel or "" for cell in row.cells)])
    return out.getvalue()


def _named_once(rows: tuple[Row, ...]) -> list[str]:
    """Name each shape in its first row only, as people read tables."""
    return ["" if n and rows[n - 1].patient == row.patient else row.patient for n, row in enumerate(rows)]
