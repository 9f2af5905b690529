"""What each request costs at the table, computed by DynamoDB's rules from the requests made and their items.

A strongly consistent read costs one unit for each 4 KB, rounded up for each item of a GetItem or BatchGetItem and for
the sum of a Query. A write costs one unit for each 1 KB of its item, twice in a transaction, and one more for each
local index that the item is in. An item's size is its names and values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from patient_contact import aws, table
from tests.integration.service import (
    ACCEPTED,
    CELL,
    CONTEXT,
    MANUAL_TEXT,
    Service,
    trigger,
)

PATIENT = "north/patients/p-1"


def size(item: dict[str, Any]) -> int:
    """An item's size in bytes."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: dict[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return len(content) // 2 + 2
    if kind == "M":
        return 3 + size(content) + len(content)
    if kind == "L":
        return 3 + sum(value_size(each) + 1 for each in content)
    return 1


def kilobytes(length: int, unit: int = 1) -> int:
    """So many units of KB, at least one."""
    return max(1, -(-length // (unit * 1024)))


@dataclass
class Used:
    """What was asked of the table: operations, and read and write units by partition key."""

    operations: list[str] = field(default_factory=list)
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)

    def of_patients(self, units: dict[str, int]) -> int:
        """Units of patients and numbers: practice, automations and lines apart."""
        return sum(count for pk, count in units.items() if "#PATIENT#" in pk or "#NUMBER#" in pk)

    def read(self, pk: str, units: int) -> None:
        self.reads[pk] = self.reads.get(pk, 0) + units

    def write(self, item: dict[str, Any], times: int) -> None:
        units = times * (kilobytes(size(item)) + ("at" in item))
        self.writes[item["PK"]["S"]] = self.writes.get(item["PK"]["S"], 0) + units


@contextmanager
def used() -> Iterator[Used]:
    """Count what is asked of the table meanwhile."""
    sum_of = Used()

    def asked(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        context["asked"] = params

    def answered(parsed: dict[str, Any], context: dict[str, Any], model: Any, **_: object) -> None:
        sum_of.operations.append(model.name)
        count(sum_of, model.name, context["asked"], parsed)

    events = aws.dynamodb().meta.events
    events.register("provide-client-params.dynamodb", asked)
    events.register("after-call.dynamodb", answered)
    try:
        yield sum_of
    finally:
        events.unregister("provide-client-params.dynamodb", asked)
        events.unregister("after-call.dynamodb", answered)


def count(used: Used, operation: str, asked: dict[str, Any], parsed: dict[str, Any]) -> None:
    """Add one call."""
    if operation == "GetItem":
        assert asked["ConsistentRead"] is True
        used.read(asked["Key"]["PK"]["S"], kilobytes(size(parsed.get("Item", {})), 4))
    elif operation == "BatchGetItem":
        ((name, request),) = asked["RequestItems"].items()
        assert request["ConsistentRead"] is True
        found = {(item["PK"]["S"], item["SK"]["S"]): item for item in parsed["Responses"].get(name, [])}
        for key in request["Keys"]:
            used.read(key["PK"]["S"], kilobytes(size(found.get((key["PK"]["S"], key["SK"]["S"]), {})), 4))
    elif operation == "Query":
        assert asked["ConsistentRead"] is True
        used.read(asked["ExpressionAttributeValues"][":pk"]["S"], kilobytes(sum(map(size, parsed["Items"])), 4))
    elif operation == "PutItem":
        used.write(asked["Item"], 1)
    elif operation == "TransactWriteItems":
        for each in asked["TransactItems"]:
            ((kind, write),) = each.items()
            used.write(write["Item"] if kind == "Put" else write["Key"], 2)
    else:
        assert operation == "DeleteItem", f"{operation} is not expected"


def put_phones(service: Service, phones: int) -> None:
    body = {
        "phones": [{"number": f"+150355502{n:02}", "line_type": "text_enabled"} for n in range(phones)],
        "emails": [{"address": "pat@example.org"}],
    }
    assert service.put(f"{PATIENT}/contact-info", body).status == 200


class TestReads:
    @pytest.mark.parametrize("phones", [0, 1, 2, 5, 20])
    @pytest.mark.parametrize("consents", [False, True])
    def test_a_facesheet_costs_one_unit_and_one_for_each_phone(
        self, north: Service, phones: int, consents: bool
    ) -> None:
        put_phones(north, phones)
        for n in range(phones if consents else 0):
            opt_out = {"phone_number": f"+150355502{n:02}", "line": "main", "status": "opted_out", "note": "x" * 1_000}
            assert north.put(f"{PATIENT}/sms-consent", opt_out).status == 200
        with used() as units:
            assert north.get(PATIENT).status == 200
        assert units.of_patients(units.reads) == 1 + phones
        assert sum(units.reads.values()) == 1 + phones

    @pytest.mark.parametrize("phones", [0, 1, 2, 20])
    def test_an_automation_reads_one_unit_and_one_for_each_phone(self, north: Service, phones: int) -> None:
        put_phones(north, phones)
        with used() as units:
            assert north.run_automations(trigger()) == []
        assert units.of_patients(units.reads) == 1 + phones
        assert sum(units.reads.values()) == 1 + phones + 2

    def test_practice_and_automation_are_read_once_for_a_batch_and_people_once_each(self, north: Service) -> None:
        put_phones(north, 1)
        with used() as units:
            assert north.run_automations(*(trigger(occurrence_id=f"visit-{n}") for n in range(20))) == []
        assert units.of_patients(units.reads) == 2
        assert sum(units.reads.values()) == 4

    def test_a_manual_message_and_an_evaluation_read_no_more_than_the_facesheet_does(self, north: Service) -> None:
        put_phones(north, 1)
        body = {"message": {"class": "automation", "channels": ["text"]}, "patient_id": "p-1"}
        with used() as units:
            assert north.post("north/routing/evaluate", body).status == 200
        assert units.of_patients(units.reads) == 2
        with used() as units:
            assert north.post(f"{PATIENT}/messages", MANUAL_TEXT, headers={"idempotency-key": "k"}).status == 202
        # One more: whether the key was used before.
        assert units.of_patients(units.reads) == 3


class TestWrites:
    def decision_size(self, service: Service) -> int:
        (item,) = (item for item in service.items() if item["SK"]["S"].startswith("DECISION#"))
        return size(item)

    @pytest.mark.parametrize("phones", [1, 4, 20])
    def test_an_automation_writes_its_decision_and_one_for_the_index(self, north: Service, phones: int) -> None:
        put_phones(north, phones)
        with used() as units:
            assert north.run_automations(trigger()) == []
        assert units.operations.count("PutItem") == 1
        assert sum(units.writes.values()) == kilobytes(self.decision_size(north)) + 1

    def test_content_over_1_kb_costs_its_own_size_beside_the_decision(self, north: Service) -> None:
        with used() as units:
            assert north.run_automations(trigger(context=CONTEXT | {"first_name": "x" * 1_500})) == []
        (content,) = (item for item in north.items() if item["SK"]["S"].startswith("CONTENT#"))
        expected = kilobytes(self.decision_size(north)) + 1 + kilobytes(size(content))
        assert units.operations.count("PutItem") == 2
        assert sum(units.writes.values()) == expected

    def test_a_repeat_costs_one_attempt_to_write_and_no_further_read(self, north: Service) -> None:
        assert north.run_automations(trigger()) == []
        with used() as units:
            assert north.run_automations(trigger()) == []
        assert units.operations.count("GetItem") == 2
        assert "TransactWriteItems" not in units.operations


def test_no_route_and_no_event_scans_the_table(north: Service) -> None:
    with used() as units:
        for key, body in ACCEPTED.items():
            north.request(key, body)
        north.post("north/patients/search", {"patient_id": "p-1"})
        north.post("north/patients/search", {"phone_number": CELL})
        north.run_automations(trigger(), trigger("p-9"), "junk")
        north.publish(north.new_stream_records())
    assert set(units.operations) == {
        "BatchGetItem",
        "DeleteItem",
        "GetItem",
        "PutItem",
        "Query",
        "TransactWriteItems",
    }


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"PK": "ab", "SK": "c"}, 2 + 2 + 2 + 1),
        ({"n": 12345}, 1 + 4),
        ({"b": True, "z": None}, 1 + 1 + 1 + 1),
        ({"m": {"a": "é"}}, 1 + 3 + 1 + (1 + 2)),
        ({"l": ["ab", "c"]}, 1 + 3 + 2 + 3),
    ],
)
def test_an_items_size_is_its_names_and_values(item: dict[str, object], expected: int) -> None:
    assert size(table.encode_item(item)) == expected
