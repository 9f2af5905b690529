"""The AWS clients, one of each, made when a handler is loaded."""

from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_sqs import SQSClient

# Short enough that a retry still fits into the request that waits for it.
CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})


@cache
def dynamodb() -> "DynamoDBClient":
    """The table's client."""
    return boto3.client("dynamodb", config=CONFIG)


@cache
def sqs() -> "SQSClient":
    """The queues' client."""
    return boto3.client("sqs", config=CONFIG)


@cache
def events() -> "EventBridgeClient":
    """The bus's client."""
    return boto3.client("events", config=CONFIG)
