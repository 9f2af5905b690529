"""Which events a change of the table is announced by.

I/O only to read content that lies beside a decision. Events carry what their consumers act on; why is read at the API.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from patient_contact import bulk, confirmations, decisions, events, settings, table
from patient_contact.bus import Entry
from patient_contact.consent import NOTHING_SAID, LineConsent
from patient_contact.numbers import number_of


class Stale(Exception):
    """A decision to deliver is too old to be announced: what it read of the patient may long be otherwise."""


class ContentGone(Exception):
    """A decision to deliver has no content any more: it expired before it was announced."""


def of_record(record: Mapping[str, Any], now: datetime) -> list[Entry]:
    """Give the events that announce one stream record, most often none or one.

    `event_id` is the stream record's own id, so that a record that comes again gives the same event again. Raises Stale
    and ContentGone.
    """
    images = record["dynamodb"]
    if "NewImage" not in images or record["eventName"] == "REMOVE":
        return []
    new = table.decode_item(images["NewImage"])
    sk = new["SK"]
    if sk.startswith("DECISION#"):
        return _of_decision(record["eventID"], table.decode_item(images.get("OldImage", {})), new, now)
    if record["eventName"] == "INSERT" and sk.startswith("CONFIRMATION#"):
        return [_to_confirm(record["eventID"], new)]
    if record["eventName"] == "INSERT" and sk.startswith("CHANGE#"):
        return [_changed(record["eventID"], new)]
    if sk == "BULK":
        return _to_run(record["eventID"], table.decode_item(images.get("OldImage", {})), new)
    if sk == "NUMBER":
        return list(_of_number(record["eventID"], table.decode_item(images.get("OldImage", {})), new))
    return []


# What a decision becomes, and the event that says so.
_BECAME = {
    "sent": events.MESSAGE_SENT,
    "failed": events.MESSAGE_FAILED,
    "withdrawn": events.MESSAGE_WITHDRAWN,
}


def _of_decision(event_id: str, old: Mapping[str, Any], item: Mapping[str, Any], now: datetime) -> list[Entry]:
    """Announce a decision that was taken, or whose message has come to an end, or is to be sent again."""
    if not old:
        return [_decided(event_id, item, item["at"], now)]
    if (old["state"], item["state"]) == ("unknown", "routed"):
        return [_decided(event_id, item, item["life"][-1]["at"], now)]
    if item["state"] in decisions.UNDER_WAY and old.get("run") != item.get("run"):
        return [_decided(event_id, item, item["at"], now)]
    if old["state"] == item["state"] or item["state"] not in _BECAME:
        return []
    last = item["life"][-1]
    names = ("provider_message_id", "code", "reason")
    detail = {
        **_named(event_id, item),
        "state": item["state"],
        "channel": item["channel"],
        "attempt": item.get("attempt"),
        **{name: last.get(name) for name in names},
        "at": last["at"],
    }
    return [Entry(settings.event_bus_name(), events.SOURCE_ROUTING, _BECAME[item["state"]], detail)]


def _named(event_id: str, item: Mapping[str, Any]) -> dict[str, Any]:
    practice_id, patient_id = table.ids_of(item["PK"])
    return {
        "version": 1,
        "event_id": event_id,
        "practice_id": practice_id,
        "patient_id": patient_id,
        "message_id": item["SK"].partition("#")[2],
        "message_class": item["message"]["class"],
        "line": item["message"]["line"],
        "outcome": item["outcome"],
    }


def _decided(event_id: str, item: Mapping[str, Any], since: str, now: datetime) -> Entry:
    detail = {
        **_named(event_id, item),
        "reason": item["reason"],
        "rule": item["rule"],
        "decided_at": item["at"],
    }
    if item["outcome"] == "suppress":
        return Entry(settings.event_bus_name(), events.SOURCE_ROUTING, events.MESSAGE_SUPPRESSED, detail)
    messages = decisions.content_of(item)
    # What the service sends itself is withdrawn when it comes too late, and must come for that.
    if item["sender"] == "practice":
        if datetime.fromisoformat(since) < now - timedelta(days=events.MAX_EVENT_AGE_DAYS):
            raise Stale
        if messages is None:
            raise ContentGone
    detail |= {
        "sender": item["sender"],
        "channel": item["channel"],
        "destination": item["destination"],
        "messages": messages or {},
        "send_before": item.get("send_before"),
    }
    return Entry(settings.event_bus_name(), events.SOURCE_ROUTING, events.MESSAGE_ROUTED, detail)


def _to_confirm(event_id: str, item: Mapping[str, Any]) -> Entry:
    """Announce the confirmation of a reply, which the service sends to a number, whoever has it."""
    practice_id, number = table.ids_of(item["PK"])
    detail = {
        "version": 1,
        "event_id": event_id,
        "practice_id": practice_id,
        "phone_number": number,
        "message_id": confirmations.PREFIX + item["SK"].partition("#")[2],
        "line": item["line"],
        "sender": item["sender"],
        "channel": item["channel"],
        "send_before": item["send_before"],
    }
    return Entry(settings.event_bus_name(), events.SOURCE_ROUTING, events.MESSAGE_ROUTED, detail)


def _to_run(event_id: str, old: Mapping[str, Any], item: Mapping[str, Any]) -> list[Entry]:
    """Announce that a list is to be read: the bulk was started, or resumed."""
    if old.get("run") == item.get("run"):
        return []
    practice_id, bulk_id = table.ids_of(item["PK"])
    detail = {
        "version": 1,
        "event_id": event_id,
        "practice_id": practice_id,
        "bulk_id": bulk_id,
        "run": item["run"],
    }
    return [Entry(settings.event_bus_name(), events.SOURCE_BULK, events.BULK_QUEUED, detail)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message of a list: of which chunk of which bulk, and of which of its rows; kept how long."""

    chunk: tuple[str, str, int]
    row: int
    letter: str
    expires_at: int


def outcome_of(record: Mapping[str, Any]) -> Outcome | None:
    """Give what became of a message of a list, None for all other records."""
    new = record["dynamodb"].get("NewImage", {})
    if "chunk" not in new or "state" not in new:
        return None
    names = ("PK", "SK", "chunk", "place", "state", "life", "expires_at")
    item = table.decode_item({name: new[name] for name in names if name in new})
    letter = bulk.letter(item["state"], item.get("life", ()))
    if letter is None:
        return None
    bulk_id = item["SK"].rpartition(":")[2]
    return Outcome((table.ids_of(item["PK"])[0], bulk_id, item["chunk"]), item["place"], letter, item["expires_at"])


def _changed(event_id: str, item: Mapping[str, Any]) -> Entry:
    practice_id, patient_id = table.ids_of(item["PK"])
    detail = {
        "version": 1,
        "event_id": event_id,
        "practice_id": practice_id,
        "patient_id": patient_id,
        "patient_version": item["version"],
        "what": item["what"],
        "at": item["at"],
        "by": item["by"],
    }
    return Entry(settings.event_bus_name(), events.SOURCE_PREFERENCES, events.PREFERENCES_CHANGED, detail)


def _of_number(event_id: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Entry]:
    """Announce what is in force now and was not before: of the number itself, and of consent line by line."""
    practice_id, number = table.ids_of(new["PK"])
    before, after = number_of(old), number_of(new)
    shared = {"version": 1, "practice_id": practice_id, "phone_number": number}
    verdict = after.verdict
    if (verdict.status, verdict.suspect) != (before.verdict.status, before.verdict.suspect):
        told = {"status": verdict.status, "suspect": verdict.suspect, "line_type": verdict.line_type}
        evidence = verdict.evidence and asdict(verdict.evidence)
        detail = {**shared, "event_id": f"{event_id}#status", **told, "evidence": evidence}
        yield Entry(settings.event_bus_name(), events.SOURCE_PREFERENCES, events.NUMBER_STATUS_CHANGED, detail)
    for line, consent in sorted(after.consent.items()):
        if consent.record != before.consent.get(line, NOTHING_SAID).record:
            detail = {**shared, "event_id": f"{event_id}:{line}", "line": line, **_consent(consent)}
            yield Entry(settings.event_bus_name(), events.SOURCE_PREFERENCES, events.SMS_CONSENT_CHANGED, detail)


def _consent(consent: LineConsent) -> dict[str, object]:
    """Give what is in force; where a message was read and nothing was ever said, nobody brought it."""
    record = consent.record
    names = ("source", "said_at", "recorded_at")
    return {"status": consent.status, **{name: record and getattr(record, name) for name in names}}
