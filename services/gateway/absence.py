"""What a task waits for that nobody can hurry: a cell that is not there."""

from datetime import UTC, datetime

from nano.model.ids import InstanceId
from nano.model.pool import Cell, Presence
from nano.model.task import Task
from services.gateway.view import View

_AWAY = frozenset({Presence.LOST, Presence.LEFT})
"""No task waits for a cell that was removed."""


def away(view: View, task: Task) -> Cell | None:
    """The cell of the task's instance, if that is not there; none for a task that has ended."""
    instance = view.instances.get(InstanceId(task.subject))
    cell = view.cells.get(instance.cell) if instance is not None else None
    return cell if cell is not None and cell.presence in _AWAY and not task.state.ended else None


def waits_for(view: View, task: Task) -> str:
    """In words; empty when all that it needs is there."""
    cell = away(view, task)
    if cell is None:
        return ""
    since = datetime.fromtimestamp(cell.seen_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"cell {cell.id} has not been heard since {since} UTC; the task goes on when it is back"
