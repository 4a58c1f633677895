"""This task holds this instance: who comes second is refused at once and told by whom."""

from collections.abc import Iterable

from nano.model.errors import Busy
from nano.model.ids import TaskId


class Claims:
    """What open tasks hold, by the claim's name (`instance/5f0c…`). Pure; rebuilt from the open tasks."""

    def __init__(self) -> None:
        self._held: dict[str, TaskId] = {}

    def __len__(self) -> int:
        return len(self._held)

    def holder(self, name: str) -> TaskId | None:
        return self._held.get(name)

    def check(self, names: Iterable[str]) -> None:
        """Busy, naming the holder, when any of them is taken."""
        for name in names:
            if (holder := self._held.get(name)) is not None:
                raise Busy(
                    f"{name} is held by task {holder}: wait for its end, or cancel it",
                    subject=name.rpartition("/")[2],
                )

    def take(self, names: Iterable[str], task: TaskId) -> None:
        """Take all or none; taking again what the same task holds changes nothing."""
        names = tuple(names)
        self.check(name for name in names if self._held.get(name) != task)
        self._held.update(dict.fromkeys(names, task))

    def release(self, names: Iterable[str], task: TaskId) -> None:
        for name in names:
            if self._held.get(name) == task:
                del self._held[name]
