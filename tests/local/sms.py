"""A simulator of AWS End User Messaging: a small HTTP server that speaks the parts of `pinpoint-sms-voice-v2` we call.

Uses the standard library, nothing of the product. What a number is, and what becomes of messages to it, follows from
the number: the magic ones are below, and every other is a mobile phone that gets them.
"""

import json
import re
import socket
import socketserver
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from queue import SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic, time
from typing import Any, Literal

from tests.local import callers

# Where botocore, in this process and in others, finds the service.
ENDPOINT = "AWS_ENDPOINT_URL_PINPOINT_SMS_VOICE_V2"

LANDLINE = "+12065550110"
VOIP = "+12065550111"
PREPAID = "+12065550112"
OTHER = "+12065550113"
INVALID = "+12065550114"
TIMES_OUT = "+12065550115"
THROTTLES_TWICE = "+12065550116"
MAGIC = {LANDLINE: "LANDLINE", VOIP: "VOIP", PREPAID: "PREPAID", OTHER: "OTHER", INVALID: "INVALID"}

# Mobile phones all; something happens on the way to them.
OPTED_OUT_AT_CARRIER = "+12065550120"
NOT_A_NUMBER = "+12065550121"
SEND_THROTTLES_TWICE = "+12065550122"
ANSWER_IS_LOST = "+12065550123"
ANSWERS_500 = "+12065550124"
NEVER_ANSWERS = "+12065550125"
ANSWER_IS_LOST_RECEIPT_COMES = "+12065550126"
UNREACHABLE = "+12065550127"

# Longer than anybody waits for a lookup.
HANGS_SECONDS = 5.0
# Longer than anybody waits for the acceptance of a message.
SEND_HANGS_SECONDS = 15.0
DEFAULT_LIST = "Default"

Channel = Literal["text", "call"]
# Gets the detail-type and the detail of a receipt.
OnReceipt = Callable[[str, dict[str, Any]], object]

# Which number a request is about.
NUMBERS = {
    "CarrierLookup": "PhoneNumber",
    "SendTextMessage": "DestinationPhoneNumber",
    "SendVoiceMessage": "DestinationPhoneNumber",
    "DeleteOptedOutNumber": "OptedOutNumber",
}
LONGEST = {"text": 1_600, "call": 6_000}
E164 = re.compile(r"\+[1-9]\d{5,14}")
ORIGINATION = re.compile(r"[A-Za-z0-9_:/+-]{1,256}")
CONFIGURATION_SET = re.compile(r"[A-Za-z0-9_:/-]{1,256}")
CONTEXT_KEY = re.compile(r"\S{1,100}")
CONTEXT_VALUE = re.compile(r"(?!\s)[\s\S]{1,800}(?<!\s)")

DETAIL_TYPES = {
    "text": "Text Message Delivery Status Updated",
    "call": "Voice Message Delivery Status Updated",
}
REACHED = {
    "text": ("TEXT_SENT", "TEXT_DELIVERED"),
    "call": ("VOICE_INITIATED", "VOICE_ANSWERED", "VOICE_COMPLETED"),
}
NOT_REACHED = {
    "text": ("TEXT_SENT", "TEXT_UNREACHABLE"),
    "call": ("VOICE_INITIATED", "VOICE_NO_ANSWER"),
}


class Refused(Exception):
    """The service refuses a request: its exception's name, what it says, and the exception's other fields."""

    def __init__(self, code: str, message: str, **fields: object) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields


class Failed500(Exception):
    """The service answers that something failed on its side."""


class Dropped(Exception):
    """The connection ends without an answer."""


class Hangs(Exception):
    """No answer comes for so many seconds, and none after them."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer for {seconds} s")
        self.seconds = seconds


class Carriers:
    """The service without its HTTP: what it was asked, what it accepted, and who is opted out.

    `on_receipt` gets the receipts of a message, in order, before its sender gets an answer.
    """

    def __init__(self, on_receipt: OnReceipt | None = None) -> None:
        self.on_receipt = on_receipt
        self.requests: Counter[tuple[str, str]] = Counter()
        self.lookups: Counter[str] = Counter()
        self.accepted: list[dict[str, Any]] = []
        # Since when, by list and number.
        self.opted_out: dict[tuple[str, str], float] = {}
        # The list of each origination that has another one than the account's default.
        self.opt_out_lists: dict[str, str] = {}
        self.send_hangs_seconds = SEND_HANGS_SECONDS
        self._lock = Lock()

    def answer(self, operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request, or raise what happens to it: Refused, Failed500, Dropped or Hangs."""
        if operation not in NUMBERS:
            raise Refused("UnknownOperationException", f"{operation} is not simulated")
        number = str(asked.get(NUMBERS[operation], ""))
        with self._lock:
            self.requests[operation, number] += 1
            times = self.requests[operation, number]
        match operation:
            case "SendTextMessage":
                return self._send("text", asked, times)
            case "SendVoiceMessage":
                return self._send("call", asked, times)
            case "DeleteOptedOutNumber":
                return self._opt_in(asked)
        return self._look_up(asked)

    def opt_out(self, number: str, opt_out_list: str = DEFAULT_LIST) -> None:
        """Put a number into an opt-out list, as a STOP does."""
        with self._lock:
            self.opted_out[opt_out_list, number] = time()

    def so_far(self) -> list[dict[str, Any]]:
        """Give what was accepted so far, newest last."""
        with self._lock:
            return list(self.accepted)

    def forget(self) -> None:
        """Forget what was asked and accepted, and who is opted out."""
        with self._lock:
            for each in (self.requests, self.lookups, self.accepted, self.opted_out, self.opt_out_lists):
                each.clear()

    def _look_up(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        number = re.sub(r"[^\d+]", "", str(asked.get("PhoneNumber", "")))
        with self._lock:
            self.lookups[number] += 1
            times = self.lookups[number]
        if not E164.fullmatch(number):
            raise Refused("ValidationException", "PhoneNumber is not a phone number")
        if number == TIMES_OUT:
            raise Hangs(HANGS_SECONDS)
        if number == THROTTLES_TWICE and times <= 2:
            raise Refused("ThrottlingException", "Rate exceeded")
        number_type = MAGIC.get(number, "MOBILE")
        return {"E164PhoneNumber": number, "PhoneNumberType": number_type, "OriginalPhoneNumber": asked["PhoneNumber"]}

    def _send(self, channel: Channel, asked: Mapping[str, Any], times: int) -> dict[str, Any]:
        _require(asked, "DestinationPhoneNumber", "OriginationIdentity", "MessageBody")
        _refuse("INVALID_PARAMETER", dict(_complaints(channel, asked)))
        number = asked["DestinationPhoneNumber"]
        if channel == "text":
            self._refuse_opted_out(number, asked["OriginationIdentity"])
        if number == SEND_THROTTLES_TWICE and times <= 2:
            raise Refused("ThrottlingException", "Rate exceeded")
        if number == NEVER_ANSWERS:
            raise Hangs(self.send_hangs_seconds)
        message = self._accept(channel, asked)
        if number not in (ANSWER_IS_LOST, ANSWERS_500):
            self._play_receipts(message)
        if number in (ANSWER_IS_LOST, ANSWER_IS_LOST_RECEIPT_COMES):
            raise Dropped
        if number == ANSWERS_500:
            raise Failed500
        return {"MessageId": message["message_id"]}

    def _refuse_opted_out(self, number: str, origination: str) -> None:
        with self._lock:
            listed = (self.opt_out_lists.get(origination, DEFAULT_LIST), number) in self.opted_out
        if listed or number == OPTED_OUT_AT_CARRIER:
            raise Refused(
                "ConflictException",
                "The destination phone number is opted out",
                Reason="DESTINATION_PHONE_NUMBER_OPTED_OUT",
                ResourceType="opted-out-number",
                ResourceId=number,
            )

    def _accept(self, channel: Channel, asked: Mapping[str, Any]) -> dict[str, Any]:
        message = {
            "message_id": str(uuid.uuid4()),
            "channel": channel,
            "destination": asked["DestinationPhoneNumber"],
            "origination": asked["OriginationIdentity"],
            "body": asked["MessageBody"],
            "context": dict(asked.get("Context", {})),
            "configuration_set": asked.get("ConfigurationSetName"),
            "time_to_live": asked.get("TimeToLive"),
        }
        with self._lock:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            self.accepted.append(message | {"at": now})
            return self.accepted[-1]

    def _play_receipts(self, message: Mapping[str, Any]) -> None:
        if self.on_receipt:
            for detail in receipts(message):
                self.on_receipt(DETAIL_TYPES[message["channel"]], detail)

    def _opt_in(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        _require(asked, "OptOutListName", "OptedOutNumber")
        # By its name or its ARN.
        name, number = str(asked["OptOutListName"]).rpartition("/")[2], asked["OptedOutNumber"]
        with self._lock:
            since = self.opted_out.pop((name, number), None)
        if since is None:
            raise Refused(
                "ResourceNotFoundException",
                "The phone number is not in the opt-out list",
                ResourceType="opted-out-number",
                ResourceId=number,
            )
        return {
            "OptOutListArn": f"arn:aws:sms-voice:us-east-1:123456789012:opt-out-list/{name}",
            "OptOutListName": name,
            "OptedOutNumber": number,
            "OptedOutTimestamp": since,
            "EndUserOptedOut": True,
        }


def receipts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the details of the receipts of an accepted message, in order, a millisecond apart."""
    channel, asked_at = message["channel"], round(datetime.fromisoformat(message["at"]).timestamp() * 1000)
    event_types = (NOT_REACHED if message["destination"] == UNREACHABLE else REACHED)[channel]
    told = {
        "destinationPhoneNumber": message["destination"],
        "isoCountryCode": "US",
        "messageId": message["message_id"],
        "messageRequestTimestamp": asked_at,
    }
    if E164.fullmatch(message["origination"]):
        # Which number a pool takes is not known here.
        told["originationPhoneNumber"] = message["origination"]
    if message["context"]:
        told["context"] = dict(message["context"])
    if channel == "text":
        told |= {"messageEncoding": "GSM", "messageType": "TRANSACTIONAL", "totalMessageParts": 1}
    return [
        {
            "eventType": event_type,
            "eventVersion": "1.0",
            "eventTimestamp": asked_at + place,
            "isFinal": event_type == event_types[-1],
            "messageStatus": event_type.partition("_")[2],
            **told,
        }
        for place, event_type in enumerate(event_types, 1)
    ]


def _require(asked: Mapping[str, Any], *names: str) -> None:
    _refuse("MISSING_PARAMETER", {name: "must be present" for name in names if asked.get(name) is None})


def _refuse(reason: str, complaints: Mapping[str, str]) -> None:
    """Refuse a request if there is something to complain of, by field."""
    if complaints:
        fields = [{"Name": name, "Message": message} for name, message in complaints.items()]
        raise Refused("ValidationException", "The request is not valid", Reason=reason, Fields=fields)


def _complaints(channel: Channel, asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what is wrong with a message, by field."""
    number, body, context = asked["DestinationPhoneNumber"], asked["MessageBody"], asked.get("Context", {})
    if not _like(E164, number) or number == NOT_A_NUMBER:
        yield "DestinationPhoneNumber", "is not a phone number"
    if not _like(ORIGINATION, asked["OriginationIdentity"]):
        yield "OriginationIdentity", "is not an origination identity"
    if not isinstance(body, str) or not body.strip() or len(body) > LONGEST[channel]:
        yield "MessageBody", f"must have 1 to {LONGEST[channel]} characters and not be blank"
    if not _like(CONFIGURATION_SET, asked.get("ConfigurationSetName", "none")):
        yield "ConfigurationSetName", "is not a configuration set"
    if len(context) > 5:
        yield "Context", "must have at most 5 entries"
    elif not all(_like(CONTEXT_KEY, key) and _like(CONTEXT_VALUE, value) for key, value in context.items()):
        yield "Context", "must have keys of 1 to 100 and values of 1 to 800 characters, without blanks around them"
    if not 5 <= asked.get("TimeToLive", 5) <= 259_200:
        yield "TimeToLive", "must be from 5 to 259200"


def _like(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


class Server(Carriers, socketserver.ThreadingTCPServer):
    """Serves from a socket that is listening already; receipts come `receipts_after` seconds after the acceptance."""

    daemon_threads = True
    # Who hangs is not waited for.
    block_on_close = False

    def __init__(
        self, listening: socket.socket, on_receipt: OnReceipt | None = None, receipts_after: float = 0.0
    ) -> None:
        self.stopping = Event()
        self._receipts = _Later(on_receipt, receipts_after, self.stopping) if on_receipt else None
        Carriers.__init__(self, self._receipts.put if self._receipts else None)
        address = listening.getsockname()
        socketserver.ThreadingTCPServer.__init__(self, address, _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def server_close(self) -> None:
        """Stop serving; receipts that have not been played are not, and one that is being played is the last."""
        super().server_close()
        self.stopping.set()
        if self._receipts:
            self._receipts.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Later:
    """Plays receipts from a thread of its own, in the order in which they were put, each after the same delay."""

    def __init__(self, on_receipt: OnReceipt, seconds: float, stopping: Event) -> None:
        self._on_receipt = on_receipt
        self._seconds = seconds
        self._stopping = stopping
        self._waiting: SimpleQueue[tuple[float, str, dict[str, Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._play, daemon=True)
        self._thread.start()

    def put(self, detail_type: str, detail: dict[str, Any]) -> None:
        """Let a receipt be played later."""
        self._waiting.put((monotonic() + self._seconds, detail_type, detail))

    def close(self) -> None:
        """Wait for the receipt that is being played; `stopping` has been set."""
        self._waiting.put(None)
        self._thread.join()

    def _play(self) -> None:
        while waiting := self._waiting.get():
            due, detail_type, detail = waiting
            if self._stopping.wait(max(0.0, due - monotonic())):
                return
            self._on_receipt(detail_type, detail)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    # Unbuffered small writes meet delayed acknowledgements: 40 ms on every answer.
    disable_nagle_algorithm = True
    wbufsize = -1

    def parse_request(self) -> bool:
        """Read the head of a request, and refuse those of other sites."""
        if not super().parse_request():
            return False
        if callers.is_from_here(self.headers.get("host"), self.headers.get("origin")):
            return True
        self.close_connection = True
        self._answer(403, {"message": "Forbidden"})
        return False

    def do_POST(self) -> None:
        """Answer a call of the JSON protocol; its operation is in a header."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            self._answer(200, self.server.answer(operation, asked))
        except Refused as refused:
            self._fail(400, refused.code, str(refused), refused.fields)
        except Failed500:
            self._fail(500, "InternalServerException", "Internal failure", {"RequestId": str(uuid.uuid4())})
        except Hangs as hangs:
            self.server.stopping.wait(hangs.seconds)
            self.close_connection = True
        except Dropped:
            self.close_connection = True

    def do_GET(self) -> None:
        """Tell what was accepted, which AWS does not."""
        if self.path == "/accepted":
            self._answer(200, self.server.so_far(), **{"content-type": "application/json"})
        else:
            self._answer(404, {"message": "Not Found"}, **{"content-type": "application/json"})

    def _fail(self, status: int, code: str, message: str, fields: Mapping[str, object]) -> None:
        # Clients look for the code in one place or the other.
        self._answer(status, {"__type": code, "Message": message, **fields}, **{"x-amzn-errortype": code})

    def _answer(self, status: int, body: object, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in {
            "content-type": "application/x-amz-json-1.0",
            "content-length": str(len(data)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
