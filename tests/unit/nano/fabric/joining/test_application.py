"""What an applicant keeps on disk: read back as written, and never half believed."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano.fabric.joining.application import APPLICATION_FILE, Application, forget, new_nonce, read, write
from nano.fabric.joining.short_code import opens
from nano.model.errors import Corrupt
from nano.model.peers import Role

ASKED = Application(
    role=Role.CELL,
    id="c1",
    fingerprint="ab" * 32,
    zone="z",
    authority="cd" * 32,
    scheduler="10.0.0.1:5600",
    scheduler_id="main",
    nonce=new_nonce(),
)


def test_it_is_read_back_as_it_was_written_and_by_nobody_else(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write(tmp_path, ASKED)
    assert read(tmp_path) == ASKED
    assert stat.S_IMODE((tmp_path / APPLICATION_FILE).stat().st_mode) == 0o600
    forget(tmp_path)
    assert read(tmp_path) is None
    forget(tmp_path)


def test_a_new_start_has_a_nonce_that_nobody_was_shown() -> None:
    answered = Application(
        **{name: getattr(ASKED, name) for name in ASKED.__struct_fields__}
        | {"challenge": "ef" * 32, "code": "AAAA-AAAA"}
    )
    anew = answered.anew()
    assert (anew.challenge, anew.code) == ("", "")
    assert anew.nonce != answered.nonce
    assert (anew.fingerprint, anew.authority) == (answered.fingerprint, answered.authority)


def test_its_commitment_is_opened_by_its_nonce() -> None:
    assert opens(bytes.fromhex(ASKED.nonce), ASKED.commitment)


@given(st.binary(max_size=60))
def test_anything_else_is_corrupt_and_says_what_to_do(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("application")
    (folder / APPLICATION_FILE).write_bytes(content)
    with pytest.raises(Corrupt, match="delete it"):
        read(folder)
