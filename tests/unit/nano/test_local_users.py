"""Who may be at the other end of a socket of this host."""

import os
import socket
from pathlib import Path

import pytest

from nano.local_users import is_trusted, other_uid, share, uid_of, user_text
from nano.model.errors import Invalid

NOBODY = 65534
"""A user that every Debian has, and that never is ours."""


def test_root_our_own_user_and_the_named_one_are_trusted_and_nobody_else() -> None:
    assert is_trusted(0)
    assert is_trusted(os.geteuid())
    assert not is_trusted(NOBODY)
    assert is_trusted(NOBODY, "nobody")
    assert not is_trusted(1, "nobody")


def test_a_user_that_does_not_exist_makes_nobody_trusted() -> None:
    assert uid_of("nano-none") is None
    assert not is_trusted(NOBODY, "nano-none")


def test_people_are_told_the_name_where_there_is_one() -> None:
    assert user_text(NOBODY) == "user nobody (65534)"
    assert user_text(4_000_000_000) == "user 4000000000"


def test_the_other_end_is_who_runs_it() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert other_uid(one) == os.geteuid()


def test_without_a_group_only_the_owner_may_open(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch(mode=0o666)
    share(path, "", field="group")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is in every group")
def test_a_group_may_open_and_others_may_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch(mode=0o666)
    share(path, "daemon", field="group")
    assert path.stat().st_mode & 0o777 == 0o660
    assert path.stat().st_gid == 1


def test_a_group_that_does_not_exist_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    with pytest.raises(Invalid, match="nano-none") as refused:
        share(tmp_path / "s", "nano-none", field="cell_group")
    assert refused.value.field == "cell_group"
