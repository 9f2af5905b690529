"""The store: versions and change records, who shares a number, consent, reads that decide, a table that is busy."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest
from moto.dynamodb.models.dynamo_type import Item

from patient_contact import aws, consents, numbers, patients, practices, table
from patient_contact.consent import Said, Wish
from patient_contact.consents import NumberLine
from patient_contact.content import Content
from patient_contact.facesheet import Patient
from patient_contact.facts import Email, Phone
from patient_contact.patients import Actor, Gathered, StaleVersion
from patient_contact.table import ConditionFailed, Contended, TableUnavailable
from patient_contact.verdict import Evidence, Verdict
from tests.integration.sending import CLINIC, routed, send, to_send
from tests.integration.service import (
    BUSY,
    CELL,
    CONTACT_INFO,
    CSV_HEADER,
    LANDLINE,
    MANUAL_TEXT,
    PRACTICE,
    STALE,
    Service,
    client_error,
    fault,
    reply,
    throttled,
    trigger,
)

STAFF = Actor("staff-7")
KNOWN = Verdict("invalid", "landline", "2026-01-01T00:00:00.000000Z", "LANDLINE", vouched_at="2026-01-01")
LOOKED_UP = Evidence("lookup", "LANDLINE", "2026-01-01T00:00:00.000000Z")


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
            (asked,) = request["RequestItems"].values()
            if [key["SK"]["S"] for key in asked["Keys"]] == ["LINE"] and not moved:
                moved.append(1)
                practice = practices.read("north")
                assert practice
                lines = (replace(practice.lines[0], phone_number="+15035559077"), practice.lines[1])
                practices.put(replace(practice, lines=lines))

        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        before = [item for item in north.items() if "#NUMBER#" in item["PK"]["S"]]
        with fault(aws.dynamodb(), "BatchGetItem", move):
            answer = north.put("north/patients/p-1/sms-consent", body)
        assert moved
        assert (answer.status, answer.body["type"]) == (409, "urn:patient-contact:problem:line-moved")
        assert [item for item in north.items() if "#NUMBER#" in item["PK"]["S"]] == before

    def test_a_line_that_moves_just_before_it_is_marked_is_no_failure_of_ours_either(self, north: Service) -> None:
        moved: list[int] = []

        def move(request: dict[str, Any]) -> None:
            if request["TransactItems"][0].get("Update", {}).get("Key", {}).get("SK") == {"S": "LINE"} and not moved:
                moved.append(1)
                practice = practices.read("north")
                assert practice
                lines = (replace(practice.lines[0], phone_number="+15035559077"), practice.lines[1])
                practices.put(replace(practice, lines=lines))

        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        with fault(aws.dynamodb(), "TransactWriteItems", move):
            answer = north.put("north/patients/p-1/sms-consent", body)
        assert moved
        assert (answer.status, answer.body["type"]) == (409, "urn:patient-contact:problem:line-moved")
        assert not [item for item in north.items() if item["SK"]["S"] == "NUMBER"]


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
        return numbers.sharing("north", number, 100, None)[0]

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
        assert failed.value.items == {}
        assert north.items() == before

    def test_one_that_finds_another_item_than_it_expected_says_what_it_found(self) -> None:
        key, missing = (table.patient_pk("north", "p-1"), "PATIENT"), (table.patient_pk("north", "p-9"), "PATIENT")
        operations = [
            table.put_op({"PK": "TEST", "SK": "TEST"}),
            table.update_op(key, "SET version = :next", "version = :seen", next=8, seen=7),
            table.update_op(missing, "SET version = :next", "version = :seen", next=8, seen=7),
        ]
        with pytest.raises(ConditionFailed) as failed:
            table.transact(operations)
        assert failed.value.failed == (1, 2)
        assert failed.value.items == {1: table.get(key)}
        assert table.get(("TEST", "TEST")) is None

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


class TestUpdates:
    """One item, changed where it still is as it was read."""

    KEY = ("PRACTICE#north#PATIENT#p-1", "DECISION#manual:k")

    @pytest.fixture(autouse=True)
    def kept(self, north: Service) -> dict[str, Any]:
        item = {"PK": self.KEY[0], "SK": self.KEY[1], "state": "routed", "code": "old", "life": [{"n": 1}]}
        assert len(north.items()) > 1
        table.put(item)
        return item

    def test_it_sets_appends_and_removes_and_gives_the_item_as_it_then_is(self, kept: dict[str, Any]) -> None:
        changed = table.update(
            self.KEY,
            {"state": "sent", "delivery": {"status": "delivered"}},
            {"state": "routed"},
            append={"life": [{"n": 2}, {"n": 3}], "more": [{"n": 4}]},
            remove=["code", "attempt"],
        )
        expected = kept | {"state": "sent", "delivery": {"status": "delivered"}, "more": [{"n": 4}]}
        expected["life"] = [{"n": 1}, {"n": 2}, {"n": 3}]
        del expected["code"]
        assert changed == expected == table.get(self.KEY)

    @pytest.mark.parametrize(
        "expected",
        [{"state": "sent"}, {"code": None}, {"attempt": "a"}, {"state": "routed", "code": "new"}, {"life": []}],
    )
    def test_one_that_finds_the_item_otherwise_writes_nothing_and_says_what_is_there(
        self, kept: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        with pytest.raises(table.Holds) as holds:
            table.update(self.KEY, {"state": "sending"}, expected)
        assert holds.value.item == kept == table.get(self.KEY)

    def test_what_is_expected_not_to_be_there_may_be_set(self, kept: dict[str, Any]) -> None:
        changed = table.update(self.KEY, {"attempt": "a"}, {"attempt": None, "life": [{"n": 1}]})
        assert changed == kept | {"attempt": "a"}

    def test_it_makes_no_item(self) -> None:
        missing = (self.KEY[0], "DECISION#manual:other")
        with pytest.raises(table.Holds) as holds:
            table.update(missing, {"state": "sent"}, {"state": "routed"})
        assert holds.value.item == {}
        assert table.get(missing) is None

    def test_of_ten_at_once_one_changes_it(self) -> None:
        def claim(n: int) -> bool:
            try:
                table.update(self.KEY, {"state": "sending", "attempt": str(n)}, {"state": "routed"})
            except table.Holds:
                return False
            return True

        with ThreadPoolExecutor(10) as threads:
            assert sum(threads.map(claim, range(10))) == 1

    def test_a_busy_table_is_said_to_be(self, kept: dict[str, Any]) -> None:
        with throttled("UpdateItem"), pytest.raises(TableUnavailable):
            table.update(self.KEY, {"state": "sent"}, {"state": "routed"})
        assert table.get(self.KEY) == kept


@pytest.mark.usefixtures("north")
class TestConsents:
    def said(self, status: Wish, said_at: str, *, own: bool = False, id_: str = "staff-1") -> Said:
        return Said(id_, status, "keyword" if own else "staff", said_at, said_at, None if own else "staff-7", own)

    def opt_out(self, said_at: str, *, id_: str = "staff-1") -> None:
        consents.record(NumberLine("north", CELL, "main"), self.said("opted_out", said_at, id_=id_))

    def put(self, **attributes: object) -> None:
        """Put what is known of the number, as it is kept."""
        table.put({"PK": table.number_pk("north", CELL), "SK": "NUMBER", **attributes})

    def number(self) -> dict[str, Any]:
        item = table.get(table.number_key("north", CELL))
        assert item
        return item

    def of_number(self, service: Service) -> list[dict[str, Any]]:
        items = [item for item in service.items() if item["PK"]["S"] == table.number_pk("north", CELL)]
        return [table.decode_item(item) for item in items]

    def test_state_history_and_the_index_of_opt_outs_are_written_together(self, north: Service) -> None:
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: None) as requests:
            self.opt_out("2026-01-02T00:00:00.000000Z")
        assert len(requests) == 1
        at, pk = "2026-01-02T00:00:00.000000Z", table.number_pk("north", CELL)
        said = {"status": "opted_out", "source": "staff", "said_at": at, "recorded_at": at, "actor": "staff-7"}
        assert self.of_number(north) == [
            {
                "PK": pk,
                "SK": f"CONSENT#main#{at}#staff-1",
                "at": at,
                "line": "main",
                "in_force": "opted_out",
                **said,
            },
            {"PK": pk, "SK": "NUMBER", "CONSENT#main": {"id": "staff-1", "own": False, **said}},
            {
                "PK": pk,
                "SK": "OPTOUT#main",
                "GSI1PK": "PRACTICE#north#OPTOUT#main",
                # It is in cursors, and so in URLs: no number is in it.
                "GSI1SK": f"{at}#staff-1",
                **{name: value for name, value in said.items() if name != "status"},
            },
            {"PK": pk, "SK": "PATIENT#p-1"},
        ]

    @pytest.mark.parametrize("own", [False, True])
    def test_what_was_said_later_stays_in_force_and_what_was_said_earlier_is_history(
        self, north: Service, own: bool
    ) -> None:
        later = asdict(self.said("opted_in", "2026-01-03T00:00:00.000000Z", own=own, id_="later"))
        self.put(**{"CONSENT#main": later})
        self.opt_out("2026-01-02T00:00:00.000000Z")
        assert self.number()["CONSENT#main"] == later
        kept = {item["SK"]: item for item in self.of_number(north)}
        assert [sk for sk in kept if sk.startswith("CONSENT#main#2026-01-02")] == [
            "CONSENT#main#2026-01-02T00:00:00.000000Z#staff-1"
        ]
        assert kept["CONSENT#main#2026-01-02T00:00:00.000000Z#staff-1"]["in_force"] == "opted_in"
        assert "OPTOUT#main" not in kept

    def test_what_was_said_earlier_is_in_force_no_more_when_something_later_is_recorded(self, north: Service) -> None:
        self.put(**{"CONSENT#main": asdict(self.said("opted_in", "2026-01-01T00:00:00.000000Z", own=True))})
        self.opt_out("2026-01-02T00:00:00.000000Z", id_="staff-2")
        assert self.number()["CONSENT#main"]["status"] == "opted_out"
        assert "OPTOUT#main" in {item["SK"] for item in self.of_number(north)}

    @pytest.mark.parametrize("own", [False, True])
    def test_on_a_tie_the_opt_out_wins(self, own: bool) -> None:
        at = "2026-01-02T00:00:00.000000Z"
        self.put(**{"CONSENT#main": asdict(self.said("opted_in", at, own=own, id_="z"))})
        self.opt_out(at)
        assert self.number()["CONSENT#main"]["status"] == "opted_out"

    def test_an_opt_out_as_the_former_version_kept_it_is_one(self, north: Service) -> None:
        said_at, recorded_at = "2026-01-02T00:00:00.000000Z", "2026-01-02T00:00:01.000000Z"
        former = {"status": "opted_out", "source": "staff", "said_at": said_at, "recorded_at": recorded_at}
        self.put(**{"CONSENT#main": former | {"actor": "staff-7"}})
        shown = {"phone_number": CELL, "line": "main", "status": "opted_out", "source": "staff"}
        assert north.get("north/patients/p-1").body["sms_consent"] == {
            "status": "Opted Out of 1 numbers",
            "numbers": [shown | {"recorded_at": recorded_at}],
        }
        assert north.run_automations(trigger()) == []
        (decided,) = north.get("north/patients/p-1/decisions").body["items"]
        assert (decided["channel"], decided["reason"]) == ("call", "SMS_OPTED_OUT")
        # What was said before it does not end it, what the patient says since does.
        assert north.record_replies(reply("START", "message-1", at="2026-01-01T00:00:00.000Z")) == []
        assert north.get("north/patients/p-1").body["sms_consent"]["status"] == "Opted Out of 1 numbers"
        assert north.record_replies(reply("START", "message-2", at="2026-01-03T00:00:00.000Z")) == []
        assert north.get("north/patients/p-1").body["sms_consent"]["status"] == "Opted In"

    def test_lines_and_what_else_is_known_of_the_number_stay(self) -> None:
        assert numbers.change_verdict("north", CELL, lambda _: KNOWN, LOOKED_UP) == KNOWN
        billing = asdict(self.said("opted_in", "2026-01-01T00:00:00.000000Z", own=True))
        self.put(**{"CONSENT#billing": billing, "verdict": self.number()["verdict"]})
        self.opt_out("2026-01-02T00:00:00.000000Z")
        assert numbers.read("north", CELL).verdict == KNOWN
        assert self.number()["CONSENT#billing"] == billing
        assert self.number()["CONSENT#main"]["status"] == "opted_out"

    def test_a_patient_who_changes_before_the_opt_out_is_written_makes_if_match_stale(self, north: Service) -> None:
        seen = known()
        patients.change("north", "p-1", "do_not_contact", silence, STAFF)
        before = north.items()
        of = NumberLine("north", CELL, "main")
        with pytest.raises(StaleVersion):
            consents.record(of, consents.by_staff("opted_out", "staff-7"), [patients.unchanged(seen)])
        assert north.items() == before

    def test_if_match_is_stale_for_a_patient_who_changes_while_the_opt_out_is_recorded(self, north: Service) -> None:
        changed: list[Patient] = []

        def overtake(request: dict[str, Any]) -> None:
            if "ConditionCheck" in json.dumps(request) and not changed:
                changed.append(patients.change("north", "p-1", "do_not_contact", silence, Actor("staff-8")))

        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        with fault(aws.dynamodb(), "TransactWriteItems", overtake):
            assert north.put("north/patients/p-1/sms-consent", body, headers={"if-match": '"1"'}) == STALE
        assert changed
        assert not [item for item in self.of_number(north) if item["SK"] != "PATIENT#p-1"]

    def test_opt_outs_at_once_all_land(self, north: Service) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: self.opt_out(f"2026-01-02T00:00:0{n}.000000Z", id_=f"staff-{n}"), range(8)))
        assert self.number()["CONSENT#main"]["said_at"] == "2026-01-02T00:00:07.000000Z"
        kept = [item["SK"]["S"] for item in north.items() if item["SK"]["S"].startswith("CONSENT#")]
        assert len(kept) == 8

    def test_all_who_say_something_at_once_are_heard_and_nobody_writes_over_another(self, north: Service) -> None:
        """Patients, staff and carriers: consent by line and the verdict are parts of one item."""
        of = NumberLine("north", CELL, "main")

        def say(n: int) -> None:
            at = f"2026-01-02T00:00:{n:02}.000000Z"
            if n % 4 == 0:
                consents.record(of, self.said("opted_in", at, own=True, id_=f"m-{n}"))
            elif n % 4 == 1:
                consents.record(of, self.said("opted_out", at, id_=f"staff-{n}"))
            elif n % 4 == 2:
                consents.record(replace(of, line="billing"), self.said("opted_out", at, own=True, id_=f"m-{n}"))
            else:
                evidence = Evidence("receipt", "TEXT_UNREACHABLE", at, f"provider-{n}")
                numbers.change_verdict("north", CELL, lambda verdict: verdict.after_receipt(evidence), evidence)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(say, range(24)))
        heard = numbers.read("north", CELL)
        main, billing = heard.consent["main"], heard.consent["billing"]
        assert (main.newest, main.own) == (
            self.said("opted_out", "2026-01-02T00:00:21.000000Z", id_="staff-21"),
            self.said("opted_in", "2026-01-02T00:00:20.000000Z", own=True, id_="m-20"),
        )
        assert billing.newest == billing.own
        assert billing.newest == self.said("opted_out", "2026-01-02T00:00:22.000000Z", own=True, id_="m-22")
        assert heard.verdict.status == "invalid"
        kept = [item["SK"] for item in self.of_number(north)]
        assert sum(sk.startswith("CONSENT#main#") for sk in kept) == 12
        assert sum(sk.startswith("CONSENT#billing#") for sk in kept) == 6
        assert {sk for sk in kept if sk.startswith("OPTOUT#")} == {"OPTOUT#billing", "OPTOUT#main"}


@contextmanager
def reads() -> Iterator[list[tuple[str, bool]]]:
    """Note each read of the table meanwhile, and whether it was strongly consistent."""
    noted: list[tuple[str, bool]] = []

    def note(params: dict[str, Any], model: Any, **_: object) -> None:
        if model.name == "BatchGetItem":
            noted.extend((model.name, each.get("ConsistentRead", False)) for each in params["RequestItems"].values())
        elif model.name in ("GetItem", "Query", "Scan", "TransactGetItems", "ExecuteStatement"):
            noted.append((model.name, params.get("ConsistentRead", False)))

    events = aws.dynamodb().meta.events
    events.register("provide-client-params.dynamodb", note)
    try:
        yield noted
    finally:
        events.unregister("provide-client-params.dynamodb", note)


EVALUATE = {"message": {"class": "automation", "channels": ["text", "call"]}, "patient_id": "p-1"}


class TestReadsThatDecide:
    """A recorded opt-out is honoured by the very next evaluation."""

    def evaluate(self, service: Service) -> tuple[str, str]:
        answer = service.post("north/routing/evaluate", EVALUATE)
        assert answer.status == 200
        return answer.body["channel"], answer.body["reason"]

    def automation(self, service: Service, occurrence_id: str) -> tuple[str, str]:
        assert service.run_automations(trigger(occurrence_id=occurrence_id)) == []
        body = service.get(f"north/patients/p-1/decisions/automation:reminder:{occurrence_id}").body
        return body["channel"], body["reason"]

    def send(self, service: Service, key: str) -> tuple[str, str]:
        """Send what was routed, and say how it went, and by which decision."""
        assert send(service, *to_send(service)) == []
        body = service.get(f"north/patients/p-1/decisions/automation:reminder:{key}").body
        return (body["channel"] if body["state"] == "sent" else body["state"]), body["reason"]

    def text(self, service: Service, key: str) -> tuple[int, str]:
        headers = {"idempotency-key": key}
        answer = service.post("north/patients/p-1/messages", MANUAL_TEXT, headers=headers)
        return answer.status, answer.body["reason"]

    @pytest.mark.parametrize(
        ("decide", "expected"),
        [
            ("evaluate", ["GetItem", "GetItem", "BatchGetItem"]),
            ("automation", ["BatchGetItem", "BatchGetItem", "GetItem", "GetItem"]),
            ("text", ["GetItem", "GetItem", "GetItem", "BatchGetItem"]),
            ("send", ["BatchGetItem", "BatchGetItem"]),
        ],
    )
    def test_every_one_is_strongly_consistent(self, north: Service, decide: str, expected: list[str]) -> None:
        assert north.record_replies(reply("STOP", line="+15035559001")) == []
        assert north.put("north", CLINIC).status == 200
        bodies = routed(north, trigger(occurrence_id="before"))
        with reads() as made:
            if decide == "send":
                assert send(north, *bodies) == []
                assert len(north.carriers.so_far()) == 1
            elif decide == "evaluate":
                assert self.evaluate(north) == ("text", "TEXT_ENABLED")
            elif decide == "automation":
                assert north.run_automations(trigger()) == []
            else:
                assert self.text(north, "k") == (202, "CHOSEN_BY_STAFF")
        assert made == [(operation, True) for operation in expected]

    @pytest.mark.parametrize("text", ["STOP", "please stop texting me"])
    def test_what_was_recorded_is_honoured_by_the_very_next_one(self, north: Service, text: str) -> None:
        assert self.evaluate(north) == ("text", "TEXT_ENABLED")
        assert self.automation(north, "before") == ("text", "TEXT_ENABLED")
        assert self.text(north, "before") == (202, "CHOSEN_BY_STAFF")
        assert north.record_replies(reply(text)) == []
        reason = "SMS_OPTED_OUT" if text == "STOP" else "CONSENT_UNDER_REVIEW"
        assert self.evaluate(north) == ("call", reason)
        assert self.automation(north, "after") == ("call", reason)
        assert self.text(north, "after") == (409, reason)
        # And by none that was decided before: a message has one decision.
        assert self.automation(north, "before") == ("text", "TEXT_ENABLED")
        assert north.record_replies(reply("START", "message-2", at="2026-11-24T18:00:01.000Z")) == []
        assert self.evaluate(north) == ("text", "TEXT_ENABLED")
        assert self.automation(north, "again") == ("text", "TEXT_ENABLED")
        assert self.text(north, "again") == (202, "CHOSEN_BY_STAFF")

    @pytest.mark.parametrize("text", ["STOP", "please stop texting me"])
    def test_a_send_honours_it_even_if_it_was_decided_before(self, north: Service, text: str) -> None:
        assert north.put("north", CLINIC).status == 200
        assert self.automation(north, "before") == ("text", "TEXT_ENABLED")
        assert north.record_replies(reply(text)) == []
        reason = "SMS_OPTED_OUT" if text == "STOP" else "CONSENT_UNDER_REVIEW"
        assert self.send(north, "before") == ("call", reason)
        assert self.automation(north, "after") == ("call", reason)
        assert north.record_replies(reply("START", "message-2", at="2026-11-24T18:00:01.000Z")) == []
        assert self.send(north, "after") == ("text", "TEXT_ENABLED")

    @pytest.mark.parametrize("how", ["staff", "import", "review"])
    def test_so_is_what_staff_and_other_systems_record(self, north: Service, how: str) -> None:
        if how == "staff":
            body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
            assert north.put("north/patients/p-1/sms-consent", body).status == 200
        elif how == "import":
            rows = f"{CELL},main,opted_out,2025-11-20T17:02:11Z,old"
            assert north.import_csv(f"{CSV_HEADER}\n{rows}").status == 200
        else:
            assert north.record_replies(reply("please stop texting me")) == []
            (review,) = north.get("north/consent-reviews").body["items"]
            path = f"north/consent-reviews/{review['review_id']}"
            assert north.post(path, {"outcome": "opted_out"}).status == 200
        assert self.evaluate(north) == ("call", "SMS_OPTED_OUT")
        assert self.automation(north, "after") == ("call", "SMS_OPTED_OUT")
        assert self.text(north, "after") == (409, "SMS_OPTED_OUT")


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
