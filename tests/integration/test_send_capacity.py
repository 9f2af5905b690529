"""What sending costs at the table: how many calls one after the other, whatever the size of the batch."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from patient_contact import aws
from tests.integration.sending import CLINIC, MAIN, PATIENT, put_patient, routed, send, to_send, wire
from tests.integration.service import CELL, LANDLINE, Service, reply, trigger
from tests.local import sms

READS = {"GetItem", "BatchGetItem", "Query"}
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"}


@pytest.fixture
def clinic(north: Service) -> Service:
    """The practice `north` with sending on, and its patient `p-1`."""
    assert north.put("north", CLINIC).status == 200
    north.new_stream_records()
    return north


@contextmanager
def calls() -> Iterator[list[tuple[str, Any]]]:
    """Note each call of the table, and what it asks, in order."""
    asked: list[tuple[str, Any]] = []

    def before_parameters(params: dict[str, Any], model: Any, **_: object) -> None:
        asked.append((model.name, params))

    client: Any = aws.dynamodb()
    client.meta.events.register("provide-client-params.dynamodb", before_parameters)
    try:
        yield asked
    finally:
        client.meta.events.unregister("provide-client-params.dynamodb", before_parameters)


def operations(asked: list[tuple[str, Any]]) -> Counter[str]:
    return Counter(name for name, _ in asked)


def batches(service: Service, count: int) -> list[str]:
    """Give the bodies of so many messages, for as many patients."""
    for n in range(count):
        put_patient(service, f"+150355502{n:02}", patient_id=f"q-{n}")
    service.new_stream_records()
    return routed(service, *(trigger(f"q-{n}") for n in range(count)))


ONCE = {"BatchGetItem": 2, "UpdateItem": 2}


def as_text(service: Service) -> None:
    put_patient(service, CELL)


def as_call(service: Service) -> None:
    assert service.put(f"{PATIENT}/preferred-contact", {"phone_number": LANDLINE}).status == 200


def as_email(service: Service) -> None:
    put_patient(service, email="pat@example.org")


def with_an_answer_that_is_lost(service: Service) -> None:
    put_patient(service, sms.ANSWER_IS_LOST)


class TestInSequence:
    @pytest.mark.parametrize(
        ("how", "reads"),
        # Who has no phone has no number to be read.
        [(as_text, 2), (as_call, 2), (as_email, 1), (with_an_answer_that_is_lost, 2)],
    )
    def test_a_message_costs_two_reads_at_most_and_two_writes(self, clinic: Service, how: Any, reads: int) -> None:
        how(clinic)
        clinic.new_stream_records()
        bodies = routed(clinic)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        names = [name for name, _ in asked]
        assert names == [*["BatchGetItem"] * reads, "UpdateItem", "UpdateItem"]

    @pytest.mark.parametrize("phones", [1, 2, 20])
    def test_it_costs_the_same_whatever_is_on_file(self, clinic: Service, phones: int) -> None:
        put_patient(clinic, *(f"+150355502{n:02}" for n in range(phones)))
        bodies = routed(clinic)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        assert operations(asked) == ONCE

    def test_content_that_lies_beside_the_decision_costs_no_call_of_its_own(self, clinic: Service) -> None:
        body = {"channel": "text", "body": "é" * 1_600}
        assert clinic.post(f"{PATIENT}/messages", body, headers={"idempotency-key": "key-1"}).status == 202
        bodies = to_send(clinic)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        assert operations(asked) == ONCE

    def test_a_confirmation_costs_no_more(self, clinic: Service) -> None:
        lines = [{**MAIN, "self_managed_opt_outs": True}]
        assert clinic.put("north", CLINIC | {"lines": lines}).status == 200
        help_asked = reply("HELP", at="2126-11-24T18:00:00.000Z")
        assert clinic.record_replies(help_asked) == []
        bodies = to_send(clinic)
        assert len(bodies) == 1
        with calls() as asked:
            assert send(clinic, *bodies) == []
        assert operations(asked) == {"BatchGetItem": 1, "UpdateItem": 2}
        assert len(clinic.carriers.accepted) == 1

    def test_what_is_refused_for_now_costs_as_much(self, clinic: Service) -> None:
        put_patient(clinic, sms.SEND_THROTTLES_TWICE)
        bodies = routed(clinic)
        with calls() as asked:
            assert send(clinic, *bodies) == [0]
        assert operations(asked) == ONCE

    def test_what_is_withdrawn_costs_one_write(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert clinic.put("north", CLINIC | {"sending": False}).status == 200
        with calls() as asked:
            assert send(clinic, *bodies) == []
        assert operations(asked) == {"BatchGetItem": 2, "UpdateItem": 1}

    def test_what_is_done_costs_no_write(self, clinic: Service) -> None:
        bodies = routed(clinic)
        assert send(clinic, *bodies) == []
        with calls() as asked:
            assert send(clinic, *bodies) == []
        assert operations(asked) == {"BatchGetItem": 2}


class TestBatch:
    def test_ten_messages_are_read_together_in_two_reads(self, clinic: Service) -> None:
        bodies = batches(clinic, 10)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        assert operations(asked) == {"BatchGetItem": 2, "UpdateItem": 20}
        assert len(clinic.carriers.accepted) == 10

    def test_the_switch_and_a_practice_are_read_once_for_all(self, clinic: Service) -> None:
        bodies = batches(clinic, 10)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        first, second = [params["RequestItems"].values() for name, params in asked if name == "BatchGetItem"]
        ((keys,), (more,)) = [[each["Keys"] for each in read] for read in (first, second)]
        sorts = Counter(key["SK"]["S"].partition("#")[0] for key in keys)
        assert sorts == {"PATIENT": 10, "SENDING": 1, "DECISION": 10, "PRACTICE": 1, "AUTOMATION": 1}
        assert Counter(key["SK"]["S"] for key in more) == {"NUMBER": 10}

    def test_every_read_is_strongly_consistent(self, clinic: Service) -> None:
        bodies = batches(clinic, 3)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        reads = [request for name, params in asked if name in READS for request in params["RequestItems"].values()]
        assert [each["ConsistentRead"] for each in reads] == [True, True]

    def test_one_that_is_refused_and_decided_again_is_read_again_alone(self, clinic: Service) -> None:
        bodies = batches(clinic, 9)
        put_patient(clinic, sms.NOT_A_NUMBER, email="pat@example.org")
        bodies += routed(clinic)
        with calls() as asked:
            assert send(clinic, *bodies) == []
        counted = operations(asked)
        assert (counted["BatchGetItem"], counted["UpdateItem"]) == (4, 18 + 4)
        # What was learnt of the number.
        assert counted["TransactWriteItems"] == 1

    def test_nothing_is_read_or_written_while_providers_are_asked(self, clinic: Service) -> None:
        bodies = batches(clinic, 1)
        before: list[int] = []
        with calls() as asked:
            with wire(lambda *_: before.append(len(asked))):
                assert send(clinic, *bodies) == []
        assert before == [3]
        assert {name for name, _ in asked} <= READS | WRITES
