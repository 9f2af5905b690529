"""`python -m tests.local` runs the stack until it is interrupted; `python -m tests.local sam-env` configures SAM CLI.

PORT (3000) is where the API listens, AWS_PORT (4566) where AWS does, SMS_PORT (4567) where the simulator of its End
User Messaging does; AWS_REGION (us-east-1); DEMO=0 starts without demo data; RETRY_SECONDS (2) is how long a failed
item waits for its next try. Events on the bus go to standard output, one JSON line each; how far long lists have come,
to standard error; what the functions log goes to a file, or with LOGS=1 to standard error, too.
"""

import contextlib
import http.client
import json
import os
import signal
import sys
import tempfile
import threading

from tests.local import sms
from tests.local.stack import LocalStack, PortInUse, start


def main(arguments: list[str]) -> int:
    """Run a command and return the exit status."""
    if arguments == ["sam-env"]:
        return print_sam_environment()
    if arguments:
        print("usage: python -m tests.local [sam-env]", file=sys.stderr)
        return 2
    return run()


def run() -> int:
    """Run the stack until it is interrupted."""
    # Functions print their logs and metrics as they do in Lambda; standard output is for the bus alone.
    events = sys.stdout
    log = tempfile.NamedTemporaryFile("w", prefix="patient-contact-", suffix=".log", buffering=1, delete=False)  # noqa: SIM115
    sys.stdout = sys.stderr if os.environ.get("LOGS") == "1" else log

    def tell(line: str) -> None:
        # Nobody may be reading any more (`make run | head`): that is no reason for publishing to fail.
        with contextlib.suppress(BrokenPipeError):
            print(line, file=events, flush=True)

    def show(line: str, is_news: bool) -> None:
        # On a terminal the bar moves; where there is none, each tenth is a line.
        if sys.stderr.isatty():
            print(f"\r{line}\033[K", end="\n" if line.endswith("completed") else "", file=sys.stderr, flush=True)
        elif is_news:
            print(line, file=sys.stderr, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with start(
            port=_number("PORT", 3000),
            aws_port=_number("AWS_PORT", 4566),
            sms_port=_number("SMS_PORT", 4567),
            demo=os.environ.get("DEMO") != "0",
            region=os.environ.get("AWS_REGION", "us-east-1"),
            retry_seconds=_number("RETRY_SECONDS", 2),
            announce=tell,
            show=show,
        ) as stack:
            tell(introduction(stack, log.name))
            threading.Event().wait()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    except PortInUse as error:
        print(f"{error}: choose another with PORT=…, AWS_PORT=… or SMS_PORT=…", file=sys.stderr)
        return 1
    return 0


def introduction(stack: LocalStack, log: str) -> str:
    """Return what a newcomer needs to know of a running stack; the last line says that it serves."""
    described = stack.describe()
    dead_letters = [url for name, url in described["resources"].items() if name.endswith("DeadLetters")]
    # The command line of AWS heeds AWS_ENDPOINT_URL for most services, and not for SQS.
    look = (
        f"aws --endpoint-url {stack.aws_url} sqs receive-message --message-attribute-names reason"
        " --max-number-of-messages 10 --visibility-timeout 0"
    )
    body = '{"sub": "me", "practice_ids": ["demo"], "scope": "preferences/read preferences/write"}'
    return "\n".join(
        [
            f"page          {stack.api_url}/",
            f"API           {stack.api_url}",
            f"AWS           {stack.aws_url} in {stack.region}, with any credentials",
            f"carriers      {stack.sms_url}",
            f"event bus     {stack.bus}",
            f"replies       {described['resources']['RepliesTopic']}",
            f"table         {stack.environment['TABLE_NAME']}",
            f"lists         s3://{stack.environment['LISTS_BUCKET']}/lists/demo/",
            *(f"dead letters  {look} --queue-url {url}" for url in dead_letters),
            f"logs          {log} (LOGS=1: here)",
            f"a token       curl -s {stack.api_url}/local/token -d '{body}'",
            f"ready {stack.api_url}",
        ]
    )


def print_sam_environment() -> int:
    """Print the file for `sam local invoke --env-vars`, from the stack that is running."""
    port = _number("PORT", 3000)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/local/resources")
        described = json.load(connection.getresponse())
    except OSError:
        print(f"nothing is running on port {port}: start it with `make run`", file=sys.stderr)
        return 1
    where = {"AWS_ENDPOINT_URL": described["aws_url"], sms.ENDPOINT: described["sms_url"]}
    print(json.dumps({name: each | where for name, each in described["functions"].items()}, indent=2))
    return 0


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, str(otherwise))
    if not text.isdecimal():
        sys.exit(f"{name} must be a number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
