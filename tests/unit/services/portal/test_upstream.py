"""The gateway as the portal asks it: what is not there, and what cannot be used."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid, Unreachable
from nano.web.keys import Credential
from services.portal.upstream import Request, Upstream, read_credential

KEY = Credential("id", "secret")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


async def test_a_gateway_that_is_not_there_is_named() -> None:
    async with Upstream(NOWHERE, KEY, "") as upstream:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await upstream.call(Request("GET", "/tasks/"))
        with pytest.raises(Unreachable):
            await upstream.websocket(Request("GET", "/consoles/x"))
        with pytest.raises(Unreachable):
            async for _ in upstream.events():
                pass


def test_a_credential_is_read_by_its_id(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text('{"port": 5850, "credentials": [{"id": "a", "key": "1"}, {"id": "b", "key": "2"}]}')
    assert read_credential(file, "").id == "a"
    assert read_credential(file, "b").key == "2"
    with pytest.raises(Invalid, match="'c'") as refused:
        read_credential(file, "c")
    assert refused.value.field == "gateway_credential"


@pytest.mark.parametrize("text", [None, "{", '{"credentials": 1}'])
def test_a_file_that_is_none_is_refused_by_its_setting(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "credentials.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Invalid) as refused:
        read_credential(file, "")
    assert refused.value.field == "gateway_credentials"
