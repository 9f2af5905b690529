"""Reads `template.yaml` as AWS would: plain CloudFormation for moto, and what the stack itself has to play.

moto gets the resources that it can make and that hold state. Functions, event sources and the HTTP API are played by
this stack; their properties are read from the same transformed template, so that the template stays the only truth.
"""

import json
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"

BUS = "AWS::Events::EventBus"
MADE_BY_MOTO = {
    BUS,
    "AWS::DynamoDB::Table",
    "AWS::Events::Rule",
    "AWS::KMS::Key",
    "AWS::S3::Bucket",
    "AWS::SNS::Topic",
    "AWS::SQS::Queue",
}


@dataclass(frozen=True)
class Function:
    """A function: its handler as a dotted path, its time-out in seconds, memory in MB and environment."""

    name: str
    handler: str
    timeout: int
    memory: int
    environment: Mapping[str, str]


@dataclass(frozen=True)
class EventSource:
    """A queue or a stream that feeds a function; `retries` below zero never end."""

    function: str
    arn: str
    batch_size: int
    window_seconds: int
    partial_failures: bool
    bisect: bool
    retries: int
    on_failure: str | None


@dataclass(frozen=True)
class Subscription:
    """A queue's subscription to a topic."""

    topic_arn: str
    queue_arn: str
    raw: bool


@dataclass(frozen=True)
class Schedule:
    """A function that is invoked again and again."""

    function: str
    every_seconds: int


@dataclass(frozen=True)
class Route:
    """A route of the HTTP API, its function and the scopes of which a token needs one; None asks for no token."""

    method: str
    path: str
    function: str
    scopes: list[str] | None

    @property
    def key(self) -> str:
        """The route key that API Gateway gives to it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Service:
    """What the stack plays: functions, what feeds them, routes, and whose tokens are trusted; beside names of buses."""

    functions: tuple[Function, ...]
    event_sources: tuple[EventSource, ...]
    subscriptions: tuple[Subscription, ...]
    schedules: tuple[Schedule, ...]
    routes: tuple[Route, ...]
    buses: Mapping[str, str]
    issuer: str
    audiences: list[str]


class Template:
    """The transformed template, with values for its parameters."""

    def __init__(self, parameters: Mapping[str, str], path: Path = TEMPLATE) -> None:
        logging.getLogger("samtranslator").setLevel(logging.ERROR)
        source = yaml_parse(path.read_text())
        self.parameters = {
            name: parameters.get(name, str(parameter.get("Default", "")))
            for name, parameter in source.get("Parameters", {}).items()
        }
        for resource in source["Resources"].values():
            for code in ("CodeUri", "ContentUri"):
                if code in resource.get("Properties", {}):
                    resource["Properties"][code] = f"s3://local/{resource['Properties'][code]}"
        plain = transform(source, dict(self.parameters), _NoManagedPolicies())
        # In moto a reference to a bus is an object and not its name: the name is put in its place.
        buses = {name: each["Properties"]["Name"] for name, each in plain["Resources"].items() if each["Type"] == BUS}
        self._plain = _named(plain, buses)
        self.resources: dict[str, Any] = self._plain["Resources"]
        self._outputs: dict[str, Any] = {}
        self._secret = secrets.token_hex(32)
        self._played = self._with_outputs(self._what_is_played())

    def for_moto(self) -> dict[str, Any]:
        """Return the template of the resources that moto makes, with an output for each value that the stack needs."""
        made = {
            name: resource
            for name, resource in self.resources.items()
            if resource["Type"] in MADE_BY_MOTO and "ScheduleExpression" not in resource["Properties"]
        }
        kept = ("Type", "Properties", "Condition")
        resources = {name: {key: resource[key] for key in kept if key in resource} for name, resource in made.items()}
        sections = {key: self._plain[key] for key in ("Parameters", "Conditions", "Mappings") if key in self._plain}
        return sections | {"Resources": resources, "Outputs": self._outputs}

    def service(self, outputs: Mapping[str, str]) -> Service:
        """Return what the stack plays, with the outputs of the created stack filled in."""
        played = _filled(self._played, outputs)
        return Service(
            functions=tuple(_function(name, properties) for name, properties in played["functions"].items()),
            event_sources=tuple(_event_source(*source) for source in played["event_sources"]),
            subscriptions=tuple(Subscription(*each) for each in played["subscriptions"]),
            schedules=tuple(Schedule(*each) for each in played["schedules"]),
            routes=tuple(Route(*route) for route in played["routes"]),
            buses=played["buses"],
            issuer=played["authorizer"]["issuer"],
            audiences=played["authorizer"]["audience"],
        )

    def _what_is_played(self) -> dict[str, Any]:
        api = self._of_type("AWS::ApiGatewayV2::Api").popitem()[1]["Body"]
        (scheme,) = api["components"]["securitySchemes"].values()
        return {
            "functions": {
                name: {key: value for key, value in properties.items() if key in _FUNCTION_PROPERTIES}
                for name, properties in self._of_type("AWS::Lambda::Function").items()
            },
            "event_sources": [
                (self._function_of(properties["FunctionName"]), properties | {"FunctionName": None})
                for properties in self._of_type("AWS::Lambda::EventSourceMapping").values()
            ],
            "subscriptions": [
                (each["TopicArn"], each["Endpoint"], each.get("RawMessageDelivery", False))
                for each in self._of_type("AWS::SNS::Subscription").values()
                if each["Protocol"] == "sqs"
            ],
            "schedules": [
                (self._function_of(target["Arn"]), _seconds(rule["ScheduleExpression"]))
                for rule in self._of_type("AWS::Events::Rule").values()
                if "ScheduleExpression" in rule
                for target in rule["Targets"]
            ],
            "routes": [
                (method.upper(), path, self._integration(operation), _scopes(operation))
                for path, methods in api["paths"].items()
                for method, operation in methods.items()
            ],
            "buses": {name: properties["Name"] for name, properties in self._of_type(BUS).items()},
            "authorizer": scheme["x-amazon-apigateway-authorizer"]["jwtConfiguration"],
        }

    def _of_type(self, resource_type: str) -> dict[str, Any]:
        return {name: each["Properties"] for name, each in self.resources.items() if each["Type"] == resource_type}

    def _function_of(self, reference: Mapping[str, Any]) -> str:
        """Follow a reference to a function, or to its alias, to the function's logical id."""
        name = str(reference["Ref"])
        resource = self.resources[name]
        return self._function_of(resource["Properties"]["FunctionName"]) if resource["Type"].endswith("Alias") else name

    def _integration(self, operation: Mapping[str, Any]) -> str:
        uri = json.dumps(operation["x-amazon-apigateway-integration"]["uri"])
        reference = re.search(r"functions/\$\{(\w+)", uri)
        assert reference, f"no function in {uri}"
        return self._function_of({"Ref": reference[1]})

    def _with_outputs(self, value: Any) -> Any:
        """Replace each intrinsic by an output, so that CloudFormation resolves it and not a second copy of its rules.

        A dynamic reference to a secret is answered with one that is made up for the run.
        """
        if isinstance(value, dict):
            if len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::")):
                if "{{resolve:secretsmanager:" in str(value):
                    return self._secret
                name = f"Local{len(self._outputs)}"
                self._outputs[name] = {"Value": value}
                return _Output(name)
            return {key: self._with_outputs(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._with_outputs(each) for each in value]
        return value


@dataclass(frozen=True)
class _Output:
    name: str


class _NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


_FUNCTION_PROPERTIES = ("Code", "Handler", "Timeout", "MemorySize", "Environment")


def _named(value: Any, names: Mapping[str, Any]) -> Any:
    """Replace references by the names of what they refer to."""
    if isinstance(value, dict):
        if set(value) == {"Ref"} and value["Ref"] in names:
            return names[value["Ref"]]
        return {key: _named(each, names) for key, each in value.items()}
    return [_named(each, names) for each in value] if isinstance(value, list) else value


def _filled(value: Any, outputs: Mapping[str, str]) -> Any:
    if isinstance(value, _Output):
        return outputs[value.name]
    if isinstance(value, dict):
        return {key: _filled(each, outputs) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, outputs) for each in value]
    return value


def _seconds(rate: str) -> int:
    """Read `rate(1 hour)`; no other kind of schedule is played."""
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", rate)
    assert match, f"{rate} is not played here"
    return int(match[1]) * {"minute": 60, "hour": 3_600, "day": 86_400}[match[2]]


def _scopes(operation: Mapping[str, Any]) -> list[str] | None:
    """Return the scopes of a route behind the authorizer; None for one that asks for no token."""
    requirements = [each for each in operation.get("security", []) if "NONE" not in each]
    return [scope for each in requirements for scopes in each.values() for scope in scopes] if requirements else None


def _function(name: str, properties: Mapping[str, Any]) -> Function:
    folder = properties["Code"]["S3Key"].strip("./").replace("/", ".")
    return Function(
        name=name,
        handler=f"{folder}.{properties['Handler']}",
        timeout=int(properties.get("Timeout", 3)),
        memory=int(properties.get("MemorySize", 128)),
        environment={key: str(value) for key, value in properties.get("Environment", {}).get("Variables", {}).items()},
    )


def _event_source(function: str, properties: Mapping[str, Any]) -> EventSource:
    return EventSource(
        function=function,
        arn=properties["EventSourceArn"],
        batch_size=int(properties.get("BatchSize", 10)),
        window_seconds=int(properties.get("MaximumBatchingWindowInSeconds", 0)),
        partial_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", []),
        bisect=bool(properties.get("BisectBatchOnFunctionError", False)),
        retries=int(properties.get("MaximumRetryAttempts", -1)),
        on_failure=properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
    )
