"""Which events a change of the table is announced by.

I/O only to read content that lies beside a decision. Events carry what their consumers act on; why is read at the API.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from patient_contact import decisions, events, settings, table
from patient_contact.bus import Entry

CONSENT = "CONSENT#"


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
    if record["eventName"] == "INSERT" and sk.startswith("DECISION#"):
        return [_decided(record["eventID"], new, now)]
    if record["eventName"] == "INSERT" and sk.startswith("CHANGE#"):
        return [_changed(record["eventID"], new)]
    if sk == "NUMBER":
        return _consents(record["eventID"], table.decode_item(images.get("OldImage", {})), new)
    return []


def _decided(event_id: str, item: Mapping[str, Any], now: datetime) -> Entry:
    practice_id, patient_id = table.ids_of(item["PK"])
    detail = {
        "version": 1,
        "event_id": event_id,
        "practice_id": practice_id,
        "patient_id": patient_id,
        "message_id": item["SK"].partition("#")[2],
        "message_class": item["message"]["class"],
        "line": item["message"]["line"],
        "outcome": item["outcome"],
        "reason": item["reason"],
        "rule": item["rule"],
        "decided_at": item["at"],
    }
    if item["outcome"] == "suppress":
        return Entry(settings.event_bus_name(), events.SOURCE_ROUTING, events.MESSAGE_SUPPRESSED, detail)
    if datetime.fromisoformat(item["at"]) < now - timedelta(days=events.MAX_EVENT_AGE_DAYS):
        raise Stale
    messages = decisions.content_of(item)
    if messages is None:
        raise ContentGone
    detail |= {
        "sender": item["sender"],
        "channel": item["channel"],
        "destination": item["destination"],
        "messages": messages,
        "send_before": item.get("send_before"),
    }
    return Entry(settings.event_bus_name(), events.SOURCE_ROUTING, events.MESSAGE_ROUTED, detail)


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


def _consents(event_id: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Entry]:
    practice_id, number = table.ids_of(new["PK"])
    changed = sorted(name for name in new if name.startswith(CONSENT) and new[name] != old.get(name))
    return [
        Entry(
            settings.event_bus_name(),
            events.SOURCE_PREFERENCES,
            events.SMS_CONSENT_CHANGED,
            {
                "version": 1,
                "event_id": f"{event_id}:{name.removeprefix(CONSENT)}",
                "practice_id": practice_id,
                "phone_number": number,
                "line": name.removeprefix(CONSENT),
                "status": new[name]["status"],
                "source": new[name]["source"],
                "said_at": new[name]["said_at"],
                "recorded_at": new[name]["recorded_at"],
            },
        )
        for name in changed
    ]
