"""Publishing on the event bus, with every entry's own answer looked at.

I/O.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from patient_contact import aws

if TYPE_CHECKING:
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef

# PutEvents takes at most so many entries, and so many bytes in all.
MAX_ENTRIES = 10
MAX_BYTES = 240_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: the bus, source, detail-type and detail (JSON values)."""

    bus: str
    source: str
    detail_type: str
    detail: Mapping[str, Any]

    def request(self) -> "PutEventsRequestEntryTypeDef":
        """Give the entry as PutEvents takes it."""
        return {
            "EventBusName": self.bus,
            "Source": self.source,
            "DetailType": self.detail_type,
            "Detail": json.dumps(self.detail, ensure_ascii=False),
        }


@dataclass(frozen=True, slots=True)
class NotPublished:
    """The first entry that the bus did not take, and the code that it gave."""

    place: int
    code: str


def publish(entries: Sequence[Entry]) -> NotPublished | None:
    """Publish entries in order; stop after the call in which one was not taken, and say which was the first."""
    for start, requests in _calls([entry.request() for entry in entries]):
        try:
            answer = aws.events().put_events(Entries=requests)
        except (BotoCoreError, ClientError) as error:
            return NotPublished(start, type(error).__name__)
        if answer["FailedEntryCount"]:
            for place, result in enumerate(answer["Entries"], start):
                if "ErrorCode" in result:
                    return NotPublished(place, result["ErrorCode"])
            return NotPublished(start, "unnamed")
    return None


def _calls(
    requests: Sequence["PutEventsRequestEntryTypeDef"],
) -> Iterator[tuple[int, list["PutEventsRequestEntryTypeDef"]]]:
    """Cut entries into calls that PutEvents takes, each with the place of its first entry."""
    start, size = 0, 0
    for place, request in enumerate(requests):
        # A character is at most four bytes; what counts is what is sent.
        length = sum(len(str(part).encode()) for part in request.values())
        if place > start and (place - start == MAX_ENTRIES or size + length > MAX_BYTES):
            yield start, list(requests[start:place])
            start, size = place, 0
        size += length
    if start < len(requests):
        yield start, list(requests[start:])
