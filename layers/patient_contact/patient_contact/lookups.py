"""Asking carriers what a number is: inside the request that brings it, for two seconds, and from a queue after that.

I/O. The result is kept with the number, shared by its patients and reused for 90 days (`verdict`).
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from botocore.exceptions import BotoCoreError, ClientError

from patient_contact import aws, clock, numbers, settings
from patient_contact.facesheet import UNKNOWN_NUMBER, Number, Patient
from patient_contact.facts import Phone, is_number
from patient_contact.patients import read_numbers
from patient_contact.verdict import Evidence, Verdict

# How long all lookups of one request may take together, in seconds.
PATIENCE = 2.0
# SendMessageBatch takes at most so many.
MAX_SENT = 10


class QueueUnavailable(Exception):
    """Numbers could not be put into the queue now; sending the contact info again does it again."""


class NotAnswered(Exception):
    """A carrier lookup was not answered; `code` says why, and whether it ever will be."""

    def __init__(self, code: str, *, for_good: bool) -> None:
        super().__init__(code)
        self.code = code
        self.for_good = for_good


def registered(patient: Patient) -> None:
    """Note that registration has sent these phones: invalid ones are valid again, unknown lines are looked up."""
    now = clock.now()
    known = read_numbers(patient.practice_id, patient)
    sent = [phone for phone in patient.phones if is_number(phone.number) and phone.status == "valid"]
    wanted = [phone.number for phone in sent if _needs_lookup(phone, known, now)]
    found = _look_up_together(wanted)
    for phone in sent:
        verdict = known.get(phone.number, UNKNOWN_NUMBER).verdict
        if verdict.status == "invalid" or phone.number in found:
            _note(patient.practice_id, phone.number, found.get(phone.number))
    _ask_later(patient.practice_id, [number for number in wanted if number not in found])


def _needs_lookup(phone: Phone, known: dict[str, Number], now: datetime) -> bool:
    return phone.line_type == "unknown" and known.get(phone.number, UNKNOWN_NUMBER).verdict.needs_lookup(now)


def _note(practice_id: str, number: str, number_type: str | None) -> None:
    """Keep what registration and, where it answered, a lookup say of a number, in one write."""
    at = clock.iso(clock.now())

    def edit(verdict: Verdict) -> Verdict:
        sent = verdict.sent_anew(at)
        return sent if number_type is None else sent.after_lookup(number_type, at)

    because = Evidence("registration", "SENT_ANEW", at) if number_type is None else Evidence("lookup", number_type, at)
    numbers.change_verdict(practice_id, number, edit, because)


def look_up(number: str) -> str:
    """Ask the carrier once what a number is (`MOBILE`, `LANDLINE`, …); raise NotAnswered."""
    try:
        answer = aws.sms().carrier_lookup(PhoneNumber=number)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise NotAnswered(code, for_good=code == "ValidationException") from None
    except BotoCoreError as error:
        raise NotAnswered(type(error).__name__, for_good=False) from None
    return answer["PhoneNumberType"]


def _look_up_together(wanted: Sequence[str]) -> dict[str, str]:
    """Look numbers up at the same time, and give what was answered within two seconds."""
    if not wanted:
        return {}
    # Costs 5 ms to import, and most requests look nothing up.
    from concurrent.futures import ThreadPoolExecutor, wait

    aws.sms()
    threads = ThreadPoolExecutor(len(wanted))
    asked = {threads.submit(look_up, number): number for number in wanted}
    done, _ = wait(asked, timeout=PATIENCE)
    threads.shutdown(wait=False, cancel_futures=True)
    return {asked[each]: each.result() for each in done if not isinstance(each.exception(), NotAnswered)}


def _ask_later(practice_id: str, wanted: Iterable[str]) -> None:
    bodies = [json.dumps({"practice_id": practice_id, "phone_number": number}) for number in wanted]
    for start in range(0, len(bodies), MAX_SENT):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + MAX_SENT])]
        try:
            answer = aws.sqs().send_message_batch(QueueUrl=settings.lookups_queue_url(), Entries=entries)  # type: ignore[arg-type]  # plain dicts
        except (BotoCoreError, ClientError) as error:
            raise QueueUnavailable from error
        if answer.get("Failed"):
            raise QueueUnavailable
