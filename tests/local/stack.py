"""The local stack: the template's resources in moto, its functions in this process, its API over HTTP, its pollers."""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import boto3

from patient_contact import aws as clients
from patient_contact.events import BULK_QUEUED, SOURCE_RECEIPTS
from tests.local import api, aws, demo_data, queues, sms, stream
from tests.local.progress import Progress
from tests.local.runtime import Feed, InvocationFailed, Runtime, forget_clients
from tests.local.template import Schedule, Template
from tests.local.tokens import SignIn, Tokens

AUDIENCE = "patient-contact"
IDENTIFIER = re.compile(r"[A-Za-z0-9._~:-]{1,300}")
# Later than the sender's own answer.
RECEIPTS_AFTER_SECONDS = 0.3

_ONE_AT_A_TIME = threading.Lock()

Found = TypeVar("Found")


class PortInUse(Exception):
    """The port that was asked for is taken, or is none."""


class LocalStack:
    """A running stack: where it is, what is in it, and what was published on its bus so far."""

    tokens: Tokens

    def __init__(self, region: str) -> None:
        self.region = region
        self.api_url = ""
        self.aws_url = ""
        self.sms_url = ""
        self.bus = ""
        self.resources: Mapping[str, str] = {}
        self.functions: Mapping[str, Mapping[str, str]] = {}
        self.events: list[dict[str, Any]] = []
        self.undo = ExitStack()

    def __enter__(self) -> "LocalStack":  # noqa: PYI034 - nobody inherits from it
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What processes outside need: where AWS is, credentials, and the variables of all functions."""
        where = {"AWS_ENDPOINT_URL": self.aws_url, sms.ENDPOINT: self.sms_url}
        return _aws_variables(self.region) | _merged(self.describe()["functions"]) | where

    def token(self, sub: str, practice_ids: Iterable[str], scope: str) -> str:
        """Return an access token; scopes are separated by spaces."""
        return self.tokens.issue(sub, practice_ids, scope)

    def client(self, service: str) -> Any:
        """Return a boto3 client as somebody outside has it: over HTTP."""
        session = boto3.Session("local", "local", region_name=self.region)
        return session.client(service, endpoint_url=self.aws_url)  # type: ignore[call-overload]

    def wait_until(self, found: Callable[[], Found], timeout: float = 15) -> Found:
        """Ask until the answer is truthy and return it; raises `TimeoutError` when that takes too many seconds."""
        deadline = time.monotonic() + timeout
        while not (answer := found()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s")
            time.sleep(0.02)
        return answer

    def describe(self) -> dict[str, Any]:
        """Return what is where, seen from outside: URLs of queues lead to the port that serves AWS."""
        text = json.dumps(
            {
                "api_url": self.api_url,
                "aws_url": self.aws_url,
                "sms_url": self.sms_url,
                "region": self.region,
                "event_bus": self.bus,
                "resources": dict(self.resources),
                "functions": {name: dict(variables) for name, variables in self.functions.items()},
            }
        )
        described: dict[str, Any] = json.loads(
            text.replace(f"https://sqs.{self.region}.amazonaws.com/", f"{self.aws_url}/")
        )
        return described

    def stop(self) -> None:
        """Stop everything; what was stored is gone."""
        self.undo.close()


def start(
    port: int = 0,
    aws_port: int = 0,
    sms_port: int = 0,
    demo: bool = False,
    region: str = "us-east-1",
    retry_seconds: int = 2,
    announce: Callable[[str], object] = str,
    show: Callable[[str, bool], object] | None = None,
) -> LocalStack:
    """Start the only stack of this process; raises `PortInUse`, and port 0 takes any that is free.

    `announce` gets a JSON line for each event on the bus; a failed item waits `retry_seconds` for its next try. `show`
    gets lines that say how far long lists have come, and whether much has changed since the line before.
    """
    stack = LocalStack(region)
    try:
        _boot(stack, (port, aws_port, sms_port), retry_seconds, announce, show)
        if demo:
            demo_data.verify_sender()
            demo_data.load(stack.api_url, stack.token("demo-data", [demo_data.PRACTICE_ID], demo_data.SCOPE))
    except BaseException:
        stack.stop()
        raise
    return stack


def _boot(
    stack: LocalStack,
    ports: tuple[int, int, int],
    retry_seconds: int,
    announce: Callable[[str], object],
    show: Callable[[str, bool], object] | None,
) -> None:
    written, stopping = threading.Event(), threading.Event()
    lists_under_way = Progress(show) if show else None

    def on_event(event: dict[str, Any]) -> None:
        if str(event.get("EventBusName", "default")).rpartition("/")[2] == stack.bus:
            detail = json.loads(event["Detail"])
            stack.events.append({"source": event["Source"], "detail-type": event["DetailType"], "detail": detail})
            announce(summary(event["Source"], event["DetailType"], detail))
            if lists_under_way and event["DetailType"] == BULK_QUEUED:
                lists_under_way.begin(detail["practice_id"], detail["bulk_id"])

    during = stack.undo.enter_context
    during(_only_one())
    api_socket, aws_socket, sms_socket = (during(_listening(port)) for port in ports)
    during(_environment(_aws_variables(stack.region)))
    forget_clients()
    stack.undo.callback(forget_clients)
    during(aws.simulated(on_event, written))

    stack.api_url = f"http://127.0.0.1:{api_socket.getsockname()[1]}"
    # The run is its own identity provider: the page signs in here as it does anywhere.
    template = Template({"JwtIssuer": stack.api_url, "JwtAudience": AUDIENCE})
    deployed = aws.deploy(template)
    service = template.service(deployed.outputs)
    stack.resources = {**deployed.resources, **service.buses}
    (stack.bus,) = service.buses.values()
    stack.functions = {function.name: function.environment for function in service.functions}
    # The service has one address more than those of AWS, which moto answers in this process.
    carriers = sms.Server(sms_socket, _receipts_to_the_default_bus(), RECEIPTS_AFTER_SECONDS)
    stack.sms_url = during(_serving(carriers))
    during(_environment(_merged(stack.functions) | {sms.ENDPOINT: stack.sms_url}))

    runtime = Runtime(service.functions, stack.region)
    # One of each, before several threads make their own.
    clients.dynamodb(), clients.sqs(), clients.events(), clients.s3(), clients.sms()
    stack.tokens = Tokens(service.issuer, service.audiences)
    sign_in = SignIn(
        stack.tokens, template.parameters["PageClientId"], partial(_practice_ids, deployed.resources["Table"])
    )
    gateway = api.Gateway(service.routes, stack.tokens, runtime, stack.describe, sign_in)
    stack.aws_url = during(_serving(aws.server(aws_socket)))
    during(_serving(api.Server(api_socket, gateway)))
    for source in service.event_sources:
        feed = Feed(source, runtime, retry_seconds, stopping, written)
        poll, client = (stream.poll, "s3") if ":dynamodb:" in source.arn else (queues.poll, "sqs")
        during(_running(poll, feed, boto3.client(client)))  # type: ignore[call-overload]
    if lists_under_way:
        during(_running(lists_under_way.watch, stopping))
    for schedule in service.schedules:
        during(_running(_repeat, schedule, runtime, stopping))
    stack.undo.callback(written.set)
    stack.undo.callback(stopping.set)


def _practice_ids(table: str) -> list[str]:
    """Give all practices that there are now."""
    pages = (
        clients.dynamodb()
        .get_paginator("scan")
        .paginate(
            TableName=table,
            FilterExpression="SK = :practice",
            ExpressionAttributeValues={":practice": {"S": "PRACTICE"}},
            ProjectionExpression="PK",
        )
    )
    return sorted(item["PK"]["S"].removeprefix("PRACTICE#") for page in pages for item in page["Items"])


def _receipts_to_the_default_bus() -> sms.OnReceipt:
    """Give what puts receipts on the account's own bus, as AWS End User Messaging does."""
    events = boto3.client("events")

    def put(detail_type: str, detail: dict[str, Any]) -> None:
        events.put_events(
            Entries=[{"Source": SOURCE_RECEIPTS, "DetailType": detail_type, "Detail": json.dumps(detail)}]
        )

    return put


def _repeat(schedule: Schedule, runtime: Runtime, stopping: threading.Event) -> None:
    """Invoke a function on its schedule, and at once."""
    while not stopping.is_set():
        with suppress(InvocationFailed):
            runtime.invoke(schedule.function, {"source": "aws.events", "detail-type": "Scheduled Event"})
        stopping.wait(schedule.every_seconds)


def summary(source: str, detail_type: str, detail: object) -> str:
    """Render an event as one JSON line without anything about the patient."""
    facts = detail if isinstance(detail, dict) else {}
    message_id = facts.get("message_id")
    if "automation_id" in facts:
        message_id = f"automation:{facts['automation_id']}:{facts.get('occurrence_id')}"
    told = {"practice": facts.get("practice_id"), "message_id": message_id, "outcome": facts.get("outcome")}
    # Whoever may put events could put anything else in the place of an id.
    ids = {name: value for name, value in told.items() if isinstance(value, str) and IDENTIFIER.fullmatch(value)}
    return json.dumps({"source": source, "detail-type": detail_type, **ids})


def _merged(environments: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return one environment for all functions: a name means the same in each of them."""
    return {name: value for each in environments.values() for name, value in each.items()}


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold the process, for which moto keeps one state."""
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise RuntimeError("a stack is running in this process already")
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Take a port of the loopback address, and nothing but that address."""
    try:
        listening = socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise PortInUse(f"port {port} is in use") from error
    except OverflowError as error:
        raise PortInUse(f"{port} is no port") from error
    with listening:
        yield listening


@contextmanager
def _running(work: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Do the work in a thread; whoever started it says when it ends."""
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def _serving(server: Any) -> Iterator[str]:
    """Serve requests from a thread, and give the URL."""
    with _running(server.serve_forever, 0.05):
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Run the process with these variables, and with nothing else of AWS's: no profile may lead to a real account."""
    saved = dict(os.environ)
    for name in [name for name in saved if name.startswith("AWS_") and name not in _aws_variables("")]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


def _aws_variables(region: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
    }
