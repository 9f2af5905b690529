"""What is due: counted every few minutes, so that an alarm rings for what staff have not read or resolved in time."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, log, reviews, sends

SERVICE = "watch_due"

logger = Logger(service=SERVICE)
aws.dynamodb()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Count the overdue reviews of all practices, and the sends whose outcome should be known by now."""
    log.measure("ConsentReviewsOverdue", SERVICE, reviews.count_overdue())
    log.measure("DecisionsUnknown", SERVICE, sends.count_overdue())
