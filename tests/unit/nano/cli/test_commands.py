"""What `nanoctl` says."""

import json

import pytest

from nano.cli.commands import State, outcome, watched

TASK = {"id": "t", "kind": "create_instance", "state": "running", "progress_percent": 20, "step": "build"}


@pytest.mark.parametrize(
    ("wait", "task", "said"),
    [
        (True, "t", "vm: gone"),
        (False, "", "vm: gone"),
        (False, "t", "vm: begun, see nanoctl task watch t"),
    ],
)
def test_what_nobody_waited_for_is_not_said_to_be_done(
    monkeypatch: pytest.MonkeyPatch, wait: bool, task: str, said: str
) -> None:
    monkeypatch.setattr(State, "wait", wait)
    assert outcome("vm", "gone", task) == said


def test_a_watched_task_is_a_line_or_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(TASK) == "t create_instance running 20 % build"
    monkeypatch.setattr(State, "json", True)
    assert json.loads(watched(TASK)) == TASK
