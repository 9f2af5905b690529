"""Random patients, messages and policies: small enough to meet every rule often, numbered so that drawing is cheap."""

from itertools import product

from hypothesis import settings
from hypothesis import strategies as st

from patient_contact.facts import (
    CHANNELS,
    Channel,
    Consent,
    ConsentStatus,
    Email,
    Facts,
    LineType,
    Message,
    MessageClass,
    Phone,
    Policy,
    Status,
)

LINE, OTHER_LINE = "main", "billing"
NUMBERS = ("+15035550101", "+15035550102", "+15035550103")
NOT_ON_FILE = "+15035550199"
ADDRESSES = ("pat@example.org", "kim@example.org")

_KINDS: tuple[tuple[LineType, Status], ...] = (
    ("text_enabled", "valid"),
    ("landline", "valid"),
    ("unknown", "valid"),
    ("text_enabled", "invalid"),
    ("landline", "invalid"),
)
_STATUSES: tuple[Status, ...] = ("valid", "invalid")
_CONSENTS: tuple[ConsentStatus | None, ...] = (None, "opted_in", "opted_out", "under_review")
_LIST_CLASSES: tuple[MessageClass, ...] = ("broadcast", "campaign")

PHONES = tuple(
    tuple(Phone(number, *kind) for number, kind in zip(NUMBERS, kinds, strict=False))
    for count in range(len(NUMBERS) + 1)
    for kinds in product(_KINDS, repeat=count)
)
EMAILS = tuple(
    tuple(Email(address, status) for address, status in zip(ADDRESSES, statuses, strict=False))
    for count in range(len(ADDRESSES) + 1)
    for statuses in product(_STATUSES, repeat=count)
)
CONSENTS = tuple(
    tuple(Consent(number, LINE, status) for number, status in zip(NUMBERS, statuses, strict=True) if status)
    + tuple(Consent(number, OTHER_LINE, elsewhere) for number in NUMBERS if elsewhere)
    for statuses in product(_CONSENTS, repeat=len(NUMBERS))
    for elsewhere in (None, "opted_out")
)
CHANNEL_SETS: tuple[frozenset[Channel], ...] = tuple(
    frozenset(channel for channel, included in zip(CHANNELS, some, strict=True) if included)
    for some in product((False, True), repeat=len(CHANNELS))
    if any(some)
)
PREFERRED = (None, *NUMBERS, NOT_ON_FILE)

AUTOMATIONS = tuple(Message("automation", channels, LINE) for channels in CHANNEL_SETS)
TO_LISTS = tuple(Message(name, channels, LINE) for name in _LIST_CLASSES for channels in CHANNEL_SETS)
MANUAL = tuple(
    Message("manual", frozenset({channel}), LINE, chosen)
    for channel in CHANNELS
    for chosen in ((None,) if channel == "email" else (None, *NUMBERS))
)
MESSAGES = AUTOMATIONS + TO_LISTS + MANUAL
POLICIES = tuple(Policy(*flags) for flags in product((False, True), repeat=4))

DO_NOT_CONTACT = (False, False, False, True)
PATIENTS = len(PHONES) * len(EMAILS) * len(CONSENTS) * len(PREFERRED) * len(DO_NOT_CONTACT)


# Hypothesis prefers small numbers: unspread, hardly anybody would have a preferred contact. A prime, so that every
# number stays another patient.
_SPREAD = 1_000_003


def patient(number: int) -> Facts:
    """Give the patient of a number below `PATIENTS`, each number another patient."""
    number = number * _SPREAD % PATIENTS
    number, phones = divmod(number, len(PHONES))
    number, emails = divmod(number, len(EMAILS))
    number, consents = divmod(number, len(CONSENTS))
    do_not_contact, preferred = divmod(number, len(PREFERRED))
    return Facts(
        PHONES[phones], EMAILS[emails], PREFERRED[preferred], DO_NOT_CONTACT[do_not_contact], CONSENTS[consents]
    )


patients = st.integers(0, PATIENTS - 1).map(patient)
# Automations have most rules.
messages = st.sampled_from(MESSAGES + AUTOMATIONS)
policies = st.sampled_from(POLICIES)

thorough = settings(max_examples=10_000, deadline=None, database=None)
