"""Receipts: what carriers report of a message says how far it has come, and of its number, whether it is well."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, clock, life, log, numbers, practices, sends, settings
from patient_contact.facts import is_number
from patient_contact.inbound import Receipt, accept_receipt
from patient_contact.life import Item
from patient_contact.queue import Batch, NotYet, Record
from patient_contact.verdict import INVALID, REACHED, UNREACHABLE, Evidence

SERVICE = "record_receipt"
# What is left of the invocation when no more is begun, in milliseconds: more than a contended write takes.
RESERVE = 25_000

OF_NUMBERS = {INVALID, *UNREACHABLE, *REACHED}

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.sqs()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Note a batch of receipts; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.receipts_dlq_url(), SERVICE, logger)
    receipts: list[tuple[Record, Receipt]] = []
    for record in batch.records:
        with batch.handling(record):
            receipt = accept_receipt(record["body"], clock.now())
            if receipt is None:
                log.count("Receipts", SERVICE, "other")
            else:
                receipts.append((record, receipt))
    # In the order in which it happened: a success counts only after the failures that it ends.
    receipts.sort(key=lambda each: each[1].at)
    for record, receipt in receipts:
        with batch.handling(record):
            if context.get_remaining_time_in_millis() < RESERVE:
                raise NotYet("out of time")
            log.count("Receipts", SERVICE, note(receipt))
    return batch.answer()


def note(receipt: Receipt) -> str:
    """Keep what a receipt says of its message and of its number, and give the class by which it is counted."""
    message = _message_of(receipt)
    if receipt.event_type in OF_NUMBERS:
        found = _number_of(receipt, message)
        if found is None:
            return "not ours"
        evidence = Evidence("receipt", receipt.event_type, clock.iso(receipt.at), receipt.provider_message_id)
        numbers.change_verdict(*found, lambda verdict: verdict.after_receipt(evidence), evidence)
        return receipt.event_type
    return "other" if message is None else receipt.event_type


def _message_of(receipt: Receipt) -> Item | None:
    """Find the message by the context that its sender set, and note how far it has come."""
    about = receipt.context
    # What confirms a reply lies with its number, which not every receipt names.
    if about is None or (about.patient_id is None and receipt.phone_number is None):
        return None
    key = sends.key_of(about.practice_id, about.message_id, about.patient_id, str(receipt.phone_number))
    return sends.hear(key, about.attempt, receipt.event_type, receipt.at, receipt.provider_message_id)


def _number_of(receipt: Receipt, message: Item | None) -> tuple[str, str] | None:
    """Find the practice and the number: by the message that it is about, else by the two numbers alone.

    Not every receipt names the number; the message does, for this very attempt: another may have gone elsewhere.
    """
    if receipt.context is not None and message is not None:
        destination = life.destination_of(message, receipt.context.attempt)
        if is_number(destination or ""):
            return receipt.context.practice_id, str(destination)
    if receipt.phone_number is None or receipt.line_number is None:
        return None
    # Others in the account send texts, too: what did not go out on a line of ours is not ours.
    own = practices.read_lines([receipt.line_number]).get(receipt.line_number)
    return None if own is None else (own.practice_id, receipt.phone_number)
