"""What `nanoctl` says."""

import json

import pytest

from nano.cli.commands import State, outcome, waiting_line, watched

TASK = {
    "id": "t",
    "kind": "create_instance",
    "subject": "i",
    "name": "admin.vm",
    "state": "running",
    "progress_percent": 20,
    "step": "build",
    "cancellable": True,
}


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
    assert watched(TASK) == "t create_instance admin.vm running 20 % build"
    assert watched({**TASK, "name": ""}) == "t create_instance i running 20 % build"
    monkeypatch.setattr(State, "json", True)
    assert json.loads(watched(TASK)) == TASK


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"waits_for": ""}, ""),
        ({"waits_for": "cell c is away"}, "cell c is away; cancel with: nanoctl task cancel t"),
        ({"waits_for": "cell c is away", "cancellable": False}, "cell c is away"),
        ({"waits_for": "cell c is away", "state": "stuck"}, "cell c is away"),
    ],
)
def test_what_holds_a_task_up_is_said_with_what_can_be_done(change: dict[str, object], said: str) -> None:
    assert waiting_line({**TASK, **change}) == said
