"""Runs the functions of `template.yaml` in this process, as Lambda would: JSON in, JSON out, a context, a time-out."""

import importlib
import json
import sys
import time
import traceback
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from typing import Any

from tests.local.template import EventSource, Function

ACCOUNT = "123456789012"


class InvocationFailed(Exception):
    """The function raised, took too long, or answered something that is no JSON."""


@dataclass(frozen=True)
class Context:
    """What Lambda passes to a handler beside the event."""

    function_name: str
    memory_limit_in_mb: int
    invoked_function_arn: str
    aws_request_id: str
    deadline: float
    function_version: str = "$LATEST"

    def get_remaining_time_in_millis(self) -> int:
        """Return what is left of the function's time-out."""
        return max(0, int((self.deadline - time.monotonic()) * 1000))


class Runtime:
    """The functions of the template, loaded once and ready to be invoked by their logical ids."""

    def __init__(self, functions: Iterable[Function], region: str) -> None:
        self._functions = {function.name: function for function in functions}
        self._handlers = {name: _handler(function) for name, function in self._functions.items()}
        self._region = region

    def arn(self, name: str) -> str:
        """Return the ARN that the function would have."""
        return f"arn:aws:lambda:{self._region}:{ACCOUNT}:function:{name}"

    def invoke(self, name: str, event: dict[str, Any]) -> Any:
        """Return the function's answer to the event; raises `InvocationFailed`, after the traceback went to the log."""
        function = self._functions[name]
        deadline = time.monotonic() + function.timeout
        context = Context(name, function.memory, self.arn(name), str(uuid.uuid4()), deadline)
        try:
            answer = json.loads(json.dumps(self._handlers[name](json.loads(json.dumps(event)), context)))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise InvocationFailed(name) from error
        if time.monotonic() > deadline:
            # A thread cannot be killed as Lambda kills a function: what it did stays done, only its answer is lost.
            sys.stderr.write(f"{name}: Task timed out after {function.timeout} seconds\n")
            raise InvocationFailed(name)
        return answer


def _handler(function: Function) -> Any:
    module, _, attribute = function.handler.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def forget_clients() -> None:
    """Empty the caches of clients that the functions keep for the life of their environment."""
    module = sys.modules.get("patient_contact.aws")
    for value in list(vars(module).values()) if module else ():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


@dataclass(frozen=True)
class Feed:
    """An event source that feeds its function until `stopping` is set; `written` says that the table may have changed.

    `retry_seconds` takes the place of AWS's delays between tries, which are minutes.
    """

    source: EventSource
    runtime: Runtime
    retry_seconds: int
    stopping: Event
    written: Event

    def failed(self, records: list[dict[str, Any]], identifiers: list[str]) -> set[str]:
        """Invoke the function with a batch and return the identifiers of the records that failed."""
        try:
            answer = self.runtime.invoke(self.source.function, {"Records": records})
        except InvocationFailed:
            return set(identifiers)
        return failed_items(answer, identifiers) if self.source.partial_failures else set()


def failed_items(answer: Any, identifiers: list[str]) -> set[str]:
    """Return what a partial batch response reports as failed; a report that makes no sense fails the whole batch."""
    failures = {item.get("itemIdentifier") for item in (answer or {}).get("batchItemFailures") or ()}
    return failures if failures.issubset(identifiers) else set(identifiers)
