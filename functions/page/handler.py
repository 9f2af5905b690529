"""The page of practice staff: its HTML, its files, its settings. It knows of no patient, and so it asks for no token.

Nothing here is logged, and nothing of Powertools is loaded: an address may carry a sign-in's code, and staff wait for
the page first of all.
"""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from patient_contact import settings

Event = dict[str, Any]

# What the page may do in the name of whoever signed in: as the API's routes ask for it.
SCOPE = "practice/read preferences/read preferences/write messages/send"

JSON, HTML = "application/json", "text/html; charset=utf-8"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": HTML,
    ".js": "text/javascript; charset=utf-8",
    ".json": JSON,
    ".svg": "image/svg+xml",
}
FOREVER, CHECKED, NEVER = "public, max-age=31536000, immutable", "no-cache", "no-store"

# No cross-origin-opener-policy: it would cut the sign-in's window off from the page that opened it.
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "strict-transport-security": "max-age=63072000",
    "permissions-policy": ", ".join(
        f"{feature}=()"
        for feature in (
            "accelerometer",
            "autoplay",
            "camera",
            "clipboard-read",
            "display-capture",
            "encrypted-media",
            "fullscreen",
            "gamepad",
            "geolocation",
            "gyroscope",
            "hid",
            "idle-detection",
            "local-fonts",
            "magnetometer",
            "microphone",
            "midi",
            "payment",
            "picture-in-picture",
            "publickey-credentials-get",
            "screen-wake-lock",
            "serial",
            "usb",
            "xr-spatial-tracking",
        )
    ),
}

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
NO_WEIGHT = re.compile(r"q=0(\.0*)?")


@dataclass(frozen=True)
class Content:
    """What is served, as text and as base64 of its gzip."""

    media_type: str
    text: str
    zipped: str


@dataclass(frozen=True)
class Page:
    """The page with its placeholders filled, its settings, and what it may load and reach."""

    html: Content
    config: Content
    policy: str


def _content(media_type: str, text: str) -> Content:
    return Content(media_type, text, b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


FILES = {
    path.name: _content(MEDIA_TYPES[path.suffix], path.read_text(encoding="utf-8"))
    for path in sorted(Path(__file__).with_name("static").iterdir())
    if path.suffix in MEDIA_TYPES
}
# In the addresses of all files: whatever of them changes, they have new ones, and what is cached goes together.
VERSION = _hash(json.dumps([[name, each.text] for name, each in FILES.items()]))


def handler(event: Event, context: object) -> Event:
    """Answer one request."""
    return ROUTES[event["routeKey"]](event)


def read_page(event: Event) -> Event:
    """Give the page, whatever the query says: sign-in comes back with its code there."""
    html = _page().html
    etag = f'"{_hash(html.text)}-{"gzip" if _takes_gzip(event) else "plain"}"'
    known = {each.strip().removeprefix("W/") for each in event["headers"].get("if-none-match", "").split(",")}
    if known & {etag, "*"}:
        return _answer(304, CHECKED, {"etag": etag, "vary": "accept-encoding"})
    return _encoded(event, html, CHECKED, etag=etag)


def read_file(event: Event) -> Event:
    """Give one of the page's files, as it is in this version, for good."""
    parameters = event["pathParameters"]
    content = FILES.get(parameters["file"])
    if parameters["version"] != VERSION or content is None or content.media_type == HTML:
        return _no_such_file()
    return _encoded(event, content, FOREVER)


def read_config(event: Event) -> Event:
    """Give what the page needs to know to sign somebody in."""
    return _encoded(event, _page().config, CHECKED)


ROUTES: dict[str, Callable[[Event], Event]] = {
    "GET /": read_page,
    "GET /static/{version}/{file}": read_file,
    "GET /config.json": read_config,
}


def _page() -> Page:
    return _rendered(settings.jwt_issuer(), settings.page_client_id(), settings.sign_in_origin())


@cache
def _rendered(issuer: str, client_id: str, sign_in_origin: str) -> Page:
    config = json.dumps({"issuer": issuer, "client_id": client_id, "scope": SCOPE})
    filled = {
        "version": VERSION,
        "config": _in_script(config),
        "text": _in_script(FILES["text.en.json"].text),
        "style": FILES["app.css"].text,
    }
    html = PLACEHOLDER.sub(lambda found: filled[found[1]], FILES["index.html"].text)
    hashes = [b64encode(sha256(style.encode()).digest()).decode() for style in STYLE.findall(html)]
    provider = urlsplit(issuer)
    policy = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": [f"'sha256-{each}'" for each in hashes],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'", f"{provider.scheme}://{provider.netloc}", sign_in_origin],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    return Page(
        _content(HTML, html),
        _content(JSON, config),
        "; ".join(" ".join([name, *filter(None, sources)]) for name, sources in policy.items()),
    )


def _in_script(text: str) -> str:
    """Write JSON so that no string in it ends the script element that it is in."""
    return text.replace("<", "\\u003c")


def _takes_gzip(event: Event) -> bool:
    """Read Accept-Encoding (RFC 9110, 12.5.3): a weight of zero means never."""
    parts = [part.partition(";") for part in event["headers"].get("accept-encoding", "").split(",")]
    takes = {name.strip().lower(): not NO_WEIGHT.fullmatch(weight.strip().lower()) for name, _, weight in parts}
    return takes.get("gzip", takes.get("*", False))


def _encoded(event: Event, content: Content, cache_control: str, **more: str) -> Event:
    headers = {"content-type": content.media_type, "vary": "accept-encoding", **more}
    if _takes_gzip(event):
        headers["content-encoding"] = "gzip"
        return _answer(200, cache_control, headers, content.zipped, is_base64=True)
    return _answer(200, cache_control, headers, content.text)


def _no_such_file() -> Event:
    """Answer as the API's other functions do, with a problem document."""
    problem = {
        "type": "urn:patient-contact:problem:unknown-file",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such file.",
    }
    return _answer(404, NEVER, {"content-type": "application/problem+json"}, json.dumps(problem))


def _answer(
    status: int, cache_control: str, headers: dict[str, str], body: str = "", *, is_base64: bool = False
) -> Event:
    every = {**HEADERS, "content-security-policy": _page().policy, "cache-control": cache_control}
    return {"statusCode": status, "headers": every | headers, "body": body, "isBase64Encoded": is_base64}
