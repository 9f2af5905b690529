"""Contact info as registration systems send it, junk included, made into what is on file.

Pure: imports facts, and the libraries that know phone numbers and email addresses.
"""

from collections.abc import Iterable

import phonenumbers

from patient_contact.facts import Email, LineType, Phone, Status


def e164(number: str, country: str) -> str | None:
    """Give a phone number in E.164, read as dialled in `country` (ISO 3166 alpha-2); None when it is not valid."""
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def is_country(code: str) -> bool:
    """Say whether numbers can be read as dialled in this country (ISO 3166 alpha-2)."""
    return code in phonenumbers.SUPPORTED_REGIONS


def phones_on_file(given: Iterable[tuple[str, LineType | None, Status | None]], country: str) -> tuple[Phone, ...]:
    """Normalise (number, line type, status) triples to E.164 and merge duplicates.

    A number that is none is kept as it came, invalid. Of duplicates the first position counts; a given line type beats
    none or `unknown`, a given status beats none, a later one an earlier.
    """
    merged: dict[str, Phone] = {}
    for raw, line_type, status in given:
        number = e164(raw, country)
        key = raw if number is None else number
        earlier = merged.get(key, Phone(key))
        merged[key] = Phone(
            key,
            line_type if line_type not in (None, "unknown") else earlier.line_type,
            "invalid" if number is None else (status or earlier.status),
        )
    return tuple(merged.values())


def email_address(text: str) -> str | None:
    """Give an email address, normalised; None when it is none."""
    # Costs 20 ms to import, and only a new file needs it.
    import email_validator

    try:
        return email_validator.validate_email(text.strip(), check_deliverability=False).normalized
    except email_validator.EmailNotValidError:
        return None


def emails_on_file(given: Iterable[tuple[str, Status | None]]) -> tuple[Email, ...]:
    """Normalise (address, status) pairs and merge duplicates; an address that is none is kept as it came, invalid."""
    merged: dict[str, Email] = {}
    for raw, status in given:
        address = email_address(raw)
        if address is None:
            merged.setdefault(raw, Email(raw, "invalid"))
            continue
        earlier = merged.get(address, Email(address))
        merged[address] = Email(address, status or earlier.status)
    return tuple(merged.values())
