"""The note of a peer that waits: there while it waits, and for its own host only."""

from pathlib import Path

import pytest

from nano.fabric.waiting_note import FILE, Waiting, leave_note, take_note_away, waiting_at
from nano.model.errors import Corrupt

NOTE = Waiting("7K2M-Q0XD", "a1" * 32)


def test_a_note_is_there_for_as_long_as_somebody_waits(tmp_path: Path) -> None:
    assert waiting_at(tmp_path) is None
    leave_note(tmp_path, NOTE)
    assert waiting_at(tmp_path) == NOTE
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    take_note_away(tmp_path)
    take_note_away(tmp_path)
    assert waiting_at(tmp_path) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"code": "x"}', b"\xff", b'{"code": "x", "fingerprint": "y"}']
)
def test_a_note_that_cannot_be_read_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(Corrupt, match="restart the service"):
        waiting_at(tmp_path)
