"""The REST surface as `nanoctl` sees it."""

import hashlib
from pathlib import Path

import httpx
import pytest

from nano.cli.client import Client, Refused, opened
from nano.cli.settings import Settings
from nano.model.errors import Invalid, Unreachable


def test_an_envelope_is_opened_and_a_failure_keeps_the_gateways_words() -> None:
    good = httpx.Response(200, content=b'{"error_code": 0, "message": "", "data": [1]}')
    assert opened(good) == [1]
    with pytest.raises(Refused, match="no such guest") as refused:
        opened(httpx.Response(200, content=b'{"error_code": 404, "message": "no such guest", "data": {}}'))
    assert refused.value.error_code == 404


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 1}'])
def test_what_is_no_envelope_is_refused_with_its_status(body: bytes) -> None:
    with pytest.raises(Refused, match="502"):
        opened(httpx.Response(502, content=body))


def test_a_gateway_that_is_not_there_is_named_with_what_to_do() -> None:
    settings = Settings(url="http://127.0.0.1:9", id="a", key="b")  # the discard port: nobody listens
    with Client(settings) as client, pytest.raises(Unreachable, match=r"127\.0\.0\.1:9.*dev up"):
        client.call("GET", "/compute_pools/")


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "gateway.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=r"gateway\.pem"):
        Client(Settings("https://h:5850", "a", "b", str(file)))


@pytest.mark.parametrize("left", [b"bytes", b"a longer file that had this name"])
def test_a_leftover_that_is_no_beginning_of_the_file_is_not_taken_for_it(tmp_path: Path, left: bytes) -> None:
    content = b"bytes"

    def answer(request: httpx.Request) -> httpx.Response:
        if "range" in request.headers:
            return httpx.Response(416, headers={"content-range": f"bytes */{len(content)}"})
        return httpx.Response(
            200,
            content=content,
            headers={
                "content-type": "application/octet-stream",
                "signature": hashlib.sha1(content).hexdigest(),
            },
        )

    file = tmp_path / "image.raw"
    (tmp_path / ".image.raw.part").write_bytes(left)
    with Client(Settings("https://h:5850", "a", "b")) as client:
        client._http = httpx.Client(base_url="https://h:5850", transport=httpx.MockTransport(answer))
        assert client.download("/disk_images/i/file/", file, lambda _moved, _all: None)
    assert file.read_bytes() == content
