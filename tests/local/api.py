"""The HTTP API as API Gateway serves it: routes, scopes and authorizer of the template, payload format 2.0."""

import base64
import contextlib
import json
import socket
import socketserver
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, unquote

import jwt

from tests.local import callers
from tests.local.runtime import ACCOUNT, InvocationFailed, Runtime
from tests.local.template import Route
from tests.local.tokens import Refused, SignIn, Tokens

MAX_BODY = 10 * 1024 * 1024
TEXT_TYPES = ("application/json", "application/javascript", "application/xml")


@dataclass(frozen=True)
class Request:
    """An HTTP request as it came in; the target is the undecoded path with its query."""

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        """The decoded path; API Gateway cuts it at a decoded question mark, too."""
        return unquote(self.target.partition("?")[0]).partition("?")[0]

    @property
    def query(self) -> str:
        """The query string as it came."""
        return self.target.partition("?")[2]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def json_answer(status: int, body: object, **headers: str) -> Answer:
    """Return an answer with a JSON body; API Gateway's own have a `message`."""
    return Answer(status, {"content-type": "application/json", **headers}, json.dumps(body).encode())


class Gateway:
    """Finds the route of a request, checks its token, invokes the function and renders its answer."""

    def __init__(
        self,
        routes: Iterable[Route],
        tokens: Tokens,
        runtime: Runtime,
        describe: Callable[[], object],
        sign_in: SignIn | None = None,
    ) -> None:
        self._routes = tuple(routes)
        self._tokens = tokens
        self._runtime = runtime
        self._describe = describe
        self._sign_in = sign_in
        # Powertools keeps the current request in a class attribute, since a Lambda environment serves one at a time.
        self._one_at_a_time = Lock()

    def answer(self, request: Request) -> Answer:
        """Answer a request and write the access log, by route: paths carry patient ids."""
        if not callers.is_from_here(request.headers.get("host"), request.headers.get("origin")):
            _say(why="it comes from another site, or by another name than this machine's")
            return json_answer(403, {"message": "Forbidden"})
        if request.path.startswith(("/local/", "/.well-known/")):
            return self._local(request)
        matches = [(route, _parameters(route, request)) for route in self._routes]
        found = [(route, parameters) for route, parameters in matches if parameters is not None]
        if not found:
            _say(why=f"no route of the template is {request.method} on such a path")
            return json_answer(404, {"message": "Not Found"})
        # A literal segment goes before a parameter.
        route, parameters = min(found, key=lambda match: len(match[1]))
        answer = self._authorized(request, route, parameters)
        _say(routeKey=route.key, status=answer.status)
        return answer

    def _authorized(self, request: Request, route: Route, parameters: Mapping[str, str]) -> Answer:
        claims: Mapping[str, Any] | None = None
        if route.scopes is not None:
            try:
                claims = self._tokens.claims(request.headers.get("authorization", "").removeprefix("Bearer "))
            except jwt.InvalidTokenError as error:
                _say(why=f"the token is not accepted: {error}")
                return json_answer(401, {"message": "Unauthorized"}, **{"www-authenticate": "Bearer"})
            if route.scopes and not set(route.scopes) & set(str(claims.get("scope", "")).split()):
                _say(why=f"the token lacks the scope {' or '.join(route.scopes)}")
                return json_answer(403, {"message": "Forbidden"})
        try:
            with self._one_at_a_time:
                return _rendered(self._runtime.invoke(route.function, event(request, route, parameters, claims)))
        except InvocationFailed:
            return json_answer(500, {"message": "Internal Server Error"})

    def _local(self, request: Request) -> Answer:
        """Answer the stack's own routes, which AWS does not have."""
        match request.method, request.path:
            case "GET", "/local/resources":
                return json_answer(200, self._describe())
            case "POST", "/local/token":
                return self._token(request)
            case "GET", "/.well-known/jwks.json":
                return json_answer(200, self._tokens.keys())
        return _signing_in(self._sign_in, request) if self._sign_in else json_answer(404, {"message": "Not Found"})

    def _token(self, request: Request) -> Answer:
        with contextlib.suppress(ValueError):
            match json.loads(request.body):
                case {"sub": str(sub), "practice_ids": list(practice_ids), "scope": str(scope)}:
                    return json_answer(200, {"access_token": self._tokens.issue(sub, map(str, practice_ids), scope)})
        return json_answer(400, {"message": 'Send {"sub": "…", "practice_ids": ["…"], "scope": "…"}'})


def _signing_in(sign_in: SignIn, request: Request) -> Answer:
    """Answer what belongs to signing in, as an identity provider does."""
    no_store = {"cache-control": "no-store"}
    try:
        match request.method, request.path:
            case "GET", "/.well-known/openid-configuration":
                return json_answer(200, sign_in.configuration())
            case "GET", "/local/authorize":
                return Answer(302, {**no_store, "location": sign_in.authorize(dict(parse_qsl(request.query)))}, b"")
            case "POST", "/local/oauth/token":
                sent = dict(parse_qsl(request.body.decode(errors="replace")))
                return json_answer(200, sign_in.exchange(sent), **no_store)
    except Refused as error:
        return json_answer(400, {"error": str(error)}, **no_store)
    return json_answer(404, {"message": "Not Found"})


def _say(**line: object) -> None:
    """Tell whoever runs the stack what callers are not told."""
    sys.stderr.write(f"{json.dumps(line)}\n")


def event(
    request: Request, route: Route, parameters: Mapping[str, str], claims: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Render a request as the event that a function sees."""
    now = time.time()
    headers = _joined((name.lower(), value) for name, value in request.headers.items() if name.lower() != "cookie")
    host = headers.get("host", "localhost")
    rendered: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": route.key,
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": False,
    }
    if claims is not None:
        texts = {name: _claim(value) for name, value in claims.items()}
        rendered["requestContext"]["authorizer"] = {"jwt": {"claims": texts, "scopes": route.scopes}}
    if query := _joined(parse_qsl(request.query, keep_blank_values=True)):
        rendered["queryStringParameters"] = query
    if parameters:
        rendered["pathParameters"] = dict(parameters)
    if cookies := request.headers.get_all("cookie"):
        rendered["cookies"] = [cookie.strip() for line in cookies for cookie in line.split(";")]
    if request.body:
        rendered["body"], rendered["isBase64Encoded"] = _text_or_base64(request)
    return rendered


def _text_or_base64(request: Request) -> tuple[str, bool]:
    """Return the body as text if its type and its bytes say that it is text, else encoded."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in TEXT_TYPES:
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), True


def _claim(value: object) -> str:
    """Render a claim as API Gateway does: all text, and a list as `[a b]`."""
    if isinstance(value, list):
        return f"[{' '.join(map(str, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _parameters(route: Route, request: Request) -> dict[str, str] | None:
    """Return the path parameters, if the route is that of the request."""
    wanted, given = route.path.split("/"), request.path.split("/")
    if route.method != request.method or len(wanted) != len(given):
        return None
    pairs = list(zip(wanted, given, strict=True))
    if not all(have if want.startswith("{") else want == have for want, have in pairs):
        return None
    return {want.strip("{}"): have for want, have in pairs if want.startswith("{")}


def _rendered(result: Any) -> Answer:
    """Return a function's result as an answer; one without a status code is the body itself."""
    if not isinstance(result, dict) or "statusCode" not in result:
        return json_answer(200, result)
    body = result.get("body") or ""
    headers = {name.lower(): str(value) for name, value in (result.get("headers") or {}).items()}
    return Answer(
        status=int(result["statusCode"]),
        headers={"content-type": "text/plain;charset=utf-8"} | headers,
        body=base64.b64decode(body) if result.get("isBase64Encoded") else body.encode(),
    )


class Server(socketserver.ThreadingTCPServer):
    """Serves a gateway from a socket that is listening already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, gateway: Gateway) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.gateway = gateway
        self.stopped = False

    def server_close(self) -> None:
        """Stop; connections that are kept alive are answered no more."""
        self.stopped = True
        super().server_close()

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

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Serve every method alike: http.server looks for `do_GET` and its like."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        length = self.headers.get("content-length", "0")
        if self.server.stopped:
            self.close_connection = True
        elif not length.isdecimal() or "transfer-encoding" in self.headers:
            self._refuse(411, "Length Required")
        elif int(length) > MAX_BODY:
            self._refuse(413, "Request Entity Too Large")
        else:
            body = self.rfile.read(int(length))
            self._write(self.server.gateway.answer(Request(self.command, self.path, self.headers, body)))

    def _refuse(self, status: int, text: str) -> None:
        """Answer without having read the request to its end."""
        self.close_connection = True
        self._write(json_answer(status, {"message": text}, connection="close"))

    def _write(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in ({**answer.headers, "content-length": str(len(answer.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_error(self, *_: Any, **__: Any) -> None:
        """Answer what is no proper HTTP in API Gateway's shape, not in HTML."""
        self._refuse(400, "Bad Request")
