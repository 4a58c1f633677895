"""The sides of a measurement print nothing: the table is for figures."""

from pathlib import Path

import pytest

from bench.fabric import calls
from bench.fabric.sides import side
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone


def test_links_that_come_and_go_leave_no_line_in_the_table(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    zone = make_zone(tmp_path)
    cell, scheduler = issue(zone, Role.CELL, "c1"), issue(zone, Role.SCHEDULER, "s1")
    with (
        side(calls.serve_fabric, cell) as server,
        side(calls.call, calls.fabric_client, scheduler, server.ready) as client,
    ):
        made, *_ = client.ask((1, 0.05))
        assert made
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
