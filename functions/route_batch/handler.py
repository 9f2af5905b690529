"""Chunks of lists: each row's patient is decided for, once; what became of the rows is kept and counted, once."""

from collections import Counter
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, bulk, bulk_routing, bulks, clock, lists, log, practices, settings, table
from patient_contact.bulk_list import Chunk, Row
from patient_contact.bulk_routing import Job, Routed
from patient_contact.events import Refused
from patient_contact.queue import Batch, NotYet
from patient_contact.triggers import ToRoute, accept_chunk

SERVICE = "route_batch"

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.s3()
aws.sqs()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route a batch of chunks; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.chunks_dlq_url(), SERVICE, logger)
    for record in batch.records:
        with batch.handling(record):
            route(accept_chunk(record["body"]))
    return batch.answer()


def route(wanted: ToRoute) -> None:
    """Route a chunk, or what there still is to do of it: its bulk may have been paused, resumed, or be over."""
    ids, chunk = (wanted.practice_id, wanted.bulk_id), wanted.chunk
    keys = [
        practices.key(wanted.practice_id),
        bulks.key(*ids),
        bulks.content_key(*ids),
        bulks.chunk_key(*ids, chunk.number),
    ]
    found = table.batch_get(keys)
    if found.unread:
        raise table.TableUnavailable("left unread")
    practice_item, item, kept, begun = (found.items.get(key) for key in keys)
    if practice_item is None or item is None or kept is None:
        raise Refused("unknown bulk")
    practice = practices.from_item(wanted.practice_id, practice_item)
    job = bulk_routing.job(item, kept, practice, settings.decision_retention_days())
    results = begun.get("results") if begun is not None else None
    goes_on = bulk.is_to_run(item, wanted.run)
    try:
        if results is not None:
            # What has its result in the first run was never held back.
            if goes_on and wanted.run > 1:
                go_on(job, item, chunk, bulk_routing.rows_of(lists.get_results(results)))
        elif bulk.is_over(item):
            # Whoever's run it was: the chunk's own message may be the only one that comes.
            if begun is not None:
                end(job, item, chunk, begun)
        elif goes_on:
            begin(job, item, chunk)
    except lists.ListGone as gone:
        bulks.take(*ids, bulk.failed(item, gone.reason), item)
        log.count("BulksFailed", SERVICE, "list unreadable")


def begin(job: Job, item: dict[str, Any], chunk: Chunk) -> None:
    """Route a chunk that has no result."""
    rows = lists.rows(bulks.listed(item), chunk)
    if not job.practice.has_line(job.line):
        # Only of what is to be routed: what is routed already comes to its end without its line, too.
        raise Refused("unknown line")
    ids = job.practice.practice_id, job.bulk_id
    patient_ids = [row.patient_id for row in rows]
    # A dry run sends nothing that would have to come to its end.
    if job.is_dry_run or bulks.begin_chunk(*ids, chunk, patient_ids, job.retention_days):
        keep(job, chunk, bulk_routing.route(job, chunk, rows))


def end(job: Job, item: dict[str, Any], chunk: Chunk, begun: dict[str, Any]) -> None:
    """End a chunk that was left half routed when its bulk was cancelled or failed: what is claimed is accounted for."""
    if begun["lease_until"] > clock.iso(clock.now()):
        raise NotYet("it is being routed")
    left = bulk_routing.left(job, chunk, begun["patient_ids"])
    go_on(job, item, chunk, bulk_routing.rows_of(each.result for each in left))
    if not keep(job, chunk, left, begun["lease_until"]):
        raise NotYet("somebody else is at it")


def go_on(job: Job, item: dict[str, Any], chunk: Chunk, routed: list[Row]) -> None:
    """Go on with what is routed of a chunk, or take it back."""
    if item["state"] != "cancelled":
        bulk_routing.announce_again(job, chunk, routed)
    elif withdrawn := bulk_routing.withdraw(job, chunk, routed):
        log.count("Withdrawn", SERVICE, "CANCELLED", withdrawn)


def keep(job: Job, chunk: Chunk, routed: list[Routed], until: str | None = None) -> bool:
    """Keep what became of the rows of a chunk, and count it, once; say whether it was done now."""
    ids = job.practice.practice_id, job.bulk_id
    results = [each.result for each in routed]
    new = Counter(each.result["reason"] for each in routed if each.is_new and each.result["outcome"] == "suppress")
    for reason, number in new.items():
        log.count("Suppressed", SERVICE, reason, number)
    key = lists.put_results(*ids, chunk.number, results)
    counts = bulk.counts(results, sum(each.is_handed_over for each in routed))
    return bulks.record_chunk(*ids, chunk, key, counts, bulk.per_outcome(results), job.retention_days, until)
