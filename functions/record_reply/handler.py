"""Replies: what patients say of being texted takes effect at once, for everyone who shares the phone."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, clock, consents, log, numbers, practices, reviews, sends, settings, table
from patient_contact.confirmations import WITHIN_MINUTES, Kind
from patient_contact.consent import NOTHING_SAID, Said, Wish
from patient_contact.consents import NumberLine
from patient_contact.events import Refused
from patient_contact.inbound import Reply, accept_reply
from patient_contact.practices import OwnLine
from patient_contact.queue import Batch, NotYet, Record
from patient_contact.replies import Meaning, meaning

SERVICE = "record_reply"
# What is left of the invocation when no more is begun, in milliseconds: more than a contended write takes.
RESERVE = 25_000

WISHES: dict[Meaning, Wish] = {"opt_out": "opted_out", "opt_in": "opted_in"}
CONFIRMED: dict[Meaning, Kind] = {"opt_out": "opt_out", "opt_in": "opt_in", "help": "help"}
MAYBE: dict[Meaning, Wish] = {"may_opt_out": "opted_out", "may_opt_in": "opted_in"}

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.sqs()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record a batch of replies; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.replies_dlq_url(), SERVICE, logger)
    replies: list[tuple[Record, Reply, datetime]] = []
    for record in batch.records:
        with batch.handling(record):
            replies.append((record, *accept_reply(record["body"], clock.now())))
    # In the order in which they were said, each finds nothing newer, and is recorded without a read.
    replies.sort(key=lambda each: each[2])

    lines: dict[str, OwnLine] | None = None
    with batch.handling(*(record for record, _, _ in replies)):
        lines = practices.read_lines({reply.line_number for _, reply, _ in replies})

    for record, reply, said_at in replies if lines is not None else []:
        with batch.handling(record):
            if context.get_remaining_time_in_millis() < RESERVE:
                raise NotYet("out of time")
            own = (lines or {}).get(reply.line_number)
            if own is None:
                raise Refused("unknown line")
            what = meaning(reply.text, own.review_words)
            if what in WISHES or what in MAYBE:
                practices.mark_consent(own)
                lines = {**(lines or {}), reply.line_number: replace(own, has_consent=True)}
            take(reply, said_at, own, what)
    return batch.answer()


def take(reply: Reply, said_at: datetime, own: OwnLine, what: Meaning) -> None:
    """Do what a reply asks for, once; what asks for nothing is counted by its class and ignored."""
    of = NumberLine(own.practice_id, reply.phone_number, own.line)
    marker = reviews.marked(of, reply.id)
    once = [marker, *confirmation(reply, said_at, own, what)]
    try:
        if what in WISHES:
            now = clock.iso(clock.now())
            consents.record(of, Said(reply.id, WISHES[what], "keyword", clock.iso(said_at), now, own=True), once)
        elif what == "help" and len(once) > 1:
            table.transact_meaning(once)
        elif what == "may_opt_out" or (what == "may_opt_in" and _is_opted_out(of)):
            message = reviews.Message(reply.id, reply.text, said_at, own.time_zone)
            reviews.open_(of, message, MAYBE[what], [marker])
    except consents.Repeated:
        return
    log.count("Replies", SERVICE, what)


def confirmation(reply: Reply, said_at: datetime, own: OwnLine, what: Meaning) -> list[table.Meant]:
    """Give the operation by which a keyword is confirmed: on a line for which AWS does not, and soon or not at all."""
    if not own.confirms or what not in CONFIRMED:
        return []
    now = clock.now()
    if now >= said_at + timedelta(minutes=WITHIN_MINUTES):
        return []
    since = min(said_at, now)
    put = sends.confirm_op(own.practice_id, reply.phone_number, own.line, CONFIRMED[what], reply.id, since)
    return [(put, consents.Repeated())]


def _is_opted_out(of: NumberLine) -> bool:
    """Say whether a word that opts in where it is not left to staff could change anything here."""
    consent = numbers.read(of.practice_id, of.phone_number).consent.get(of.line, NOTHING_SAID)
    return consent.status == "opted_out"
