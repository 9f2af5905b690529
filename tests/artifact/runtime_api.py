"""Lambda's Runtime API on a local port, and the real runtime client running a built function against it."""

import json
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NEXT = "/2018-06-01/runtime/invocation/next"


class FunctionFailed(Exception):
    """The function raised, or did not even begin; the message is what the runtime client reported."""


class Function:
    """A running function: its process asks for events here, and answers them."""

    def __init__(self, timeout: int) -> None:
        self.timeout = timeout
        self.events: queue.Queue[tuple[str, str] | None] = queue.Queue()
        self.answers: queue.Queue[tuple[bool, str]] = queue.Queue()

    def invoke(self, event: Any) -> Any:
        """Return the function's answer to an event."""
        self.events.put((str(uuid.uuid4()), json.dumps(event)))
        try:
            succeeded, text = self.answers.get(timeout=self.timeout)
        except queue.Empty:
            raise FunctionFailed(f"no answer within {self.timeout} s") from None
        if not succeeded:
            raise FunctionFailed(text)
        return json.loads(text)


@contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: int, log: Path
) -> Iterator[Function]:
    """Run a built function by a command; what its process prints goes to a file."""
    function = Function(timeout)
    with _serving(function) as address, log.open("wb") as printed:
        process = subprocess.Popen(
            command, cwd=folder, env={**environment, "AWS_LAMBDA_RUNTIME_API": address}, stdout=printed, stderr=printed
        )
        try:
            yield function
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _serving(function: Function) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        # Without these two each call costs 88 ms: small writes wait for each other's acknowledgements.
        wbufsize = -1
        disable_nagle_algorithm = True
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            # The function is ended while it asks for its next event.
            with suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            waiting = function.events.get() if self.path == NEXT else None
            if waiting is None:
                self._answer(410, "")
                return
            request_id, event = waiting
            deadline = int((time.time() + function.timeout) * 1000)
            arn = "arn:aws:lambda:us-east-1:123456789012:function:built:live"
            self._answer(
                200,
                event,
                {
                    "Lambda-Runtime-Aws-Request-Id": request_id,
                    "Lambda-Runtime-Deadline-Ms": str(deadline),
                    "Lambda-Runtime-Invoked-Function-Arn": arn,
                },
            )

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            function.answers.put((self.path.endswith("/response"), text))
            self._answer(202, "")

        def _answer(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
            body = text.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        function.events.put(None)
        server.shutdown()
        server.server_close()
        thread.join()
