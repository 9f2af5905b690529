"""The table: keys, plain Python to attribute values and back, and DynamoDB's errors in our words.

I/O. Nothing else calls DynamoDB.
"""

import itertools
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError

from patient_contact import aws, settings

Key = tuple[str, str]
Item = dict[str, Any]
# An operation of a transaction, and what it means when its condition fails.
Meant = tuple[Item, Exception]

# BatchGetItem takes at most so many keys.
BATCH_KEYS = 100
MAX_OPERATIONS = 100
# How long reads that DynamoDB left unprocessed are asked for again, in seconds.
BATCH_PATIENCE = 5.0
# How long a write is tried again that meets others' writes, in seconds.
CONTENTION_PATIENCE = 20.0

UNAVAILABLE = {
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingError",
    "ThrottlingException",
    # Our own earlier send of the same transaction is still under way: whether it lands is not known yet.
    "TransactionInProgressException",
    "ProvisionedThroughputExceeded",
}


class TableUnavailable(Exception):
    """The table did not answer now (throttled, timed out, busy); trying again later may succeed."""


class ConditionFailed(Exception):
    """A condition did not hold; `failed` are the places in the transaction of the operations that failed.

    `items` are what was found in the place of what was expected, by the place of an operation that asks for it.
    """

    def __init__(self, failed: tuple[int, ...] = (), items: Mapping[int, Item] | None = None) -> None:
        super().__init__("a condition did not hold")
        self.failed = failed
        self.items = items or {}


class Contended(Exception):
    """Another transaction was writing the same items; nothing was written."""


def practice_pk(practice_id: str) -> str:
    """The partition of a practice, its automations and its quotas."""
    return f"PRACTICE#{practice_id}"


def patient_pk(practice_id: str, patient_id: str) -> str:
    """The partition of a patient, their changes and their decisions."""
    return f"PRACTICE#{practice_id}#PATIENT#{patient_id}"


def number_pk(practice_id: str, e164: str) -> str:
    """The partition of a phone number of a practice's patients."""
    return f"PRACTICE#{practice_id}#NUMBER#{e164}"


def number_key(practice_id: str, e164: str) -> Key:
    """The item that says what is known of a phone number, and what its owner consents to."""
    return number_pk(practice_id, e164), "NUMBER"


def decision_key(practice_id: str, patient_id: str, message_id: str) -> Key:
    """The decision that was taken for a message to a patient."""
    return patient_pk(practice_id, patient_id), f"DECISION#{message_id}"


def confirmation_key(practice_id: str, e164: str, reply_id: str) -> Key:
    """The confirmation of a reply from a phone number."""
    return number_pk(practice_id, e164), f"CONFIRMATION#{reply_id}"


def line_key(e164: str) -> Key:
    """The item that says which practice's line a number is."""
    return f"LINE#{e164}", "LINE"


def ids_of(pk: str) -> list[str]:
    """Give the ids in a partition key: practice, then patient or number. Ids never contain `#`."""
    return pk.split("#")[1::2]


def encode(value: object) -> dict[str, Any]:
    """Give plain Python (str, bool, int, None, lists, dicts) as a DynamoDB attribute value."""
    if isinstance(value, str):
        return {"S": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, Mapping):
        return {"M": {name: encode(part) for name, part in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [encode(part) for part in value]}
    raise TypeError(f"no attribute value for {type(value).__name__}")


def decode(attribute: Mapping[str, Any]) -> Any:
    """Read back what `encode` gave."""
    ((kind, value),) = attribute.items()
    if kind == "S" or kind == "BOOL":
        return value
    if kind == "M":
        return {name: decode(part) for name, part in value.items()}
    if kind == "L":
        return [decode(part) for part in value]
    if kind == "N":
        return int(value)
    if kind == "NULL":
        return None
    raise TypeError(f"no plain value for an attribute of type {kind}")


def encode_item(item: Mapping[str, object]) -> Item:
    """Give plain Python as a DynamoDB item."""
    return {name: encode(value) for name, value in item.items()}


def decode_item(item: Mapping[str, Any]) -> Item:
    """Read back what `encode_item` gave."""
    return {name: decode(value) for name, value in item.items()}


def _key(key: Key) -> Item:
    return {"PK": {"S": key[0]}, "SK": {"S": key[1]}}


def get(key: Key) -> Item | None:
    """Read one item, strongly consistent."""
    with _errors():
        answer = aws.dynamodb().get_item(TableName=settings.table_name(), Key=_key(key), ConsistentRead=True)
    return decode_item(answer["Item"]) if "Item" in answer else None


@dataclass(frozen=True, slots=True)
class BatchRead:
    """What a batch read found, and the keys that DynamoDB left unread."""

    items: dict[Key, Item]
    unread: frozenset[Key]


def batch_get(keys: Iterable[Key]) -> BatchRead:
    """Read many items, strongly consistent; what stays unprocessed or throttled for 5 s is `unread`, never missing."""
    waiting = list(dict.fromkeys(keys))
    found: dict[Key, Item] = {}
    deadline = time.monotonic() + BATCH_PATIENCE
    pause = 0.05
    while waiting:
        page, rest = waiting[:BATCH_KEYS], waiting[BATCH_KEYS:]
        request = {settings.table_name(): {"Keys": [_key(key) for key in page], "ConsistentRead": True}}
        try:
            with _errors():
                answer = aws.dynamodb().batch_get_item(RequestItems=request)  # type: ignore[arg-type]  # plain dicts
        except TableUnavailable:
            unprocessed = page
        else:
            for raw in answer["Responses"].get(settings.table_name(), []):
                item = decode_item(raw)
                found[item["PK"], item["SK"]] = item
            left: Item = dict(answer.get("UnprocessedKeys", {}).get(settings.table_name(), {}))
            unprocessed = [(key["PK"]["S"], key["SK"]["S"]) for key in left.get("Keys", [])]
        waiting = unprocessed + rest
        if unprocessed:
            if time.monotonic() + pause > deadline:
                break
            time.sleep(random.uniform(0, pause))  # noqa: S311 - jitter is no secret
            pause = min(pause * 2, 1.0)
    return BatchRead(found, frozenset(waiting))


def put_if_absent(item: Mapping[str, object], attribute: str = "PK") -> Item | None:
    """Put an item unless one is there that has the attribute, and give that; None when it was put. The first wins."""
    try:
        with _errors():
            aws.dynamodb().put_item(
                TableName=settings.table_name(),
                Item=encode_item(item),
                ConditionExpression=f"attribute_not_exists({attribute})",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
    except Holds as holds:
        return holds.item
    return None


def put(item: Mapping[str, object]) -> None:
    """Put an item, whatever was there."""
    with _errors():
        aws.dynamodb().put_item(TableName=settings.table_name(), Item=encode_item(item))


def update(
    key: Key,
    changed: Mapping[str, object],
    expected: Mapping[str, object],
    *,
    append: Mapping[str, list[Item]] | None = None,
    remove: Sequence[str] = (),
) -> Item:
    """Set attributes of an item, append to its lists, remove others, where it is as expected; give it as it then is.

    An attribute that is expected to be None is expected not to be there. Raises Holds with the item that is there.
    """
    names = {f"#{name}": name for name in (*changed, *expected, *(append or {}), *remove)}
    values = {f":{name}": value for name, value in changed.items()}
    sets = [f"#{name} = :{name}" for name in changed]
    for name, entries in (append or {}).items():
        sets.append(f"#{name} = list_append(if_not_exists(#{name}, :none), :more_{name})")
        values |= {":none": [], f":more_{name}": entries}
    holds = [
        f"attribute_not_exists(#{name})" if value is None else f"#{name} = :was_{name}"
        for name, value in expected.items()
    ]
    values |= {f":was_{name}": value for name, value in expected.items() if value is not None}
    removes = " REMOVE " + ", ".join(f"#{name}" for name in remove) if remove else ""
    with _errors():
        answer = aws.dynamodb().update_item(
            TableName=settings.table_name(),
            Key=_key(key),
            UpdateExpression=f"SET {', '.join(sets)}{removes}",
            ConditionExpression=" AND ".join(holds),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=encode_item(values),
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    return decode_item(answer["Attributes"])


def delete(key: Key) -> bool:
    """Delete an item; say whether there was one."""
    with _errors():
        answer = aws.dynamodb().delete_item(TableName=settings.table_name(), Key=_key(key), ReturnValues="ALL_OLD")
    return bool(answer.get("Attributes"))


def put_op(item: Mapping[str, object], condition: str | None = None, **values: object) -> Item:
    """One operation of a transaction: put an item, under a condition over `:name` values."""
    return {"Put": _conditional({"Item": encode_item(item)}, condition, values)}


def delete_op(key: Key, condition: str | None = None, **values: object) -> Item:
    """One operation of a transaction: delete an item."""
    return {"Delete": _conditional({"Key": _key(key)}, condition, values)}


def check_op(key: Key, condition: str, **values: object) -> Item:
    """One operation of a transaction: hold a condition on an item that is not written."""
    return {"ConditionCheck": _conditional({"Key": _key(key)}, condition, values)}


def update_op(
    key: Key, expression: str, condition: str | None, names: Mapping[str, str] | None = None, **values: object
) -> Item:
    """One operation of a transaction: update an item; when its condition fails, the item is in ConditionFailed."""
    op = _conditional({"Key": _key(key), "UpdateExpression": expression}, condition, values)
    op["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    if names:
        op["ExpressionAttributeNames"] = dict(names)
    return {"Update": op}


def _conditional(op: Item, condition: str | None, values: Mapping[str, object]) -> Item:
    op["TableName"] = settings.table_name()
    if condition is not None:
        op["ConditionExpression"] = condition
    if values:
        op["ExpressionAttributeValues"] = {f":{name}": encode(value) for name, value in values.items()}
    return op


def transact(operations: list[Item]) -> None:
    """Write all or nothing; raise ConditionFailed or Contended. An SDK's resend is recognised by its token."""
    with _errors():
        aws.dynamodb().transact_write_items(TransactItems=operations)  # type: ignore[arg-type]  # plain dicts


def transact_meaning(operations: Sequence[Meant]) -> None:
    """Write all or nothing, again where others are writing; raise what the first that fails is said to mean."""
    for _ in attempts():
        try:
            transact([operation for operation, _ in operations])
        except Contended:
            continue
        except ConditionFailed as failed:
            raise operations[failed.failed[0]][1] from None
        return
    raise TableUnavailable("contended")


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a partition's items, and the sort key to go on from (None at the end)."""

    items: list[Item]
    next: str | None


def query(pk: str, prefix: str, *, limit: int, after: str | None = None, newest_first: bool = False) -> Page:
    """Read a page of one partition's items whose sort key begins with `prefix`, strongly consistent."""
    found: list[Item] = []
    start = None if after is None else _key((pk, after))
    while True:
        arguments: dict[str, Any] = {"ExclusiveStartKey": start} if start else {}
        with _errors():
            answer = aws.dynamodb().query(
                TableName=settings.table_name(),
                KeyConditionExpression="PK = :pk AND begins_with(SK, :prefix)",
                ExpressionAttributeValues={":pk": {"S": pk}, ":prefix": {"S": prefix}},
                ConsistentRead=True,
                ScanIndexForward=not newest_first,
                # One more than asked: whether there is a next page is seen, not guessed.
                Limit=limit + 1 - len(found),
                **arguments,
            )
        found += [decode_item(item) for item in answer["Items"]]
        start = answer.get("LastEvaluatedKey")
        if len(found) > limit or not start:
            break
    page = found[:limit]
    return Page(page, page[-1]["SK"] if len(found) > limit else None)


def newest_keys(
    pk: str, prefix: str, *, limit: int, after: tuple[str, str] | None
) -> tuple[list[tuple[str, str]], bool]:
    """Give the (`at`, SK) of a partition's newest items with an SK prefix, and whether more follow."""
    found: list[tuple[str, str]] = []
    start: Item | None = None
    if after is not None:
        start = {**_key((pk, after[1])), "at": {"S": after[0]}}
    while True:
        arguments: dict[str, Any] = {"ExclusiveStartKey": start} if start else {}
        with _errors():
            answer = aws.dynamodb().query(
                TableName=settings.table_name(),
                IndexName="by_time",
                KeyConditionExpression="PK = :pk",
                ExpressionAttributeValues={":pk": {"S": pk}},
                ConsistentRead=True,
                ScanIndexForward=False,
                Limit=max(200, 2 * (limit + 1)),
                **arguments,
            )
        # Changes and decisions share the index; a filter expression would read, and cost, the same.
        found += [(item["at"]["S"], item["SK"]["S"]) for item in answer["Items"] if item["SK"]["S"].startswith(prefix)]
        start = answer.get("LastEvaluatedKey")
        if len(found) > limit or not start:
            return found[:limit], len(found) > limit


def index_keys(pk: str, after: str, limit: int) -> tuple[list[tuple[Key, str]], bool]:
    """Give the (key, sort key in the index) of a page of the global index's partition, and whether more follow.

    Only those whose sort key is greater than `after`. Eventually consistent, as global indexes are.
    """
    found: list[tuple[Key, str]] = []
    while True:
        start = found[-1][1] if found else after
        with _errors():
            answer = aws.dynamodb().query(
                TableName=settings.table_name(),
                IndexName="GSI1",
                KeyConditionExpression="GSI1PK = :pk AND GSI1SK > :after",
                ExpressionAttributeValues={":pk": {"S": pk}, ":after": {"S": start}},
                Limit=limit + 1 - len(found),
            )
        found += [((item["PK"]["S"], item["SK"]["S"]), item["GSI1SK"]["S"]) for item in answer["Items"]]
        if len(found) > limit or not answer.get("LastEvaluatedKey"):
            return found[:limit], len(found) > limit


def count_index(pk: str, before: str) -> int:
    """Count the items of the global index's partition whose sort key is less than `before`."""
    counted, start = 0, None
    while True:
        arguments: dict[str, Any] = {"ExclusiveStartKey": start} if start else {}
        with _errors():
            answer = aws.dynamodb().query(
                TableName=settings.table_name(),
                IndexName="GSI1",
                KeyConditionExpression="GSI1PK = :pk AND GSI1SK < :before",
                ExpressionAttributeValues={":pk": {"S": pk}, ":before": {"S": before}},
                Select="COUNT",
                **arguments,
            )
        counted += answer["Count"]
        start = answer.get("LastEvaluatedKey")
        if not start:
            return counted


class Holds(Exception):
    """A single write's condition failed; `item` is what is there instead, empty when nothing is."""

    def __init__(self, item: Item) -> None:
        super().__init__("the key is taken")
        self.item = item


@contextmanager
def _errors() -> Iterator[None]:
    """Say DynamoDB's errors in our words; what we do not know passes through."""
    try:
        yield
    except (botocore_errors.ConnectionError, botocore_errors.HTTPClientError) as error:
        raise TableUnavailable(type(error).__name__) from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in UNAVAILABLE:
            raise TableUnavailable(code) from error
        if code == "ConditionalCheckFailedException":
            holder: Item = dict(error.response).get("Item", {})  # type: ignore[assignment]  # not in botocore's types
            raise Holds(decode_item(holder)) from error
        if code == "TransactionConflictException":
            raise Contended from error
        if code == "TransactionCanceledException":
            raise _cancelled(error) from error
        raise


def _cancelled(error: ClientError) -> Exception:
    told: list[Item] = list(error.response.get("CancellationReasons", []))  # type: ignore[arg-type]  # not in botocore's types
    reasons = [reason.get("Code", "None") for reason in told]
    if not reasons:
        reasons = re.findall(r"\w+", error.response["Error"].get("Message", "").partition("[")[2])
    if any(reason in UNAVAILABLE for reason in reasons):
        return TableUnavailable("throttled in a transaction")
    if "TransactionConflict" in reasons:
        return Contended()
    failed = tuple(n for n, reason in enumerate(reasons) if reason == "ConditionalCheckFailed")
    items = {n: decode_item(reason["Item"]) for n, reason in enumerate(told) if reason.get("Item")}
    return ConditionFailed(failed, items) if failed else error


def attempts() -> Iterator[int]:
    """Give the attempts at a write that others may contend for, at growing random distances, until 20 s are over."""
    deadline = time.monotonic() + CONTENTION_PATIENCE
    for attempt in itertools.count():
        yield attempt
        if time.monotonic() > deadline:
            return
        time.sleep(random.uniform(0, min(1.0, 0.02 * 2**attempt)))  # noqa: S311 - jitter is no secret
