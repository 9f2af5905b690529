"""The AWS clients, one of each, made when a handler is loaded.

By botocore alone: what boto3 adds to it, resources and transfers, costs a cold start and is not used.
"""

import json
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.session import get_session

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_pinpoint_sms_voice_v2 import PinpointSMSVoiceV2Client
    from types_boto3_s3 import S3Client
    from types_boto3_sesv2 import SESV2Client
    from types_boto3_sqs import SQSClient

# At DEBUG, which a switch of the console sets for the whole function, they log every request, patients included: whole,
# or by its path.
for each in ("botocore", "urllib3"):
    logging.getLogger(each).setLevel(logging.INFO)

# Short enough that a retry still fits into the request that waits for it.
CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
# What `table` asks is in the form of DynamoDB already: looking at each attribute once more costs as much as sending it.
TABLE_CONFIG = CONFIG.merge(Config(parameter_validation=False))
# Who asks a carrier waits for no second attempt: what was not answered is asked again from a queue.
CARRIER_CONFIG = Config(connect_timeout=2, read_timeout=2, max_pool_connections=20, retries={"total_max_attempts": 1})
# One attempt on the wire: a provider whose answer does not come may have accepted the message, and would send it twice.
# Connecting and reading usually take less than what must be left of an invocation; what takes longer ends with it.
SENDER_CONFIG = Config(connect_timeout=1, read_timeout=10, max_pool_connections=20, retries={"total_max_attempts": 1})


@cache
def _session() -> Any:
    return get_session()


def _client(service: str, config: Config = CONFIG) -> Any:
    return _session().create_client(service, config=config)


@cache
def dynamodb() -> "DynamoDBClient":
    """The table's client."""
    client: DynamoDBClient = _client("dynamodb", TABLE_CONFIG)
    client.meta.events.register("before-parse.dynamodb.BatchGetItem", _as_it_comes)
    return client


def _as_it_comes(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Take the items of a batch as the JSON that they are: botocore takes them apart, and puts the same together again.

    Half of what a recipient of a campaign costs, from the page to the decision.
    """
    if response_dict["status_code"] == 200:
        customized_response_dict.update(json.loads(response_dict["body"]))
        response_dict["body"] = b"{}"


@cache
def sqs() -> "SQSClient":
    """The queues' client."""
    client: SQSClient = _client("sqs")
    return client


@cache
def events() -> "EventBridgeClient":
    """The bus's client."""
    client: EventBridgeClient = _client("events")
    return client


@cache
def s3() -> "S3Client":
    """The bucket's client."""
    client: S3Client = _client("s3")
    return client


@cache
def sms() -> "PinpointSMSVoiceV2Client":
    """The client of AWS End User Messaging."""
    client: PinpointSMSVoiceV2Client = _client("pinpoint-sms-voice-v2", CARRIER_CONFIG)
    return client


@cache
def sms_sender() -> "PinpointSMSVoiceV2Client":
    """The client of AWS End User Messaging by which messages are sent."""
    client: PinpointSMSVoiceV2Client = _client("pinpoint-sms-voice-v2", SENDER_CONFIG)
    return client


@cache
def email() -> "SESV2Client":
    """The client of SES by which emails are sent."""
    client: SESV2Client = _client("sesv2", SENDER_CONFIG)
    return client
