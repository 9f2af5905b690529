"""The store: versions and change records, who shares a number, writers at once, a table that is busy."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from moto.dynamodb.models.dynamo_type import Item

from patient_contact import aws, clock, consents, patients, practices, table
from patient_contact.content import Content
from patient_contact.facesheet import Patient, Practice
from patient_contact.facts import Email, Phone
from patient_contact.patients import Actor, Gathered, StaleVersion
from patient_contact.table import ConditionFailed, Contended, TableUnavailable
from tests.integration.service import (
    BUSY,
    CELL,
    CONTACT_INFO,
    LANDLINE,
    PRACTICE,
    Service,
    client_error,
    fault,
    throttled,
    trigger,
)

STAFF = Actor("staff-7")


def silence(patient: Patient | None) -> Patient:
    assert patient
    return replace(patient, do_not_contact=not patient.do_not_contact)


def known(patient_id: str = "p-1") -> Patient:
    patient = patients.read("north", patient_id)
    assert patient
    return patient


def all_changes(patient_id: str = "p-1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page, after = patients.list_changes("north", patient_id, 100, after)
        found += page
        if after is None:
            return found


@pytest.mark.usefixtures("north")
class TestWritersAtOnce:
    def test_eight_threads_change_one_patient_two_hundred_times_and_nothing_is_lost(
        self, north: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # moto copies the whole table with every transaction. Items that are only put need no copies of their own.
        monkeypatch.setattr(Item, "__deepcopy__", lambda item, _: item, raising=False)

        def rename(n: int) -> int:
            def edit(patient: Patient | None) -> Patient:
                assert patient
                return replace(patient, emails=(Email(f"{n}@example.org"),))

            changed = patients.change("north", "p-1", "contact_info", edit, Actor(f"staff-{n}"))
            # As the stream's poller would: moto copies what is in the stream with every transaction.
            north.new_stream_records()
            return changed.version

        with ThreadPoolExecutor(8) as threads:
            versions = list(threads.map(rename, range(200)))
        assert sorted(versions) == list(range(2, 202))
        assert known().version == 201
        changes = all_changes()
        assert [change["version"] for change in changes] == list(range(201, 0, -1))
        by_version = {f"staff-{n}": version for n, version in enumerate(versions)}
        assert {change["by"]: change["version"] for change in changes[:-1]} == by_version
        # Each change goes on from where the one before it ended: nobody wrote over another.
        for later, earlier in pairwise(changes):
            assert later["old"] == earlier["new"]

    def test_two_writers_of_different_things_both_land(self) -> None:
        raced: list[Patient] = []

        def prefer(patient: Patient | None) -> Patient:
            assert patient
            if not raced:
                # Another writer comes between this one's read and its write.
                raced.append(patients.change("north", "p-1", "do_not_contact", silence, Actor("staff-8")))
            return replace(patient, preferred_contact=CELL)

        after = patients.change("north", "p-1", "preferred_contact", prefer, STAFF)
        assert (after.version, after.preferred_contact, after.do_not_contact) == (3, CELL, True)
        assert [(change["version"], change["by"], change["what"]) for change in all_changes()] == [
            (3, "staff-7", "preferred_contact"),
            (2, "staff-8", "do_not_contact"),
            (1, "staff-7", "contact_info"),
        ]

    def test_a_writer_with_if_match_who_is_overtaken_is_refused_and_changes_nothing(self) -> None:
        def overtaken(patient: Patient | None) -> Patient:
            assert patient
            if patient.version == 1:
                patients.change("north", "p-1", "do_not_contact", silence, Actor("staff-8"))
            return replace(patient, preferred_contact=CELL)

        with pytest.raises(StaleVersion):
            patients.change("north", "p-1", "preferred_contact", overtaken, Actor("staff-7", '"1"'))
        assert (known().version, known().preferred_contact) == (2, None)
        assert [change["by"] for change in all_changes()] == ["staff-8", "staff-7"]

    def test_ten_who_create_one_patient_at_once_make_one_patient_with_ten_changes(self) -> None:
        def create(n: int) -> int:
            def edit(patient: Patient | None) -> Patient:
                return replace(patient or patients.new_patient("north", "p-2"), phones=(Phone(f"+1503555010{n}"),))

            return patients.change("north", "p-2", "contact_info", edit, STAFF).version

        with ThreadPoolExecutor(10) as threads:
            assert sorted(threads.map(create, range(10))) == list(range(1, 11))
        assert len(all_changes("p-2")) == 10
        assert all_changes("p-2")[-1]["old"] is None

    def test_two_practices_that_claim_one_number_at_once_do_not_both_get_it(self) -> None:
        practice = practices.read("north")
        assert practice
        line = replace(practice.lines[0], phone_number="+15035559100")

        def claim(n: int) -> bool:
            try:
                practices.put(replace(practice, practice_id=f"new-{n}", lines=(line,)))
            except practices.LineTaken:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(claim, range(8))) == 1
        assert sum(practices.read(f"new-{n}") is not None for n in range(8)) == 1

    def test_practices_that_are_put_at_once_all_land_one_after_the_other(self) -> None:
        practice = practices.read("north")
        assert practice
        with ThreadPoolExecutor(8) as threads:
            put = threads.map(lambda n: practices.put(replace(practice, name=f"Name {n}")), range(8))
            assert sorted(each.version for each in put) == list(range(practice.version + 1, practice.version + 9))

    def test_a_line_is_not_removed_while_an_automation_that_names_it_is_registered(self) -> None:
        practice = practices.read("north")
        assert practice
        automation = practices.Automation(
            "dues", "Dues", practice.lines[1].id, enabled=True, content=Content({"call": "Hi"})
        )
        registered: list[int] = []

        def register(request: dict[str, Any]) -> None:
            if not registered:
                registered.append(1)
                practices.put_automation("north", automation)

        with fault(aws.dynamodb(), "TransactWriteItems", register), pytest.raises(practices.LineInUse):
            practices.put(replace(practice, lines=practice.lines[:1]))
        assert registered
        assert practices.read_automation("north", "dues") == automation

    def test_an_automation_is_not_registered_while_the_line_that_it_names_is_removed(self) -> None:
        practice = practices.read("north")
        assert practice
        automation = practices.Automation(
            "dues", "Dues", practice.lines[1].id, enabled=True, content=Content({"call": "Hi"})
        )
        removed: list[int] = []

        def remove(request: dict[str, Any]) -> None:
            if not removed:
                removed.append(1)
                practices.put(replace(practice, lines=practice.lines[:1]))

        with fault(aws.dynamodb(), "TransactWriteItems", remove), pytest.raises(practices.LineMoved):
            practices.put_automation("north", automation)
        assert removed
        assert practices.read_automation("north", "dues") is None

    def test_a_line_whose_number_moves_while_an_opt_out_is_recorded_on_it_is_no_failure_of_ours(
        self, north: Service
    ) -> None:
        moved: list[int] = []

        def move(request: dict[str, Any]) -> None:
            if request["Key"]["PK"]["S"].startswith("LINE#") and not moved:
                moved.append(1)
                practice = practices.read("north")
                assert practice
                lines = (replace(practice.lines[0], phone_number="+15035559077"), practice.lines[1])
                practices.put(replace(practice, lines=lines))

        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        with fault(aws.dynamodb(), "GetItem", move):
            answer = north.put("north/patients/p-1/sms-consent", body)
        assert moved
        assert answer.status in (200, 409, 422, 503)


class TestChangeRecords:
    def test_a_record_is_never_written_over(self, north: Service) -> None:
        first = [item for item in north.items() if item["SK"]["S"] == "CHANGE#0000000001"]
        for _ in range(3):
            patients.change("north", "p-1", "do_not_contact", silence, STAFF)
        assert [item for item in north.items() if item["SK"]["S"] == "CHANGE#0000000001"] == first
        assert [item["SK"]["S"] for item in north.items() if item["SK"]["S"].startswith("CHANGE#")] == [
            f"CHANGE#{version:010}" for version in range(1, 5)
        ]

    def test_an_edit_that_gives_back_the_same_patient_writes_nothing(self, north: Service) -> None:
        before = north.items()
        assert patients.change("north", "p-1", "contact_info", lambda patient: patient or known(), STAFF) == known()
        assert north.items() == before

    def test_what_an_edit_raises_comes_through_and_nothing_is_written(self, north: Service) -> None:
        before = north.items()

        def refuse(patient: Patient | None) -> Patient:
            raise KeyError

        with pytest.raises(KeyError):
            patients.change("north", "p-1", "contact_info", refuse, STAFF)
        assert north.items() == before

    def test_changes_and_consent_never_expire(self, north: Service) -> None:
        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put("north/patients/p-1/sms-consent", body).status == 200
        assert not [item for item in north.items() if "expires_at" in item]


class TestSharing:
    def sharing(self, number: str) -> list[str]:
        return patients.sharing("north", number, 100, None)[0]

    def test_who_shares_a_number_follows_what_is_on_file(self, north: Service) -> None:
        path = "north/patients/p-2/contact-info"
        assert north.put(path, {"phones": [{"number": CELL}], "emails": []}).status == 200
        assert (self.sharing(CELL), self.sharing(LANDLINE)) == (["p-1", "p-2"], ["p-1"])
        assert north.put(path, {"phones": [{"number": LANDLINE}], "emails": []}).status == 200
        assert (self.sharing(CELL), self.sharing(LANDLINE)) == (["p-1"], ["p-1", "p-2"])
        assert north.put(path, {"phones": [], "emails": []}).status == 200
        assert (self.sharing(CELL), self.sharing(LANDLINE)) == (["p-1"], ["p-1"])

    def test_junk_is_shared_by_nobody(self, north: Service) -> None:
        path = "north/patients/p-2/contact-info"
        assert north.put(path, {"phones": [{"number": "555 CALL ME"}], "emails": []}).status == 200
        assert not [item for item in north.items() if item["SK"]["S"] == "PATIENT#p-2"]

    def test_a_full_file_is_replaced_by_another_in_one_write(self, north: Service) -> None:
        path = "north/patients/p-2/contact-info"
        for prefix in ("+150355512", "+150355513"):
            phones = [{"number": f"{prefix}{n:02}"} for n in range(20)]
            assert north.put(path, {"phones": phones, "emails": []}).status == 200
        assert self.sharing("+15035551200") == []
        assert self.sharing("+15035551319") == ["p-2"]


@pytest.mark.usefixtures("north")
class TestTransactions:
    def test_one_that_is_cancelled_leaves_nothing(self, north: Service) -> None:
        before = north.items()
        key = (table.patient_pk("north", "p-1"), "PATIENT")
        operations = [
            table.put_op({"PK": "PRACTICE#north#PATIENT#p-9", "SK": "PATIENT", "version": 1}),
            table.check_op(key, "version = :seen", seen=7),
            table.delete_op((table.practice_pk("north"), "PRACTICE")),
        ]
        with pytest.raises(ConditionFailed) as failed:
            table.transact(operations)
        assert failed.value.failed == (1,)
        assert north.items() == before

    @pytest.mark.parametrize(
        ("reasons", "error"),
        [
            (["None", "TransactionConflict"], Contended),
            (["ConditionalCheckFailed", "TransactionConflict"], Contended),
            (["None", "ThrottlingError"], TableUnavailable),
            (["ProvisionedThroughputExceeded", "ConditionalCheckFailed"], TableUnavailable),
            (["None", "ConditionalCheckFailed"], ConditionFailed),
        ],
    )
    def test_why_one_was_cancelled_is_told_apart(self, reasons: list[str], error: type[Exception]) -> None:
        response, parsed = client_error("TransactionCanceledException")
        parsed["CancellationReasons"] = [{"Code": reason} for reason in reasons]
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: (response, parsed)):
            with pytest.raises(error):
                table.transact([table.put_op({"PK": "TEST", "SK": "TEST"})])

    def test_a_conflict_is_tried_again_until_it_is_over(self) -> None:
        response, parsed = client_error("TransactionCanceledException")
        parsed["CancellationReasons"] = [{"Code": "TransactionConflict"}]
        conflicts = iter([True, True, True])

        def conflict(_: object) -> Any:
            return (response, parsed) if next(conflicts, False) else None

        with fault(aws.dynamodb(), "TransactWriteItems", conflict) as requests:
            assert patients.change("north", "p-1", "do_not_contact", silence, STAFF).version == 2
        assert len(requests) == 4

    def test_a_single_conflict_is_tried_again_by_every_writer(self, north: Service) -> None:
        for key, body in (
            ("PUT /v1/practices/{practice_id}", PRACTICE),
            (
                "PUT /v1/practices/{practice_id}/patients/{patient_id}/sms-consent",
                {"phone_number": CELL, "line": "main", "status": "opted_out"},
            ),
        ):
            conflicts = iter([True])

            def conflict(_: object, conflicts: Any = conflicts) -> Any:
                return client_error("TransactionConflictException") if next(conflicts, False) else None

            with fault(aws.dynamodb(), "TransactWriteItems", conflict) as requests:
                assert north.request(key, body).status == 200
            assert len(requests) >= 2


@pytest.mark.usefixtures("north")
class TestConsents:
    def practice(self) -> Practice:
        practice = practices.read("north")
        assert practice
        return practice

    def opt_out(self, said_at: str, if_match: str | None = None) -> None:
        out = consents.OptOut(CELL, "main", "staff", "staff-7", said_at)
        consents.record_opt_out(self.practice(), out, known(), if_match)

    def number(self) -> dict[str, Any]:
        item = table.get((table.number_pk("north", CELL), "NUMBER"))
        assert item
        return item

    def test_state_history_and_the_index_of_opt_outs_are_written_together(self, north: Service) -> None:
        self.opt_out("2026-01-02T00:00:00.000000Z")
        items = [item for item in north.items() if item["PK"]["S"] == table.number_pk("north", CELL)]
        assert [item["SK"]["S"].rpartition("#")[0] or item["SK"]["S"] for item in items] == [
            "CONSENT#main#2026-01-02T00:00:00.000000Z",
            "NUMBER",
            "OPTOUT",
            "PATIENT",
        ]
        (indexed,) = (item for item in items if item["SK"]["S"] == "OPTOUT#main")
        assert indexed["GSI1PK"] == {"S": "PRACTICE#north#OPTOUT#main"}
        assert indexed["GSI1SK"] == {"S": f"2026-01-02T00:00:00.000000Z#{CELL}"}

    def test_what_was_said_later_stays_in_force_and_what_was_said_earlier_is_history(self, north: Service) -> None:
        later = {"status": "opted_in", "source": "keyword", "said_at": "2026-01-03T00:00:00.000000Z"}
        table.put(
            {
                "PK": table.number_pk("north", CELL),
                "SK": "NUMBER",
                "CONSENT#main": later | {"recorded_at": "2026-01-03T00:00:01.000000Z"},
            }
        )
        self.opt_out("2026-01-02T00:00:00.000000Z")
        assert self.number()["CONSENT#main"]["status"] == "opted_in"
        kept = [item["SK"]["S"] for item in north.items() if item["PK"]["S"] == table.number_pk("north", CELL)]
        assert sum(sk.startswith("CONSENT#main#2026-01-02") for sk in kept) == 1
        assert "OPTOUT#main" not in kept

    def test_on_a_tie_the_opt_out_wins(self) -> None:
        at = "2026-01-02T00:00:00.000000Z"
        opted_in = {"status": "opted_in", "source": "keyword", "said_at": at, "recorded_at": at}
        table.put({"PK": table.number_pk("north", CELL), "SK": "NUMBER", "CONSENT#main": opted_in})
        self.opt_out(at)
        assert self.number()["CONSENT#main"]["status"] == "opted_out"

    def test_lines_and_what_else_is_known_of_the_number_stay(self) -> None:
        table.put({"PK": table.number_pk("north", CELL), "SK": "NUMBER", "line_type": "landline", "status": "invalid"})
        self.opt_out("2026-01-02T00:00:00.000000Z")
        assert (self.number()["line_type"], self.number()["status"]) == ("landline", "invalid")

    def test_a_patient_who_changes_before_the_opt_out_is_written_makes_if_match_stale(self, north: Service) -> None:
        seen = known()
        patients.change("north", "p-1", "do_not_contact", silence, STAFF)
        before = north.items()
        out = consents.OptOut(CELL, "main", "staff", "staff-7", clock.iso(datetime.now(UTC)))
        with pytest.raises(StaleVersion):
            consents.record_opt_out(self.practice(), out, seen, '"1"')
        # The line may be marked as one that has consent; nothing of the consent itself is written.
        assert [item for item in north.items() if not item["PK"]["S"].startswith("LINE#")] == [
            item for item in before if not item["PK"]["S"].startswith("LINE#")
        ]

    def test_opt_outs_at_once_all_land(self, north: Service) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: self.opt_out(f"2026-01-02T00:00:0{n}.000000Z"), range(8)))
        assert self.number()["CONSENT#main"]["said_at"] == "2026-01-02T00:00:07.000000Z"
        kept = [item["SK"]["S"] for item in north.items() if item["SK"]["S"].startswith("CONSENT#")]
        assert len(kept) == 8


def leave_unprocessed(service: Service, times: int, *prefixes: str) -> Any:
    """Let BatchGetItem leave keys with these prefixes unprocessed, so many times."""
    left = [times]

    def after_call(parsed: dict[str, Any], **_: object) -> None:
        if left[0] == 0:
            return
        left[0] -= 1
        name = service.environment["TABLE_NAME"]
        keys = [{"PK": item["PK"], "SK": item["SK"]} for item in parsed["Responses"][name]]
        unprocessed = [key for key in keys if key["PK"]["S"].startswith(prefixes)]
        parsed["Responses"][name] = [
            item for item in parsed["Responses"][name] if {"PK": item["PK"], "SK": item["SK"]} not in unprocessed
        ]
        if unprocessed:
            parsed["UnprocessedKeys"] = {name: {"Keys": unprocessed, "ConsistentRead": True}}

    return after_call


class TestBatchReads:
    @pytest.fixture
    def unprocessed(self, north: Service) -> Any:
        hooks: list[Any] = []
        name = "after-call.dynamodb.BatchGetItem"

        def leave(times: int, *prefixes: str) -> None:
            hooks.append(leave_unprocessed(north, times, *prefixes))
            aws.dynamodb().meta.events.register(name, hooks[-1])

        yield leave
        for hook in hooks:
            aws.dynamodb().meta.events.unregister(name, hook)

    def test_keys_left_unprocessed_are_asked_for_again(self, north: Service, unprocessed: Any) -> None:
        assert north.put("north/patients/p-2/contact-info", CONTACT_INFO).status == 200
        unprocessed(2, "PRACTICE#north#PATIENT#p-1")
        with fault(aws.dynamodb(), "BatchGetItem", lambda _: None) as requests:
            assert north.run_automations(trigger(), trigger("p-2"), trigger("p-9")) == [2]
        asked = [[key["PK"]["S"] for key in next(iter(each["RequestItems"].values()))["Keys"]] for each in requests]
        assert asked[:3] == [
            [f"PRACTICE#north#PATIENT#p-{n}" for n in (1, 2, 9)],
            ["PRACTICE#north#PATIENT#p-1"],
            ["PRACTICE#north#PATIENT#p-1"],
        ]

    @pytest.mark.usefixtures("time_flies")
    def test_what_stays_unprocessed_fails_its_own_records_and_is_never_taken_for_unknown(
        self, north: Service, unprocessed: Any
    ) -> None:
        for patient_id, number in (("p-2", "+15035550120"), ("p-3", "+15035550121")):
            contact_info = {"phones": [{"number": number}], "emails": []}
            assert north.put(f"north/patients/{patient_id}/contact-info", contact_info).status == 200
            opt_out = {"phone_number": number, "line": "main", "status": "opted_out"}
            assert north.put(f"north/patients/{patient_id}/sms-consent", opt_out).status == 200
        unprocessed(-1, "PRACTICE#north#PATIENT#p-1", "PRACTICE#north#NUMBER#+15035550121")
        batch = [trigger("p-1"), trigger("p-2"), trigger("p-3"), trigger("p-9")]
        # On the last receive the reason tells: not read is not the same as not there.
        assert north.run_automations(*batch, receives=5) == []
        assert sorted(reason for reason, _ in north.dead_letters()) == [
            "gave up: TableUnavailable",
            "gave up: TableUnavailable",
            "gave up: unknown patient",
        ]
        decided = [item["PK"]["S"] for item in north.items() if item["SK"]["S"].startswith("DECISION#")]
        assert decided == ["PRACTICE#north#PATIENT#p-2"]

    def test_more_than_a_hundred_keys_are_read_in_calls_of_a_hundred(self, north: Service) -> None:
        phones = [{"number": f"+150355512{n:02}"} for n in range(20)]
        for n in range(2):
            body = {"phones": phones, "emails": []}
            assert north.put(f"north/patients/q-{n}/contact-info", body).status == 200
        wanted = [("north", f"q-{n}") for n in range(120)]
        with fault(aws.dynamodb(), "BatchGetItem", lambda _: None) as requests:
            found = patients.gather(wanted).people
        sizes = [len(next(iter(each["RequestItems"].values()))["Keys"]) for each in requests]
        # Numbers that patients share are read once.
        assert sizes == [100, 20, 20]
        assert sum(isinstance(each, Gathered) for each in found.values()) == 2
        assert sum(each is None for each in found.values()) == 118

    def test_a_throttled_call_is_tried_again(self, north: Service) -> None:
        throttles = iter([True, True])

        def throttle(_: object) -> Any:
            return client_error("ThrottlingException") if next(throttles, False) else None

        with fault(aws.dynamodb(), "BatchGetItem", throttle):
            assert north.run_automations(trigger()) == []
        assert len(north.get("north/patients/p-1/decisions").body["items"]) == 1


def test_a_throttled_write_is_busy_and_changes_nothing(north: Service) -> None:
    before = north.items()
    with throttled("TransactWriteItems"):
        assert north.put("north/patients/p-1/contact-info", {"phones": [], "emails": []}) == BUSY
    assert north.items() == before


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "",
        "é☎\u0000",
        True,
        False,
        None,
        0,
        -7,
        10**20,
        [],
        {},
        [1, "a", None, {"b": [True]}],
        {"a": {"b": {"c": []}}},
    ],
)
def test_a_value_reads_back_as_it_was_put(service: Service, value: object) -> None:
    item = {"PK": "TEST", "SK": "TEST", "value": value}
    table.put(item)
    assert table.get(("TEST", "TEST")) == item
