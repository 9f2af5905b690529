"""What each request costs at the table, computed by DynamoDB's rules from the requests made and their items.

A strongly consistent read costs one unit for each 4 KB, rounded up for each item of a GetItem or BatchGetItem and for
the sum of a Query; one of the global index, which cannot be consistent, half of that. A write costs one unit for each
1 KB of its item, twice in a transaction, and one more for each local index that the item is in. An item's size is its
names and values.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from patient_contact import aws, table
from tests.integration.bulk import CAMPAIGN, KEY, Work, csv_of, upload
from tests.integration.sending import CLINIC, leave_unknown, send, to_send
from tests.integration.service import (
    BROADCAST,
    BULKS,
    CELL,
    CONTEXT,
    CSV_FILE,
    EVERY_ROUTE,
    MANUAL_TEXT,
    REMINDER,
    Service,
    receipt,
    reply,
    trigger,
)
from tests.local.sms import THROTTLES_TWICE

PATIENT = "north/patients/p-1"
BILLING = "+15035559001"

EVENTS = Path(__file__).parents[2] / "events"


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
    reads: dict[str, float] = field(default_factory=dict)
    writes: dict[str, float] = field(default_factory=dict)

    def of_patients(self, units: dict[str, float]) -> float:
        """Units of patients and numbers: practice, automations and lines apart."""
        return sum(count for pk, count in units.items() if "#PATIENT#" in pk or "#NUMBER#" in pk)

    def read(self, pk: str, units: float) -> None:
        self.reads[pk] = self.reads.get(pk, 0) + units

    def write(self, item: dict[str, Any], times: int) -> None:
        units = times * (kilobytes(size(item)) + ("at" in item))
        self.writes[item["PK"]["S"]] = self.writes.get(item["PK"]["S"], 0) + units

    def update(self, asked: dict[str, Any], item: dict[str, Any]) -> None:
        """An update costs its whole item; one of the local index stays as it is, one of the global index may move."""
        units = kilobytes(size(item)) + ("GSI1PK" in asked["ExpressionAttributeNames"].values())
        pk = asked["Key"]["PK"]["S"]
        self.writes[pk] = self.writes.get(pk, 0) + units


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
    elif operation == "Query" and asked.get("IndexName") == "GSI1":
        assert "ConsistentRead" not in asked
        # One that only counts does not say what it has read.
        read = kilobytes(sum(map(size, parsed.get("Items", []))), 4)
        used.read(asked["ExpressionAttributeValues"][":pk"]["S"], read / 2)
    elif operation == "Query":
        assert asked["ConsistentRead"] is True
        used.read(asked["ExpressionAttributeValues"][":pk"]["S"], kilobytes(sum(map(size, parsed["Items"])), 4))
    elif operation == "PutItem":
        used.write(asked["Item"], 1)
    elif operation == "TransactWriteItems":
        for each in asked["TransactItems"]:
            ((kind, write),) = each.items()
            used.write(write["Item"] if kind == "Put" else write["Key"], 2)
    elif operation == "UpdateItem":
        used.update(asked, parsed.get("Attributes", parsed.get("Item", {})))
    else:
        assert operation == "DeleteItem", f"{operation} is not expected"


def put_phones(service: Service, phones: int) -> None:
    body = {
        "phones": [{"number": f"+150355502{n:02}", "line_type": "text_enabled"} for n in range(phones)],
        "emails": [{"address": "pat@example.org"}],
    }
    assert service.put(f"{PATIENT}/contact-info", body).status == 200


def say_all_that_can_be_said(service: Service, phones: int) -> None:
    """Record of each phone what its owner, staff and carriers may say; its words and notes are history alone."""
    if not phones:
        return
    number = "+15035550200"
    said = {"phone_number": number, "line": "main", "note": "x" * 1_000}
    assert service.put(f"{PATIENT}/sms-consent", said | {"status": "opted_out"}).status == 200
    opted_in = {"status": "opted_in", "evidence": "signed_form"}
    assert service.put(f"{PATIENT}/sms-consent", said | opted_in).status == 200
    assert service.put(f"{PATIENT}/sms-consent", said | {"line": "billing", "status": "opted_out"}).status == 200
    failed = [receipt("TEXT_UNREACHABLE", f"provider-{n}", destinationPhoneNumber=number) for n in range(2)]
    assert service.record_receipts(*failed) == []
    unread = [
        reply("Please stop texting me. " * 60, str(uuid.UUID(int=n)), number=number, at=f"2126-11-24T18:00:{n:02}.000Z")
        for n in range(10)
    ]
    assert service.record_replies(reply("STOP", number=number), *unread) == []
    known = table.get(table.number_key("north", number))
    assert known
    for n in range(1, phones):
        table.put(known | {"PK": table.number_pk("north", f"+150355502{n:02}")})


class TestReads:
    @pytest.mark.parametrize("phones", [0, 1, 2, 5, 20])
    @pytest.mark.parametrize("consents", [False, True])
    def test_a_facesheet_costs_one_unit_and_two_for_each_phone(
        self, north: Service, phones: int, consents: bool
    ) -> None:
        """One for what is known of the phone, one to count who shares it."""
        put_phones(north, phones)
        say_all_that_can_be_said(north, phones if consents else 0)
        with used() as units:
            assert north.get(PATIENT).status == 200
        assert units.of_patients(units.reads) == 1 + 2 * phones
        assert sum(units.reads.values()) == 1 + 2 * phones
        assert units.operations.count("Query") == phones
        assert units.operations.count("BatchGetItem") == min(phones, 1)

    @pytest.mark.parametrize("others", [102, 500])
    def test_a_phone_that_any_number_of_patients_share_costs_the_facesheet_as_much_as_one_of_a_hundred(
        self, north: Service, others: int
    ) -> None:
        put_phones(north, 1)
        shared = {"PK": table.number_pk("north", "+15035550200"), "SK": "PATIENT#q-0000"}
        for n in range(others):
            table.put(shared | {"SK": f"PATIENT#q-{n:04}"})
        with used() as units:
            assert north.get(PATIENT).body["phones"][0]["shared_with"] == "100+"
        # As many as are counted, the patient, and one more that says whether more follow.
        counted = kilobytes(103 * size(table.encode_item(shared)), 4)
        assert sum(units.reads.values()) == 1 + 1 + counted
        assert units.operations.count("Query") == 1

    @pytest.mark.parametrize("phones", [0, 1, 2, 20])
    @pytest.mark.parametrize("consents", [False, True])
    def test_an_automation_reads_one_unit_and_one_for_each_phone(
        self, north: Service, phones: int, consents: bool
    ) -> None:
        put_phones(north, phones)
        say_all_that_can_be_said(north, phones if consents else 0)
        with used() as units:
            assert north.run_automations(trigger()) == []
        assert units.of_patients(units.reads) == 1 + phones
        assert sum(units.reads.values()) == 1 + phones + 2
        assert "Query" not in units.operations

    def test_practice_and_automation_are_read_once_for_a_batch_and_people_once_each(self, north: Service) -> None:
        put_phones(north, 1)
        with used() as units:
            assert north.run_automations(*(trigger(occurrence_id=f"visit-{n}") for n in range(20))) == []
        assert units.of_patients(units.reads) == 2
        assert sum(units.reads.values()) == 4

    @pytest.mark.parametrize("consents", [False, True])
    def test_a_manual_message_and_an_evaluation_read_less_than_the_facesheet_does(
        self, north: Service, consents: bool
    ) -> None:
        put_phones(north, 1)
        say_all_that_can_be_said(north, 1 if consents else 0)
        body = {"message": {"class": "automation", "channels": ["text"]}, "patient_id": "p-1"}
        with used() as units:
            assert north.post("north/routing/evaluate", body).status == 200
        assert units.of_patients(units.reads) == 2
        assert sum(units.reads.values()) == 3
        with used() as units:
            answer = north.post(f"{PATIENT}/messages", MANUAL_TEXT, headers={"idempotency-key": "k"})
        assert answer.status == (409 if consents else 202)
        # One more: whether the key was used before.
        assert units.of_patients(units.reads) == 3
        assert sum(units.reads.values()) == 4

    def test_the_report_of_opt_outs_reads_its_page_and_nothing_else(self, north: Service) -> None:
        for n in range(30):
            assert north.record_replies(reply("STOP", f"message-{n}", number=f"+150355512{n:02}")) == []
            start = reply("START", f"more-{n}", number=f"+150355513{n:02}", line=BILLING)
            assert north.record_replies(start) == []
        with used() as units:
            answer = north.get("north/reports/opt-outs?line=main&limit=5")
        assert len(answer.body["items"]) == 5
        numbers = {pk: count for pk, count in units.reads.items() if "#NUMBER#" in pk}
        assert set(numbers.values()) == {1}
        assert len(numbers) == 5
        index = {pk: count for pk, count in units.reads.items() if pk.endswith("#OPTOUT#main")}
        assert index == {"PRACTICE#north#OPTOUT#main": 0.5}
        # And the practice.
        assert sum(units.reads.values()) == 1 + 0.5 + 5
        assert units.operations == ["GetItem", "Query", "BatchGetItem"]


class TestConsent:
    """What a reply costs, whoever has its number."""

    @pytest.mark.parametrize("text", ["STOP", "START", "please stop texting me"])
    def test_it_costs_the_same_whether_one_patient_has_the_number_or_five_hundred(
        self, north: Service, text: str
    ) -> None:
        assert north.record_replies(reply("STOP", "message-0", number="+15035550199")) == []
        put_phones(north, 2)
        for n in range(499):
            table.put({"PK": table.number_pk("north", "+15035550201"), "SK": f"PATIENT#q-{n:03}"})
        costs = []
        for number in ("+15035550200", "+15035550201"):
            with used() as units:
                assert north.record_replies(reply(text, number=number)) == []
            assert units.operations.count("TransactWriteItems") == 1
            reads, writes = sum(units.reads.values()), sum(units.writes.values())
            costs.append((units.operations, reads, writes))
        assert costs[0] == costs[1]

    def test_an_opt_out_writes_state_history_index_and_that_the_reply_was_heard(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", "message-0", number="+15035550199")) == []
        with used() as units:
            assert north.record_replies(reply("STOP")) == []
        assert units.reads == {"LINE#+15035559000": 1}
        # Four items of under 1 KB in one transaction, the history's with an index.
        assert units.writes == {table.number_pk("north", CELL): 2 + 2 * 2 + 2 + 2}
        assert units.operations == ["BatchGetItem", "TransactWriteItems"]

    def test_what_asks_for_nothing_costs_the_reading_of_its_line(self, north: Service) -> None:
        with used() as units:
            assert north.record_replies(reply("see you Monday"), reply("", "message-2")) == []
        assert (units.reads, units.writes) == ({"LINE#+15035559000": 1}, {})

    def test_a_receipt_that_says_nothing_new_costs_one_unit_and_the_reading_of_its_line(self, north: Service) -> None:
        with used() as units:
            assert north.record_receipts(receipt("TEXT_DELIVERED"), receipt("TEXT_SENT")) == []
        assert units.reads == {"LINE#+15035559000": 1, table.number_pk("north", CELL): 1}
        assert units.writes == {}


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


def started(service: Service, path: str, body: object) -> tuple[str, dict[str, Any]]:
    """Start a bulk, and give its path and the event by which its list is read."""
    answer = service.post(f"north/{path}", body, headers=KEY)
    assert answer.status == 202, answer
    (event,) = Work(service).queued()
    return answer.headers["location"].removeprefix("/v1/practices/"), event


def of_bulks(units: dict[str, float]) -> float:
    return sum(count for pk, count in units.items() if "#BULK#" in pk)


class TestBulks:
    """What a list costs: as much as its patients do, and a few units for a hundred of them."""

    PATIENTS = 20

    @pytest.fixture(autouse=True)
    def file(self, north: Service) -> None:
        for n in range(self.PATIENTS):
            body = {"phones": [{"number": f"+150355502{n:02}", "line_type": "text_enabled"}], "emails": []}
            assert north.put(f"north/patients/q-{n}/contact-info", body).status == 200
        north.new_stream_records()

    def ids(self) -> list[str]:
        return [f"q-{n}" for n in range(self.PATIENTS)]

    def chunk(self, service: Service, path: str, body: object) -> tuple[str, str]:
        """Start a bulk whose list is one chunk; give its path, and the chunk."""
        path, event = started(service, path, body)
        assert service.run("StartBulkFunction", event) == []
        (chunk,) = Work(service).chunks()
        return path, chunk

    @pytest.mark.parametrize("strangers", [0, 10])
    def test_a_chunk_costs_a_decision_for_each_patient_and_its_count_once(self, north: Service, strangers: int) -> None:
        ids = self.ids() + [f"nobody-{n}" for n in range(strangers)]
        _, chunk = self.chunk(north, "broadcasts", BROADCAST | {"patient_ids": ids})
        with used() as units:
            assert north.run("RouteBatchFunction", chunk) == []
        # The bulk, its content, and whether the chunk is done.
        assert of_bulks(units.reads) == 3
        assert units.of_patients(units.reads) == 2 * self.PATIENTS + strangers
        assert sum(units.reads.values()) == 1 + 3 + 2 * self.PATIENTS + strangers
        decisions = [item for item in north.items() if item["SK"]["S"].startswith("DECISION#")]
        assert units.of_patients(units.writes) == sum(kilobytes(size(each)) + 1 for each in decisions)
        # Who is in it, and in one transaction what became of them and its counts.
        assert of_bulks(units.writes) == 1 + 2 + 2
        assert units.operations.count("TransactWriteItems") == 1

    def test_a_chunk_that_comes_again_costs_the_reading_of_its_bulk(self, north: Service) -> None:
        _, chunk = self.chunk(north, "broadcasts", BROADCAST | {"patient_ids": self.ids()})
        assert north.run("RouteBatchFunction", chunk) == []
        with used() as units:
            assert north.run("RouteBatchFunction", chunk) == []
        assert units.operations == ["BatchGetItem"]
        assert (sum(units.reads.values()), units.writes) == (4, {})

    def test_a_dry_run_writes_a_mark_for_each_patient(self, north: Service) -> None:
        over = BROADCAST | {"patient_ids": self.ids()}
        _, chunk = self.chunk(north, "broadcasts?dry_run=true", over)
        with used() as units:
            assert north.run("RouteBatchFunction", chunk) == []
        assert sum(units.reads.values()) == 1 + 3 + 2 * self.PATIENTS
        assert units.of_patients(units.writes) == self.PATIENTS
        assert of_bulks(units.writes) == 2 + 2

    @pytest.mark.parametrize("rows", [10, 5_000])
    def test_reading_a_list_costs_the_table_the_same_whatever_its_length(self, north: Service, rows: int) -> None:
        key = upload(north, csv_of(f"q-{n}" for n in range(rows)))
        _, event = started(north, "campaigns", CAMPAIGN | {"list": {"key": key}})
        with used() as units:
            assert north.run("StartBulkFunction", event) == []
        assert len(Work(north).chunks()) == max(1, rows // 100)
        assert units.operations == ["GetItem", "TransactWriteItems", "TransactWriteItems"]
        assert (sum(units.reads.values()), sum(units.writes.values())) == (1, 2 + 2)

    def test_what_became_of_messages_of_a_chunk_is_counted_together(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        _, chunk = self.chunk(north, "broadcasts", BROADCAST | {"patient_ids": self.ids()})
        assert north.run("RouteBatchFunction", chunk) == []
        assert send(north, *to_send(north)) == []
        records = north.new_stream_records()
        with used() as units:
            assert north.publish(records) == []
        assert of_bulks(units.reads) == 1
        assert of_bulks(units.writes) == 2 + 2
        assert units.operations.count("TransactWriteItems") == 1

    def test_progress_costs_two_units_and_a_page_of_recipients_one_more_for_its_chunks(self, north: Service) -> None:
        path, chunk = self.chunk(north, "broadcasts", BROADCAST | {"patient_ids": self.ids()})
        assert north.run("RouteBatchFunction", chunk) == []
        for part, reads in (("", 2), ("/recipients", 3), ("/unreachable", 3)):
            with used() as units:
                assert north.get(path + part).status == 200
            assert (sum(units.reads.values()), units.writes) == (reads, {})

    def test_a_broadcast_takes_its_texts_of_the_day_as_it_starts(self, north: Service) -> None:
        with used() as units:
            answer = north.post("north/broadcasts", BROADCAST | {"patient_ids": self.ids()}, headers=KEY)
        assert answer.status == 202
        # The practice, and whether it was started before.
        assert units.operations == ["GetItem", "GetItem", "TransactWriteItems"]
        assert (sum(units.reads.values()), sum(units.writes.values())) == (2, 3 * 2)


def test_no_route_and_no_event_scans_the_table(waiting: Service) -> None:
    invoked: list[str] = []
    invoke = waiting.runtime.invoke

    def noted(name: str, event: dict[str, Any]) -> Any:
        invoked.append(name)
        return invoke(name, event)

    with pytest.MonkeyPatch.context() as runtime, used() as units:
        runtime.setattr(waiting.runtime, "invoke", noted)
        assert waiting.post(f"{PATIENT}/messages", MANUAL_TEXT, headers={"idempotency-key": "key-1"}).status == 202
        assert waiting.put("north", CLINIC).status == 200
        leave_unknown(waiting, "key-2")
        context = {"practice_id": "north", "patient_id": "p-1", "message_id": "manual:key-2"}
        attempt = waiting.get(f"{PATIENT}/decisions/manual:key-2").body["attempt"]
        assert waiting.record_receipts(receipt("TEXT_SENT", context=context | {"attempt": attempt})) == []
        assert waiting.post(f"{PATIENT}/messages", MANUAL_TEXT, headers={"idempotency-key": "key-3"}).status == 202
        assert send(waiting, *to_send(waiting), "junk") == []
        for key, body in EVERY_ROUTE.items():
            assert waiting.request(key, body).status in (200, 202, 204), key
        waiting.post("north/patients/search", {"patient_id": "p-1"})
        waiting.post("north/patients/search", {"phone_number": CELL})
        for path in ("reports/opt-outs?line=main&since=2026-01-01", "consent-reviews", "automations"):
            assert waiting.get(f"north/{path}", headers={"accept": "text/csv"}).status == 200
        assert waiting.put("north/automations/reminder", REMINDER).status == 200
        assert waiting.import_csv(CSV_FILE, dry_run=True).status == 200
        # A number that waits for the carrier is asked for again.
        body = {"phones": [{"number": THROTTLES_TWICE}], "emails": []}
        assert waiting.put("north/patients/p-2/contact-info", body).status == 200
        waiting.run("LookUpNumberFunction", *waiting.waiting_lookups(), "junk")
        waiting.run_automations(trigger(), trigger("p-9"), "junk")
        said = ("STOP", "START", "please stop texting me", "HELP", "STOP")
        for n, text in enumerate(said):
            assert waiting.record_replies(reply(text, f"said-{n}"), reply(text, f"said-{n}"), "junk") == []
        context = {"practice_id": "north", "patient_id": "p-1", "message_id": "manual:key-1"}
        about = receipt("TEXT_INVALID", "provider-3", context=context, destinationPhoneNumber=None)
        assert waiting.record_receipts(receipt("TEXT_UNREACHABLE"), receipt(), about, "junk") == []
        waiting.runtime.invoke("WatchDueFunction", {})
        assert waiting.post("north/broadcasts", BROADCAST, headers={"idempotency-key": "key-4"}).status == 202
        assert len(Work(waiting).route()) > 1
        for path in BULKS:
            for part in ("recipients?outcome=deliver&limit=1", "unreachable"):
                for accept in ("application/json", "text/csv"):
                    answer = waiting.get(f"north/{path}/{BULKS[path]}/{part}", headers={"accept": accept})
                    assert answer.status == 200
        page = json.loads((EVENTS / "page.ok.json").read_text())
        assert waiting.runtime.invoke("PageFunction", page)["statusCode"] == 200
        assert waiting.run("StartBulkFunction", "junk") == waiting.run("RouteBatchFunction", "junk") == []
        waiting.publish(waiting.new_stream_records())
    assert set(invoked) == {function.name for function in waiting.functions}
    assert set(units.operations) == {
        "BatchGetItem",
        "DeleteItem",
        "GetItem",
        "PutItem",
        "Query",
        "TransactWriteItems",
        "UpdateItem",
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
