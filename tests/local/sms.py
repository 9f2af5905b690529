"""A simulator of AWS End User Messaging: a small HTTP server that speaks the parts of `pinpoint-sms-voice-v2` we call.

Uses the standard library, nothing of the product. What a number is follows from the number: the magic ones are below,
and every other is a mobile phone.
"""

import json
import re
import socket
import socketserver
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import Any

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
# Longer than anybody waits for a lookup.
HANGS_SECONDS = 5.0


class Refused(Exception):
    """The service refuses a request: its exception's name and what it says."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Server(socketserver.ThreadingTCPServer):
    """Serves from a socket that is listening already, and counts how often each number was asked for."""

    daemon_threads = True
    # Who hangs is not waited for.
    block_on_close = False

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.lookups: Counter[str] = Counter()
        self._lock = Lock()

    def carrier_lookup(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Answer CarrierLookup."""
        number = re.sub(r"[^\d+]", "", str(asked.get("PhoneNumber", "")))
        with self._lock:
            self.lookups[number] += 1
            times = self.lookups[number]
        if not re.fullmatch(r"\+[1-9]\d{5,14}", number):
            raise Refused("ValidationException", "PhoneNumber is not a phone number")
        if number == TIMES_OUT:
            time.sleep(HANGS_SECONDS)
        if number == THROTTLES_TWICE and times <= 2:
            raise Refused("ThrottlingException", "Rate exceeded")
        number_type = MAGIC.get(number, "MOBILE")
        return {"E164PhoneNumber": number, "PhoneNumberType": number_type, "OriginalPhoneNumber": asked["PhoneNumber"]}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    # Unbuffered small writes meet delayed acknowledgements: 40 ms on every answer.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """Answer a call of the JSON protocol; its operation is in a header."""
        asked = self.rfile.read(int(self.headers.get("content-length", 0)))
        operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            if operation != "CarrierLookup":
                raise Refused("UnknownOperationException", f"{operation} is not simulated")
            self._answer(200, self.server.carrier_lookup(json.loads(asked)))
        except Refused as refused:
            # Clients look in one place or the other.
            body = {"__type": refused.code, "message": str(refused)}
            self._answer(400, body, **{"x-amzn-errortype": refused.code})

    def _answer(self, status: int, body: dict[str, Any], **headers: str) -> None:
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
