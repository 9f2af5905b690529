"""The page, its files and its settings as browsers and caches get them; and the sign-in of the run's own provider."""

import base64
import gzip
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from functions.page import handler as page
from patient_contact import http
from tests.contract import rules
from tests.integration.service import Service
from tests.local import api
from tests.local.tokens import SignIn, Tokens

FOLDER = Path(page.__file__).parent
STATIC = FOLDER / "static"
FILES = sorted(path.name for path in STATIC.iterdir() if path.suffix != ".html")
CONFIG = {"issuer": "https://issuer.local", "client_id": "patient-contact-page", "scope": page.SCOPE}
# Of a first view of a patient: what the page names, and so everything that it loads before.
FIRST_VIEW_BYTES = 60 * 1024


def send(service: Service, target: str, method: str = "GET", **headers: str) -> api.Answer:
    """Send a request without a token through the local gateway."""
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    gateway = api.Gateway(service.routes, service.tokens, service.runtime, dict)
    return gateway.answer(api.Request(method, target, message, b""))


def html(service: Service) -> str:
    return send(service, "/").body.decode()


def in_script(document: str, element: str) -> str:
    """The text of a script element of data, as a parser of HTML finds its end."""
    found = re.search(rf'<script type="application/json" id="{element}">(.*?)</script', document, re.DOTALL)
    assert found
    return found[1]


def no_such_file() -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(http.problem(404, "unknown-file", "There is no such file.")["body"])
    return problem


class TestHeaders:
    @pytest.mark.parametrize("target", ["/", "/config.json", f"/static/{page.VERSION}/app.js", "/static/1/app.js"])
    def test_every_answer_says_what_the_page_may_load_and_reach(self, service: Service, target: str) -> None:
        style = base64.b64encode(hashlib.sha256((STATIC / "app.css").read_bytes()).digest()).decode()
        headers = dict(send(service, target).headers)

        assert headers.pop("content-security-policy") == (
            f"default-src 'none'; script-src 'self'; style-src 'sha256-{style}'; img-src 'self' data:; "
            "connect-src 'self' https://issuer.local; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )
        assert set(headers.pop("permissions-policy").replace("=()", "").split(", ")) >= {"camera", "geolocation", "usb"}
        del headers["content-type"], headers["cache-control"]
        headers.pop("etag", None)
        headers.pop("vary", None)
        assert headers == {
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "strict-transport-security": "max-age=63072000",
        }

    @pytest.mark.parametrize(
        ("issuer", "origin", "reached"),
        [
            ("https://issuer.local/pool/7", "", "'self' https://issuer.local"),
            (
                "https://issuer.local:8443/a",
                "https://signin.local",
                "'self' https://issuer.local:8443 https://signin.local",
            ),
        ],
    )
    def test_the_page_reaches_the_origins_of_its_issuer_and_of_the_sign_in_and_no_other(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, issuer: str, origin: str, reached: str
    ) -> None:
        monkeypatch.setenv("JWT_ISSUER", issuer)
        monkeypatch.setenv("SIGN_IN_ORIGIN", origin)

        assert f"; connect-src {reached}; " in send(service, "/").headers["content-security-policy"]

    @pytest.mark.parametrize(
        ("target", "cached"),
        [
            ("/", "no-cache"),
            ("/config.json", "no-cache"),
            (f"/static/{page.VERSION}/app.js", "public, max-age=31536000, immutable"),
            (f"/static/{page.VERSION}/nothing.js", "no-store"),
        ],
    )
    def test_files_are_kept_for_good_and_all_else_is_asked_for_again(
        self, service: Service, target: str, cached: str
    ) -> None:
        assert send(service, target).headers["cache-control"] == cached

    @pytest.mark.parametrize(
        ("accepted", "is_zipped"),
        [
            ("gzip", True),
            ("gzip, deflate, br", True),
            ("br;q=1.0, GZIP;q=0.8", True),
            ("*", True),
            ("gzip;q=0.001", True),
            ("", False),
            ("br", False),
            ("identity", False),
            ("gzip;q=0", False),
            ("gzip; q=0.000, *", False),
            ("*;q=0", False),
            ("xgzip", False),
        ],
    )
    @pytest.mark.parametrize("target", ["/", "/config.json", f"/static/{page.VERSION}/app.js"])
    def test_what_is_sent_is_compressed_for_whoever_accepts_that(
        self, service: Service, target: str, accepted: str, is_zipped: bool
    ) -> None:
        plain, answer = send(service, target), send(service, target, accept_encoding=accepted)

        assert "content-encoding" not in plain.headers
        assert plain.headers["vary"] == answer.headers["vary"] == "accept-encoding"
        assert answer.headers.get("content-encoding") == ("gzip" if is_zipped else None)
        assert (gzip.decompress(answer.body) if is_zipped else answer.body) == plain.body


class TestPage:
    def test_the_page_comes_filled(self, service: Service) -> None:
        answer = send(service, "/")
        document = answer.body.decode()

        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "{{" not in document
        assert json.loads(in_script(document, "config")) == CONFIG
        assert json.loads(in_script(document, "text")) == json.loads((STATIC / "text.en.json").read_text())
        assert f"<style>{(STATIC / 'app.css').read_text()}</style>" in document

    def test_every_file_that_the_page_and_its_modules_name_is_there(self, service: Service) -> None:
        named = set(re.findall(rf'"/static/{page.VERSION}/([^"]+)"', html(service)))
        for module in STATIC.glob("*.js"):
            named |= set(re.findall(r'(?:from|import)\s*\(?\s*"\./([^"]+)"', module.read_text()))

        assert "app.js" in named
        assert {name: send(service, f"/static/{page.VERSION}/{name}").status for name in named} == dict.fromkeys(
            named, 200
        )

    @pytest.mark.parametrize("query", ["?code=secret&state=x", "?error=access_denied", "?", "?a=%00&a=1&=", "?#"])
    def test_whatever_the_query_says_the_page_is_the_same(self, service: Service, query: str) -> None:
        assert send(service, f"/{query}") == send(service, "/")

    def test_a_page_that_has_not_changed_is_not_sent_again(self, service: Service) -> None:
        for encoding in ("gzip", "br"):
            first = send(service, "/", accept_encoding=encoding)
            etag = first.headers["etag"]
            for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
                again = send(service, "/", accept_encoding=encoding, if_none_match=known)

                assert (again.status, again.body) == (304, b"")
                kept = ("etag", "cache-control", "vary", "content-security-policy")
                assert [again.headers[name] for name in kept] == [first.headers[name] for name in kept]
            for unknown in ('"other"', etag.strip('"'), "", etag[:-2] + '"'):
                assert send(service, "/", accept_encoding=encoding, if_none_match=unknown) == first

    def test_what_is_compressed_has_a_tag_of_its_own(self, service: Service) -> None:
        zipped, plain = (send(service, "/", accept_encoding=each).headers["etag"] for each in ("gzip", "br"))

        assert re.fullmatch(r'"[^"]+"', zipped)
        assert zipped != plain

    def test_other_settings_make_another_page(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        before = send(service, "/").headers["etag"]
        monkeypatch.setenv("PAGE_CLIENT_ID", "other")

        assert send(service, "/", if_none_match=before).status == 200

    def test_no_setting_ends_the_script_that_it_is_in(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        client_id = "</script><script>alert(1)</script><!--<script>{{style}}"
        monkeypatch.setenv("PAGE_CLIENT_ID", client_id)
        document = html(service)

        assert "<script>" not in document
        assert "<!--" not in document
        assert json.loads(in_script(document, "config")) == {**CONFIG, "client_id": client_id}

    def test_the_settings_are_served_on_their_own_too(self, service: Service) -> None:
        answer = send(service, "/config.json")

        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert json.loads(answer.body) == CONFIG

    def test_the_page_asks_for_scopes_that_routes_ask_for(self) -> None:
        assert set(page.SCOPE.split()) <= set(rules.SCOPES.values())

    def test_a_first_view_is_small(self, service: Service) -> None:
        named = re.findall(r'"(/static/[^"]+)"', html(service))
        sizes = {each: len(send(service, each, accept_encoding="gzip").body) for each in ("/", *named)}

        assert any(each.endswith("/facesheet.js") for each in sizes)
        assert sum(sizes.values()) < FIRST_VIEW_BYTES, sizes


class TestFiles:
    @pytest.mark.parametrize("name", FILES)
    def test_a_file_is_served_as_it_is(self, service: Service, name: str) -> None:
        answer = send(service, f"/static/{page.VERSION}/{name}")
        kinds = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "json": "application/json"}

        assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())
        assert answer.headers["content-type"] == kinds[name.rpartition(".")[2]]

    @pytest.mark.parametrize(
        ("version", "name"),
        [
            ("0" * 16, "app.js"),
            (page.VERSION[:-1], "app.js"),
            (page.VERSION.upper() + "x", "app.js"),
            (page.VERSION, "nothing.js"),
            (page.VERSION, "APP.JS"),
            (page.VERSION, "app.js "),
            (page.VERSION, "index.html"),
            (page.VERSION, "handler.py"),
            (page.VERSION, ".."),
            (page.VERSION, "%2e%2e"),
            (page.VERSION, "%00"),
            ("..", "app.js"),
        ],
    )
    def test_another_version_and_a_file_that_is_none_are_not_found(
        self, service: Service, version: str, name: str
    ) -> None:
        answer = send(service, f"/static/{version}/{name}", accept_encoding="gzip")

        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(answer.body) == no_such_file()
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("name", ["../handler.py", "..%2fhandler.py", "%2e%2e%2fhandler.py", "a/app.js", "/app.js"])
    def test_a_slash_makes_another_path_which_has_no_route(self, service: Service, name: str) -> None:
        answer = send(service, f"/static/{page.VERSION}/{name}")

        assert (answer.status, json.loads(answer.body)) == (404, {"message": "Not Found"})

    @pytest.mark.parametrize(
        "name", ["../handler.py", "../static/app.js", "./app.js", "/etc/passwd", "", "a/../app.js"]
    )
    def test_a_path_would_not_be_followed_if_it_came_here(self, service: Service, name: str) -> None:
        event = {
            "routeKey": "GET /static/{version}/{file}",
            "headers": {},
            "pathParameters": {"version": page.VERSION, "file": name},
        }

        assert service.runtime.invoke("PageFunction", event)["statusCode"] == 404

    def test_any_change_of_any_file_gives_all_files_new_addresses(self, tmp_path: Path) -> None:
        copied = tmp_path / "page"
        shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("__pycache__"))

        def version() -> str:
            spec = importlib.util.spec_from_file_location("copied", copied / "handler.py")
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            # Data classes look their module up.
            sys.modules["copied"] = module
            spec.loader.exec_module(module)
            return str(module.VERSION)

        versions = [version(), version()]
        for path in sorted((copied / "static").iterdir()):
            path.write_text(path.read_text() + " ")
            versions.append(version())
        path.rename(path.with_stem("renamed"))
        versions.append(version())
        (copied / "static" / ".DS_Store").write_bytes(b"\xff")
        versions.append(version())
        del sys.modules["copied"]

        assert versions[0] == versions[1] == page.VERSION
        assert versions[-2] == versions[-1]
        assert len(set(versions[1:-1])) == len(versions) - 2


class TestQuiet:
    def test_nothing_is_printed_of_an_address(self, service: Service, capfd: pytest.CaptureFixture[str]) -> None:
        for target in ("/?code=s3cret&state=s3cret", "/static/s3cret/s3cret", "/config.json?s3cret", "/s3cret"):
            send(service, target, if_none_match="s3cret", referer="https://s3cret.example")
        printed = "".join(capfd.readouterr())

        assert "GET /static/{version}/{file}" in printed
        assert "s3cret" not in printed

    def test_the_function_begins_without_loading_what_it_does_not_need(self) -> None:
        code = "import sys; import functions.page.handler; print(*{name.partition('.')[0] for name in sys.modules})"
        loaded = subprocess.run(
            [sys.executable, "-c", code], cwd=rules.ROOT, capture_output=True, text=True, check=True
        )

        assert "patient_contact" in loaded.stdout.split()
        assert not {"aws_lambda_powertools", "boto3", "botocore", "pydantic"} & set(loaded.stdout.split())

    @pytest.mark.parametrize(("sample", "status"), [("page.ok", 200), ("page.bad", 404)])
    def test_the_samples_are_answered(self, service: Service, sample: str, status: int) -> None:
        event = json.loads((rules.ROOT / "events" / f"{sample}.json").read_text())

        assert service.runtime.invoke("PageFunction", event)["statusCode"] == status


ISSUER, CLIENT, BACK = "http://127.0.0.1:3000", "patient-contact-page", "http://127.0.0.1:3000/"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ASKED = {
    "response_type": "code",
    "client_id": CLIENT,
    "redirect_uri": BACK,
    "scope": page.SCOPE,
    "state": "state-1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


class Provider:
    """The run's own identity provider, asked as a browser and the page ask it."""

    def __init__(self, service: Service) -> None:
        self.tokens = Tokens(ISSUER, ["patient-contact"])
        self.practice_ids = ["north", "south"]
        sign_in = SignIn(self.tokens, CLIENT, lambda: self.practice_ids)
        self._gateway = api.Gateway(service.routes, self.tokens, service.runtime, dict, sign_in)

    def get(self, target: str) -> api.Answer:
        return self._gateway.answer(api.Request("GET", target, Message(), b""))

    def authorize(self, **changes: str | None) -> api.Answer:
        asked = {name: value for name, value in {**ASKED, **changes}.items() if value is not None}
        return self.get(f"/local/authorize?{urlencode(asked)}")

    def code(self) -> str:
        return told(self.authorize())["code"]

    def exchange(self, code: str, **changes: str) -> tuple[int, Any]:
        sent = {"client_id": CLIENT, "redirect_uri": BACK, "code": code, "code_verifier": VERIFIER}
        form = urlencode({"grant_type": "authorization_code", **sent, **changes}).encode()
        answer = self._gateway.answer(api.Request("POST", "/local/oauth/token", Message(), form))
        return answer.status, json.loads(answer.body)


def told(answer: api.Answer) -> Mapping[str, str]:
    """What a browser is sent back with."""
    assert answer.status == 302
    assert answer.headers["location"].startswith(f"{BACK}?")
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


@pytest.fixture
def provider(service: Service) -> Provider:
    return Provider(service)


class TestSignIn:
    def test_discovery_leads_to_what_is_there(self, provider: Provider) -> None:
        found = json.loads(provider.get("/.well-known/openid-configuration").body)
        (key,) = json.loads(provider.get(urlsplit(found["jwks_uri"]).path).body)["keys"]

        assert (found["issuer"], found["code_challenge_methods_supported"]) == (ISSUER, ["S256"])
        assert found["authorization_endpoint"] == f"{ISSUER}/local/authorize"
        assert found["token_endpoint"] == f"{ISSUER}/local/oauth/token"
        assert (key["kty"], key["alg"], key["kid"]) == ("RSA", "RS256", "local")
        assert "d" not in key

    def test_a_code_gives_a_token_for_all_practices_and_the_scopes_asked_for(self, provider: Provider) -> None:
        back = told(provider.authorize())
        provider.practice_ids.append("new")
        status, answer = provider.exchange(back["code"])
        claims = provider.tokens.claims(answer.pop("access_token"))

        assert {**back, "code": ""} == {"code": "", "state": "state-1", "iss": ISSUER}
        assert (status, answer) == (200, {"token_type": "Bearer", "expires_in": 12 * 3600, "scope": page.SCOPE})
        assert (claims["sub"], claims["scope"]) == ("staff-local", page.SCOPE)
        assert claims["practice_ids"] == "north south new"

    def test_a_token_lives_as_long_as_is_said(self, provider: Provider) -> None:
        provider.tokens.lifetime = 5
        _, answer = provider.exchange(provider.code())
        claims = provider.tokens.claims(answer["access_token"])

        assert claims["exp"] - claims["iat"] == answer["expires_in"] == 5

    def test_a_code_is_good_once(self, provider: Provider) -> None:
        code = provider.code()

        assert provider.exchange(code)[0] == 200
        assert provider.exchange(code) == (400, {"error": "invalid_grant"})

    @pytest.mark.parametrize(
        "change",
        [
            {"code_verifier": "w" * 43},
            {"code_verifier": ""},
            {"code_verifier": CHALLENGE},
            {"redirect_uri": f"{BACK}other"},
            {"redirect_uri": ""},
            {"client_id": "other"},
        ],
    )
    def test_a_code_is_of_no_use_to_anybody_else_and_spent_by_their_try(
        self, provider: Provider, change: dict[str, str]
    ) -> None:
        code = provider.code()

        assert provider.exchange(code, **change) == (400, {"error": "invalid_grant"})
        assert provider.exchange(code) == (400, {"error": "invalid_grant"})

    def test_a_code_that_was_not_given_and_another_grant_are_refused(self, provider: Provider) -> None:
        assert provider.exchange("made-up") == (400, {"error": "invalid_grant"})
        assert provider.exchange(provider.code(), grant_type="password") == (400, {"error": "unsupported_grant_type"})

    @pytest.mark.parametrize(
        "change",
        [
            {"client_id": "other"},
            {"client_id": None},
            {"redirect_uri": None},
            {"redirect_uri": "https://example.org/"},
            {"redirect_uri": "http://127.0.0.1:3000.example.org/"},
            {"redirect_uri": "http://127.0.0.1:3000@example.org/"},
            {"redirect_uri": "https://127.0.0.1:3000/"},
            {"redirect_uri": f"{BACK}#fragment"},
        ],
    )
    def test_nobody_is_sent_to_an_address_that_is_not_the_runs_own(
        self, provider: Provider, change: dict[str, str | None]
    ) -> None:
        answer = provider.authorize(**change)

        assert (answer.status, json.loads(answer.body)) == (400, {"error": "invalid_request"})
        assert "location" not in answer.headers

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"code_challenge": None}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": None}, "invalid_request"),
        ],
    )
    def test_a_sign_in_without_what_protects_it_goes_back_with_an_error(
        self, provider: Provider, change: dict[str, str | None], error: str
    ) -> None:
        assert told(provider.authorize(**change)) == {"error": error, "state": "state-1", "iss": ISSUER}

    def test_where_nobody_signs_in_there_is_no_provider(self, service: Service) -> None:
        for target in ("/.well-known/openid-configuration", f"/local/authorize?{urlencode(ASKED)}"):
            assert send(service, target).status == 404
