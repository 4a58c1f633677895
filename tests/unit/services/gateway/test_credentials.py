"""The keys to the API, in the documented shape."""

import json
import stat
from pathlib import Path

import pytest

from nano.model.errors import Invalid
from services.gateway import credentials


def test_the_first_start_makes_one_key_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "data" / "credentials.json"
    made = credentials.load(path, 5851)
    assert credentials.load(path, 5851) == made
    document = json.loads(path.read_text())
    assert document == {"port": 5851, "credentials": [{"id": made[0].id, "key": made[0].key}]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = credentials.load(tmp_path / "other.json", 5850)
    assert other[0].key != made[0].key
    assert list(tmp_path.glob("**/.*")) == []


def test_a_documented_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "api.cfg"
    path.write_text('{"port": 5850, "credentials": [{"id": "a", "key": "b"}, {"id": "c", "key": "d"}]}')
    assert [one.id for one in credentials.load(path, 5850)] == ["a", "c"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"credentials": []}', '{"credentials": [{"id": "a"}]}', "\xff"]
)
def test_a_file_without_keys_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api.cfg"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Invalid) as refused:
        credentials.load(path, 5850)
    assert str(path) in refused.value.message
