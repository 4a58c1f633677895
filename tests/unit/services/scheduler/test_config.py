"""Who may enrol on the scheduler's host, as its configuration says it."""

from pathlib import Path

import pytest

from nano.model.errors import Invalid
from nano.model.peers import Role
from nano.service import read_config
from services.scheduler.config import Config


def test_by_default_nobody_but_root_and_its_own_user_may_enrol() -> None:
    assert Config().enrolment.group == ""
    assert Config().enrolment.users == {}


def test_users_are_set_by_role(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text('[enrolment]\ngroup = "nano"\n[enrolment.users]\ncell = "nano-cell"\n')
    read = read_config(file, Config).enrolment
    assert (read.group, read.users) == ("nano", {Role.CELL: "nano-cell"})


def test_a_role_that_does_not_exist_is_named(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.toml"
    file.write_text('[enrolment.users]\nsell = "nano-cell"\n')
    with pytest.raises(Invalid, match="sell"):
        read_config(file, Config)
