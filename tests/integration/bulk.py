"""What drives a broadcast, campaign or dry run through the real functions, batch by batch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from patient_contact import aws as clients
from patient_contact import table
from tests.integration.service import Answer, Service, bus_event

CAMPAIGN = {"name": "Flu shots", "messages": {"text": {"body": "Flu shots are here, $first_name."}}}
BROADCAST = {"name": "Closed today", "messages": {"text": {"body": "We are closed today."}}}
KEY = {"idempotency-key": "key-1"}


def upload(service: Service, text: str | bytes, name: str = "list.csv", practice_id: str = "north") -> str:
    """Put a list where the practice puts its own, and give its key."""
    key = f"lists/{practice_id}/{name}"
    data = text if isinstance(text, bytes) else text.encode()
    clients.s3().put_object(Bucket=service.environment["LISTS_BUCKET"], Key=key, Body=data)
    return key


def csv_of(patient_ids: Iterable[str]) -> str:
    """Give a list with a first name for each patient."""
    return "patient_id,first_name\n" + "".join(f"{each},Pat\n" for each in patient_ids)


def put_patients(
    patients: Iterable[tuple[str, list[dict[str, str]]]], table_name: str, practice_id: str = "north"
) -> None:
    """Put patients with these phones right into the table: thousands of requests would take minutes."""
    every = [
        {
            "PK": table.patient_pk(practice_id, patient_id),
            "SK": "PATIENT",
            "phones": [{"line_type": "text_enabled", "status": "valid", **phone} for phone in phones],
            "emails": [],
            "preferred_contact": None,
            "do_not_contact": False,
            "version": 1,
            "updated_at": "2026-11-01T00:00:00.000000Z",
            "updated_by": "registration",
        }
        for patient_id, phones in patients
    ]
    put_many(every, table_name)


def put_many(items: Iterable[Mapping[str, object]], table_name: str) -> None:
    """Put items, 25 at a time: one by one, thousands of them would take minutes."""
    every = list(items)
    for start in range(0, len(every), 25):
        requests: Any = [{"PutRequest": {"Item": table.encode_item(item)}} for item in every[start : start + 25]]
        clients.dynamodb().batch_write_item(RequestItems={table_name: requests})


@dataclass
class Work:
    """What the bus and the queues hold between the functions: taken by hand, in whatever order a test wants."""

    service: Service

    def publish(self) -> list[dict[str, Any]]:
        """Announce what the table's stream says, and give the events as queues get them."""
        self.service.events.clear()
        assert self.service.publish(self.service.new_stream_records()) == []
        return [
            bus_event(json.loads(each["Detail"]), **{"detail-type": each["DetailType"], "source": each["Source"]})
            for each in self.service.events
        ]

    def queued(self) -> list[dict[str, Any]]:
        """Announce, and give what start_bulk gets."""
        return [event for event in self.publish() if event["detail-type"] == "BulkQueued"]

    def chunks(self) -> list[str]:
        """Take all chunks out of their queue."""
        return self.service.taken("CHUNKS_QUEUE_URL")

    def again(self) -> list[str]:
        """Take out of the queue what start_bulk has put back for later."""
        return self.service.taken("BULKS_QUEUE_URL")

    def route(self) -> list[str]:
        """Read all lists that are to be read, and route all their chunks; give the chunks."""
        for event in self.queued():
            assert self.service.run("StartBulkFunction", event) == []
        chunks = self.chunks()
        for chunk in chunks:
            assert self.service.run("RouteBatchFunction", chunk) == []
        return chunks

    def send(self) -> None:
        """Send all that is routed, and count what became of it."""
        routed = [event for event in self.publish() if event["detail-type"] == "MessageRouted"]
        for start in range(0, len(routed), 10):
            assert self.service.run("SendMessageFunction", *routed[start : start + 10]) == []
        self.publish()


def progress(service: Service, path: str) -> Answer:
    """Read how far it has come."""
    return service.get(f"north/{path}")


def leave_started(
    service: Service, practice_id: str = "north", key: str = "key-0", patient_id: str = "p-1", mark: str = "ours"
) -> None:
    """Leave a broadcast, a campaign and a dry run by this key, of each a chunk routed, and none over.

    Of a practice that sends: what is routed waits to be sent, and of the dry run another chunk waits to be routed.
    """
    more: dict[str, Any] = {"headers": {"idempotency-key": key}, "practice_ids": [practice_id]}
    ids = [patient_id, f"nobody-{mark}"]
    broadcast = {"name": f"Closed {mark}", "messages": {"text": {"body": f"Closed today: {mark}"}}, "patient_ids": ids}
    uploaded = {"key": upload(service, csv_of(ids), "list.csv" if key == "key-0" else f"{key}.csv", practice_id)}
    visits = "patient_id,first_name,when\n" + "".join(f"{each},Pat,Monday\n" for each in [*ids, *range(100)])
    over = {"list": {"key": upload(service, visits, f"visits-{key}.csv", practice_id)}}
    for path, body in (
        ("broadcasts", broadcast),
        ("campaigns", {**CAMPAIGN, "name": f"Flu shots {mark}", "list": uploaded}),
        ("automations/reminder/dry-run", over),
    ):
        answer = service.post(f"{practice_id}/{path}", body, **more)
        assert answer.status == 202, answer
    work = Work(service)
    for event in work.queued():
        assert service.run("StartBulkFunction", event) == []
    for chunk in work.chunks():
        if json.loads(chunk)["rows"]["number"] == 0:
            assert service.run("RouteBatchFunction", chunk) == []
