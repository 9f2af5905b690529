"""The clock, for the I/O half only; the pure half is given times."""

from datetime import UTC, datetime


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def iso(time: datetime) -> str:
    """Write a time as it is stored and answered: UTC, to the microsecond, so that text order is time order."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
