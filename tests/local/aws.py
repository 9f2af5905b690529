"""moto in place of AWS: in this process for the functions, over HTTP for everybody else, the same state behind both."""

import copy
import functools
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import boto3
from botocore.useragent import UserAgentString
from moto import mock_aws
from moto.core import responses, utils
from moto.core.serialize import BaseJSONSerializer
from moto.dynamodb import models as dynamodb
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing import validators
from moto.dynamodb.responses import DynamoHandler
from moto.events.models import EventsBackend
from moto.events.utils import EventTemplateParser
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sqs import models as sqs
from werkzeug.serving import BaseWSGIServer, make_server

from tests.local import callers
from tests.local.template import Template

STACK = "patient-contact"

# moto undoes a cancelled transaction as if nobody else had written in the meantime: one DynamoDB call at a time.
# Reentrant, for who reads the stream in one go.
TABLE_LOCK = threading.RLock()


@dataclass(frozen=True)
class Deployed:
    """The created stack: physical ids by logical id, and the outputs."""

    resources: Mapping[str, str]
    outputs: Mapping[str, str]


@contextmanager
def simulated(on_event: Callable[[dict[str, Any]], None], written: threading.Event) -> Iterator[None]:
    """Send every AWS call of this process to moto, report each accepted event, and signal calls to the table."""
    call_action, put_events = DynamoHandler.call_action, EventsBackend.put_events

    @functools.wraps(call_action)
    def one_at_a_time(handler: DynamoHandler) -> Any:
        try:
            with TABLE_LOCK:
                return call_action(handler)
        finally:
            written.set()

    @functools.wraps(put_events)
    def reported(backend: EventsBackend, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        entries = put_events(backend, events)
        for event, entry in zip(events, entries, strict=True):
            if "EventId" in entry:
                on_event(event)
        return entries

    parse = EventTemplateParser.parse

    def rendered(*, input_template: str | None, event: Any, **others: Any) -> Any:
        # moto renders whole events through a text template, too: 25 ms each, without the account, and with whatever
        # looks like "<id>" in them replaced.
        if input_template is None:
            return {name: value for name, value in event.items() if name != "ingestion-time"}
        return parse(input_template=input_template, event=event, **others)

    with ExitStack() as patches:
        patches.enter_context(patch.object(dynamodb.DynamoDBBackend, "transact_write_items", transact_write_items))
        patches.enter_context(patch.object(BaseJSONSerializer, "_serialize_type_structure", serialize_structure))
        # Asked for each message that waits, at each look at a queue.
        patches.enter_context(patch.object(sqs, "unix_time_millis", lambda: time.time() * 1_000))
        patches.enter_context(patch.object(EventTemplateParser, "parse", staticmethod(rendered)))
        # Asked of the same few classes with each call.
        names = functools.cache(utils.method_names_from_class)
        patches.enter_context(patch.object(responses, "method_names_from_class", names))
        # Of an expression that was parsed for this call, and is used nowhere else.
        patches.enter_context(patch.object(validators, "deepcopy", lambda expression: expression))
        # Who is not asked by anybody need not say anew with each call what it is.
        patches.enter_context(patch.object(UserAgentString, "to_string", lambda _: "local"))
        patches.enter_context(patch.object(DynamoHandler, "call_action", one_at_a_time))
        patches.enter_context(patch.object(EventsBackend, "put_events", reported))
        patches.enter_context(mock_aws())
        yield


_serialize_structure = BaseJSONSerializer._serialize_type_structure  # noqa: SLF001 - what is replaced


def serialize_structure(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
    """Answer an attribute's value as moto keeps it, which is the form of the wire.

    moto asks for each of its ten possible types under six names: a third of all the time that a call takes.
    """
    if shape.name == "AttributeValue" and key and type(value) is dict:
        serialized[key] = value
    else:
        _serialize_structure(self, serialized, value, shape, key)


_transact_write_items = dynamodb.DynamoDBBackend.transact_write_items


def transact_write_items(backend: Any, transact_items: list[dict[str, Any]]) -> None:
    """Write all or nothing, as moto does, with copies of the items that are written.

    moto copies the whole table for each operation, so that a hundred of them take minutes in a table of thousands.
    """
    operations = [operation for item in transact_items for operation in item.values()]
    touched = [(backend.get_table(each["TableName"]), each.get("Item") or each["Key"]) for each in operations]
    before = [(table, key, copy.deepcopy(_item(table, key))) for table, key in touched]
    lengths = {id(table): (table, len(table.stream_shard.items)) for table, _ in touched if table.stream_shard}
    try:
        with patch.object(dynamodb, "copy", _NoCopyOfTables):
            _transact_write_items(backend, transact_items)
    except BaseException:
        for table, key, item in before:
            _put_back(table, key, item)
        for table, length in lengths.values():
            del table.stream_shard.items[length:]
        raise


class _NoCopyOfTables:
    """The module `copy` as moto's DynamoDB sees it during a transaction."""

    @staticmethod
    def deepcopy(value: Any) -> Any:
        return value if isinstance(value, Table) else copy.deepcopy(value)


def _keys(table: Any, key: Mapping[str, Any]) -> list[Any]:
    """Give the hash and range key under which moto keeps an item."""
    return [DynamoType(key[name]) for name in (table.hash_key_attr, table.range_key_attr)]


def _item(table: Any, key: Mapping[str, Any]) -> Any:
    hash_key, range_key = _keys(table, key)
    return table.items[hash_key].get(range_key) if hash_key in table.items else None


def _put_back(table: Any, key: Mapping[str, Any], item: Any) -> None:
    hash_key, range_key = _keys(table, key)
    if item is not None:
        table.items[hash_key][range_key] = item
    elif hash_key in table.items:
        table.items[hash_key].pop(range_key, None)


def server(listening: socket.socket) -> BaseWSGIServer:
    """Return a server of moto's state over HTTP, for a socket that is listening already."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: Any, start_response: Any) -> Any:
        if callers.is_from_here(environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN")):
            return moto(environ, start_response)
        start_response("403 Forbidden", [("content-length", "0")])
        return []

    host, port = listening.getsockname()
    return make_server(
        host, port, application, threaded=True, request_handler=MotoRequestHandler, fd=listening.fileno()
    )


def deploy(template: Template) -> Deployed:
    """Create the template's stateful resources, and what moto's CloudFormation leaves out of them."""
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName=STACK,
        TemplateBody=json.dumps(template.for_moto()),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in template.parameters.items()],
    )
    (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    summaries = cloudformation.list_stack_resources(StackName=STACK)["StackResourceSummaries"]
    resources = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in summaries}
    for name, resource in template.resources.items():
        if resource["Type"] == "AWS::DynamoDB::Table" and "TimeToLiveSpecification" in resource["Properties"]:
            boto3.client("dynamodb").update_time_to_live(
                TableName=resources[name], TimeToLiveSpecification=resource["Properties"]["TimeToLiveSpecification"]
            )
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    for each in template.service(outputs).subscriptions:
        raw = {"RawMessageDelivery": "true" if each.raw else "false"}
        boto3.client("sns").subscribe(TopicArn=each.topic_arn, Protocol="sqs", Endpoint=each.queue_arn, Attributes=raw)
    return Deployed(resources, outputs)
