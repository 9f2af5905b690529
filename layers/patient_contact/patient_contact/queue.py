"""A batch from an SQS queue: each record fails or succeeds alone, and none is lost.

I/O. What can never be handled goes to the dead-letter queue with its reason; what may yet succeed goes back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools import Logger

from patient_contact import aws, log
from patient_contact.content import Unfillable
from patient_contact.events import MAX_RECEIVES, Refused

Record = dict[str, Any]


class NotYet(Exception):
    """An event cannot be handled now, and may be later; `reason` is given when it still cannot on its last receive."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Batch:
    """The records of one invocation, and which of them go back to the queue."""

    def __init__(
        self,
        records: Sequence[Record],
        dead_letter_url: str,
        service: str,
        logger: Logger,
        max_receives: int = MAX_RECEIVES,
    ) -> None:
        self.records = records
        self._max_receives = max_receives
        self._dead_letter_url = dead_letter_url
        self._service = service
        self._logger = logger
        self._failed: list[str] = []

    @contextmanager
    def handling(self, *records: Record) -> Iterator[None]:
        """Handle records: what is raised is theirs alone, and sends each to the queue or the dead-letter queue."""
        try:
            yield
        except (Refused, Unfillable) as refused:
            for record in records:
                self._dead_letter(record, refused.reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is not lost
            if not isinstance(error, NotYet):
                log.failure(self._logger, "record failed", error)
            for record in records:
                if int(record["attributes"]["ApproximateReceiveCount"]) >= self._max_receives:
                    self._dead_letter(record, f"gave up: {getattr(error, 'reason', type(error).__name__)}")
                else:
                    self._failed.append(record["messageId"])

    def answer(self) -> dict[str, list[dict[str, str]]]:
        """Give the partial batch response: the records that go back to the queue."""
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in self._failed]}

    def _dead_letter(self, record: Record, reason: str) -> None:
        try:
            aws.sqs().send_message(
                QueueUrl=self._dead_letter_url,
                MessageBody=record["body"],
                MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:250]}},
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is not lost
            # Not handled and not put aside: it stays in the queue, and SQS redrives it, if without a reason.
            log.failure(self._logger, "dead-lettering failed", error)
            self._failed.append(record["messageId"])
            return
        # Names in a reason come from the event, which lies beside it in the queue; the log gets the code alone.
        code = reason.partition(":")[0]
        self._logger.warning("dead-lettered", reason=code, sqs_message_id=record["messageId"])
        log.count("DeadLettered", self._service, code)
