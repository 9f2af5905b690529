"""What a recipient of a campaign costs, counted from calls, and the README's price of a million of them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from patient_contact import aws
from tests.integration.bulk import CAMPAIGN, KEY, Work, csv_of, put_patients, upload
from tests.integration.service import PRACTICE, Service
from tests.integration.test_capacity import Used, kilobytes, size, used

README = (Path(__file__).parents[2] / "README.md").read_text()
RECIPIENTS = 200
CHUNKS = 2
# Of these, practice, bulk, content, and whether the chunk is done.
READS_OF_A_CHUNK = 4
# US dollars for a million, in us-east-1, by AWS's price lists of November 2024.
PRICES = {"read": 0.125, "write": 0.625, "event": 1.0, "put": 5.0, "get": 0.4, "queued": 0.4}


@pytest.fixture
def campaign(service: Service) -> Work:
    """A campaign of patients with one phone each, whose list is yet to be read."""
    assert service.put("north", PRACTICE | {"sending": True}).status == 200
    phones = [[{"number": f"+1503555{n:04}"}] for n in range(RECIPIENTS)]
    put_patients(((f"p-{n}", each) for n, each in enumerate(phones)), service.environment["TABLE_NAME"])
    key = upload(service, csv_of(f"p-{n}" for n in range(RECIPIENTS)))
    assert service.post("north/campaigns", CAMPAIGN | {"list": {"key": key}}, headers=KEY).status == 202
    return Work(service)


def decision_size(service: Service) -> int:
    return max(size(item) for item in service.items() if item["SK"]["S"].startswith("DECISION#"))


def test_routing_reads_two_units_for_a_recipient_and_writes_the_decision_once(campaign: Work) -> None:
    with used() as units:
        assert len(campaign.route()) == CHUNKS
    per_recipient = units.of_patients(units.reads) / RECIPIENTS
    assert per_recipient == 2
    # One for each KB of the decision, and one for the index that lists a patient's newest.
    assert units.of_patients(units.writes) / RECIPIENTS == kilobytes(decision_size(campaign.service)) + 1


def test_a_chunk_costs_the_same_few_calls_whatever_its_patients(campaign: Work) -> None:
    for event in campaign.queued():
        assert campaign.service.run("StartBulkFunction", event) == []
    chunk, _ = campaign.chunks()
    with used() as units, counted() as calls:
        assert campaign.service.run("RouteBatchFunction", chunk) == []
    assert Counter(units.operations) == {"BatchGetItem": 3, "PutItem": 101, "TransactWriteItems": 1}
    assert calls == {"GetObject": 1, "PutObject": 1}


def test_a_chunk_that_comes_again_reads_that_it_is_done_and_nothing_else(campaign: Work) -> None:
    chunk, _ = campaign.route()
    with used() as units, counted() as calls:
        assert campaign.service.run("RouteBatchFunction", chunk) == []
    assert (units.operations, sum(units.reads.values()), calls) == (["BatchGetItem"], READS_OF_A_CHUNK, {})


def test_the_readme_prices_a_million_recipients_from_counted_calls(campaign: Work) -> None:
    printed = README.partition("<!-- price -->\n")[2].partition("<!-- end of price -->")[0]
    with used() as routing, counted() as while_routing:
        campaign.route()
    with used() as sending, counted() as while_sending:
        campaign.send()
    assert len(campaign.service.carriers.accepted) == RECIPIENTS
    assert printed == price(routing, sending, while_routing + while_sending)


def price(routing: Used, sending: Used, calls: Counter[str]) -> str:
    """Give what a million recipients cost at AWS, beside Lambda, and beside what carriers take for their texts."""
    rows = [
        ("reading patients and numbers, and deciding", routing.reads, "read"),
        ("writing decisions and results", routing.writes, "write"),
        ("reading all facts again before sending", sending.reads, "read"),
        ("claiming, settling and counting what is sent", sending.writes, "write"),
    ]
    lines = ["| For a million recipients | Counted for each | US$ |", "|---|---|---|"]
    total = 0.0
    for what, units, kind in rows:
        each = sum(units.values()) / RECIPIENTS
        total += each * PRICES[kind]
        lines.append(f"| {what} | {each:.2f} {kind} units | {each * PRICES[kind]:.2f} |")
    others = [
        ("events on the bus", calls["events"], "event"),
        ("objects written", calls["PutObject"], "put"),
        ("objects read", calls["GetObject"], "get"),
    ]
    for what, number, kind in others:
        each = number / RECIPIENTS
        total += each * PRICES[kind]
        lines.append(f"| {what} | {each:.2f} | {each * PRICES[kind]:.2f} |")
    lines.append(f"| all of these | | {total:.2f} |")
    return "\n".join(lines) + "\n"


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count calls of the bucket, and events that are put on the bus, meanwhile."""
    calls: Counter[str] = Counter()

    def of_the_bucket(model: Any, **_: object) -> None:
        calls[model.name] += 1

    def of_the_bus(params: dict[str, Any], **_: object) -> None:
        calls["events"] += len(params["Entries"])

    hooks: list[tuple[Any, str, Any]] = [
        (aws.s3(), "after-call.s3", of_the_bucket),
        (aws.events(), "provide-client-params.events.PutEvents", of_the_bus),
    ]
    for client, name, hook in hooks:
        client.meta.events.register(name, hook)
    try:
        yield calls
    finally:
        for client, name, hook in hooks:
            client.meta.events.unregister(name, hook)
