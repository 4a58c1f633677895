"""Sessions over a restart."""

from pathlib import Path

import pytest

from nano.model.errors import Untrusted
from services.portal.session_file import FILE, SessionFile
from services.portal.sessions import Sessions


def opened(folder: Path, sessions: Sessions) -> SessionFile:
    return SessionFile(folder, sessions, lambda: 0.0, lambda: 0)


async def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    sessions = Sessions()
    file = opened(tmp_path, sessions)
    secret, _ = sessions.open("ann", "10.0.0.1", 0)
    ended, gone = sessions.open("bob", "10.0.0.2", 0)
    sessions.close(gone.key)
    await file.write()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    assert secret not in (tmp_path / FILE).read_text()
    again = Sessions()
    opened(tmp_path, again).read()
    assert again.find(secret, 1).user == "ann"
    with pytest.raises(Untrusted):
        again.find(ended, 1)
    file.close()


async def test_nothing_is_written_when_nothing_has_changed(tmp_path: Path) -> None:
    sessions = Sessions()
    file = opened(tmp_path, sessions)
    await file.write()
    assert not (tmp_path / FILE).exists()
    file.close()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"session": {}}]'])
def test_a_file_that_cannot_be_read_logs_everybody_out_and_no_more(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    sessions = Sessions()
    opened(tmp_path, sessions).read()
    assert sessions.everybody(0) == []


async def test_a_folder_that_takes_no_file_refuses_nobody(tmp_path: Path) -> None:
    sessions = Sessions()
    file = opened(tmp_path / "missing", sessions)
    sessions.open("ann", "a", 0)
    await file.write()
    file.close()
