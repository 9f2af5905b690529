"""The local stack as a process: one run after the other, `make run`, its ports and its end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.local.stack import PortInUse, start

COMMAND = [sys.executable, "-m", "tests.local"]
ROOT = Path(__file__).parents[2]


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        COMMAND + arguments, cwd=ROOT, env=os.environ | environment, text=True, capture_output=True, check=False
    )


@pytest.fixture
def running() -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A run of the command, and what it said until it was ready."""
    ports = dict.fromkeys(("PORT", "AWS_PORT", "SMS_PORT"), "0")
    environment = os.environ | ports | {"AWS_PROFILE": "production", "AWS_REGION": "eu-west-1"}
    with subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        lines: list[str] = []
        assert process.stdout
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("ready "):
                break
        yield process, lines
        process.kill()


def test_it_says_where_it_serves_and_stops_quietly(running: tuple[subprocess.Popen[str], list[str]]) -> None:
    process, lines = running
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+", lines[-1])
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "Traceback" not in errors


def test_standard_output_is_the_bus_and_says_nothing_of_patients(
    running: tuple[subprocess.Popen[str], list[str]],
) -> None:
    process, lines = running
    events = [json.loads(line) for line in lines if line.startswith("{")]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=15)
    events += [json.loads(line) for line in output.splitlines()]
    assert {"source": "patient-contact.preferences", "detail-type": "PreferencesChanged", "practice": "demo"} in events
    assert "p-text" not in output + "".join(lines)


def test_sam_is_told_where_the_running_stack_is(running: tuple[subprocess.Popen[str], list[str]]) -> None:
    _, lines = running
    written = run(["sam-env"], PORT=lines[-1].rpartition(":")[2])
    environment = json.loads(written.stdout)["PublishEventsFunction"]
    assert environment["AWS_ENDPOINT_URL"] in "".join(lines)
    assert environment["AWS_ENDPOINT_URL_PINPOINT_SMS_VOICE_V2"] in "".join(lines)
    assert environment["AWS_ENDPOINT_URL_PINPOINT_SMS_VOICE_V2"] != environment["AWS_ENDPOINT_URL"]
    assert environment["EVENT_BUS_NAME"] == "patient-contact"


def test_sam_is_told_nothing_when_nothing_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    written = run(["sam-env"], PORT=port)
    assert (written.returncode, written.stdout) == (1, "")
    assert written.stderr == f"nothing is running on port {port}: start it with `make run`\n"


@pytest.mark.parametrize("name", ["PORT", "AWS_PORT", "SMS_PORT"])
def test_a_port_that_is_taken_is_one_line_and_a_failure(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = run([], **{"PORT": "0", "AWS_PORT": "0", "SMS_PORT": "0"} | {name: port})
        with pytest.raises(PortInUse):
            start(**{name.lower(): int(port)})  # type: ignore[arg-type]  # its ports are integers
    assert finished.returncode == 1
    assert finished.stderr == f"port {port} is in use: choose another with PORT=…, AWS_PORT=… or SMS_PORT=…\n"


def test_a_stack_leaves_nothing_to_the_next() -> None:
    before = dict(os.environ)
    with start(demo=True) as first:
        table = first.environment["TABLE_NAME"]
        addresses = [urlsplit(url).netloc for url in (first.api_url, first.aws_url, first.sms_url)]
    with start(region="eu-west-1") as second:
        assert second.environment["TABLE_NAME"] != table
        assert second.client("dynamodb").scan(TableName=second.environment["TABLE_NAME"])["Items"] == []
        for address in addresses:
            with pytest.raises(ConnectionRefusedError):
                http.client.HTTPConnection(address).request("GET", "/")
    assert dict(os.environ) == before


def test_a_process_runs_one_stack_at_a_time() -> None:
    with start(), pytest.raises(RuntimeError, match="already"):
        start()
