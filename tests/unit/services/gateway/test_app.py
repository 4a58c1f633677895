"""The door: what is let in, what is sent elsewhere, and what is said when nothing is known."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from nano import signature
from nano.web import requests
from services.gateway import cursor
from services.gateway.app import ROUTES
from services.gateway.call import Route
from services.gateway.cursor import Book, Position
from tests.support.consoles import refusal
from tests.support.zone import zone

API = "/api/v1"


async def test_what_is_not_signed_is_refused_with_the_documented_texts(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        good = z.signed("GET", f"{API}/compute_pools/")
        value = good.headers[signature.AUTHORIZATION]
        date, scope = good.headers[signature.DATE], good.headers[signature.SCOPE]
        altered = {
            signature.AUTHORIZATION: [
                ("", "authorization required"),
                ("Nano", "insufficent authorization: Nano"),
                (value.replace("SHA256", "SHA512"), "invalid signature method: Nano-HMAC-SHA512"),
                (value.replace("Signature=", "Sign="), "invalid authorization token:  Sign="),
                (value.replace(z.credential.id, "nobody"), "invalid API ID: nobody"),
                (value[:-1] + ("0" if value[-1] != "0" else "1"), "signature corrupted"),
            ],
            signature.DATE: [
                ("2024-07-16T08:30:00Z", "expired request with date 2024-07-16T08:30:00Z"),
                ("", "expired request with date "),
            ],
            signature.SCOPE: [("other", f"request scope mismatch: other => {scope}")],
            signature.SESSION: [("other", "signature corrupted")],
            "host": [("other.test", "signature corrupted")],
        }
        for name, changes in altered.items():
            for changed, text in changes:
                request = z.signed("GET", f"{API}/compute_pools/")
                request.headers.update(dict(good.headers) | {name: changed})
                document = (await z.client.send(request)).json()
                assert (document["error_code"], document["data"]) == (401, {})
                assert document["message"].startswith(text), (name, changed, document)
        assert date


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.full_path}")
async def test_no_route_answers_whoever_does_not_sign(tmp_path: Path, route: Route) -> None:
    path = re.sub(r"\{\w+\}", "x", route.full_path).replace("*", "x")
    async with zone(tmp_path) as z:
        wants = {"accept": "application/problem+json"}
        answer = await z.client.request(route.method, path, headers=wants, content=b"{}")
        document = answer.json()
        if route.is_open:
            assert answer.status_code == 200
            return
        assert (answer.status_code, document["code"]) == (401, "untrusted")
        if route.method == "GET":
            refused = await refusal(z, path, is_signed=False, headers=wants)
            assert json.loads(refused.body or b"")["error_code"] == 401


async def test_a_signature_holds_a_quarter_of_an_hour(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        for minutes, number in ((-14, 0), (14, 0), (-16, 401), (16, 401)):
            path = f"{API}/compute_pools/"
            plain = signature.Request(path.encode(), b"", {"host": "zone.test"}, signature.EMPTY_DIGEST)
            at = datetime.now(UTC) + timedelta(minutes=minutes)
            headers = signature.sign(plain, api_id=z.credential.id, secret=z.credential.key, at=at)
            answer = await z.client.get(path, headers={"host": "zone.test"} | headers)
            assert answer.json()["error_code"] == number, minutes


async def test_a_signed_body_or_query_that_was_altered_is_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        request = z.signed("POST", f"{API}/search/guests/", b'{"owner": "admin"}')
        other = z.client.build_request(
            "POST", request.url, content=b'{"owner": "other"}', headers=request.headers
        )
        assert (await z.client.send(other)).json()["message"] == "signature corrupted"
        request = z.signed("GET", f"{API}/guest_search/?pool=default&owner=admin")
        other = z.client.build_request(
            "GET", f"{API}/guest_search/?pool=default&owner=other", headers=request.headers
        )
        assert (await z.client.send(other)).json()["message"] == "signature corrupted"


async def test_other_spellings_are_redirected_and_unknown_paths_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.client.get(f"{API}/compute_pools?a=1")
        assert (answer.status_code, answer.headers["location"]) == (301, f"{API}/compute_pools/?a=1")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.text == f'<a href="{API}/compute_pools/?a=1">Moved Permanently</a>.\n\n'
        answer = await z.client.post(f"{API}/GUESTS/", content=b"{}")
        assert (answer.status_code, answer.headers["location"], answer.content) == (
            307,
            f"{API}/guests/",
            b"",
        )
        answer = await z.client.get(f"{API}/nothing")
        assert (answer.status_code, answer.text) == (404, "404 page not found\n")
        assert answer.headers["x-content-type-options"] == "nosniff"
        answer = await z.client.head(f"{API}/compute_pools/")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")
        answer = await z.client.put(f"{API}/compute_pools/")
        assert (answer.text, answer.headers["x-content-type-options"]) == ("Method Not Allowed\n", "nosniff")
        answer = await z.client.options(f"{API}/compute_pools/a")
        assert answer.headers["allow"] == "DELETE, GET, OPTIONS, POST, PUT"
        assert (answer.status_code, answer.content) == (200, b"")
        answer = await z.client.get("/%zz")
        assert answer.status_code == 400


async def test_whoever_asks_for_problems_gets_real_statuses(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        wants = {"accept": "application/problem+json"}
        answer = await z.ask("GET", "/guests/none", headers=wants)
        assert (answer.status_code, answer.headers["content-type"]) == (404, wants["accept"])
        assert answer.json()["field"] == "id"
        answer = await z.client.get(f"{API}/nothing", headers=wants)
        assert (answer.status_code, answer.json()["status"]) == (404, 404)
        answer = await z.client.get(f"{API}/compute_pools/", headers=wants)
        assert (answer.status_code, answer.json()["code"]) == (401, "untrusted")
        answer = await z.ask("GET", "/compute_pools/", headers=wants)
        assert answer.json()["error_code"] == 0


async def test_answers_look_as_documented(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.ask("GET", "/guest_search/?pool=default")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text == '{\n  "error_code": 0,\n  "message": "",\n  "data": []\n}\n'
        assert "server" not in answer.headers


async def test_a_body_of_any_type_is_read_and_a_huge_one_refused(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        request = z.signed("POST", f"{API}/search/guests/", b'{"OWNER": "a"}', {"content-type": "text/html"})
        assert (await z.client.send(request)).json()["error_code"] == 0
        request = z.signed("POST", f"{API}/search/guests/", b" " * (1 << 20) + b"{}")
        assert "longer" in (await z.client.send(request)).json()["message"]


async def test_a_gateway_that_knows_nothing_says_so_and_shows_no_empty_list(tmp_path: Path) -> None:
    async with zone(tmp_path, is_fed=False) as z:
        for path, book in (("compute_pools", "scheduler"), ("address_pools", "addresspool")):
            answer = await z.ask("GET", f"/{path}/", headers={"accept": "application/problem+json"})
            assert (answer.status_code, answer.json()["subject"]) == (503, book)
            assert answer.headers["retry-after"] == "1"


async def test_a_replica_that_is_not_fed_says_its_age_and_writes_say_who_is_missing(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        assert "nano-replica-age" not in (await z.ask("GET", "/compute_pools/")).headers
        z.cut(Book.SCHEDULER)
        await z.data("GET", "/address_pools/")  # the feed has ended by now
        answer = await z.ask("GET", "/compute_pools/")
        assert answer.json()["error_code"] == 0
        assert float(answer.headers["nano-replica-age"]) >= 0
        assert (await z.error("POST", "/compute_pools/a"))[0] == 503
        assert "nano-replica-age" not in (await z.ask("GET", "/address_pools/")).headers


async def test_a_write_is_answered_when_it_can_be_read_and_says_when_it_cannot(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        answer = await z.ask("POST", "/compute_pools/a")
        assert "nano-replica" not in answer.headers
        shown = cursor.read(answer.headers["nano-revision"], "Nano-Revision")
        assert shown[Book.SCHEDULER].revision == z.scheduler.revision
        z.feeds[Book.SCHEDULER].cancel()
        answer = await z.ask("POST", "/compute_pools/b")
        assert (answer.json()["error_code"], answer.headers["nano-replica"]) == (0, "behind")


async def test_who_wrote_elsewhere_reads_it_here_or_hears_that_it_does_not(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        life, revision = z.scheduler.incarnation, z.scheduler.revision
        for ahead, header in ((0, None), (1, "behind")):
            wanted = cursor.written({Book.SCHEDULER: Position(life, revision + ahead)})
            answer = await z.ask("GET", "/compute_pools/", headers={"nano-revision": wanted})
            assert answer.json()["error_code"] == 0
            assert answer.headers.get("nano-replica") == header
        answer = await z.ask("GET", "/compute_pools/", headers={"nano-revision": "x"})
        assert "Nano-Revision" in answer.json()["message"]


async def test_a_defect_costs_one_request_and_is_logged_under_its_id(tmp_path: Path) -> None:
    async with zone(tmp_path) as z:
        await z.data("GET", "/compute_pools/")  # the replica is filled
        z.stubs[Book.SCHEDULER]._handlers = object()  # has none of the methods
        with structlog.testing.capture_logs() as lines:
            number, text = await z.error("POST", "/compute_pools/a")
        assert number == 500
        (line,) = [line for line in lines if line["event"] == "request.crashed"]
        assert line["defect"] in text
        assert isinstance(line["exc_info"], AttributeError)
        assert await z.data("GET", "/address_pools/") == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"owner": 1}', b"\xff"])
async def test_a_malformed_body_is_refused_with_the_envelope(tmp_path: Path, body: bytes) -> None:
    async with zone(tmp_path) as z:
        answer = await z.client.send(z.signed("POST", f"{API}/search/guests/", body))
        assert json.loads(answer.content)["error_code"] == 400


async def test_a_body_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "BODY_S", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(0.5)
        yield b"}"

    async with zone(tmp_path) as z:
        answer = await z.client.post(f"{API}/guests/", content=slow())
        assert (answer.json()["error_code"], "body" in answer.json()["message"]) == (504, True)
