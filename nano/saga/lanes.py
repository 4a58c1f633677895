"""Which call goes next. Each target has a lane, so that one that is slow or gone holds up nobody else.

Pure: a lane says when it wants to be woken. A call is only the id of a task; what to send is read from the
task's marks at the moment of sending, so a call that waited for long is never out of date.
"""

from collections import deque
from dataclasses import dataclass, field

import msgspec

from nano.model.ids import TaskId


class Call(msgspec.Struct, frozen=True, gc=False):
    """Send what the task's marks say now (`ask`: only ask for the outcome), once `revision` is durable."""

    at: str
    task: TaskId
    ask: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Forgets:
    """Tell the target which tasks have ended."""

    at: str


@dataclass(slots=True)
class _Lane:
    at: str
    calls: dict[TaskId, Call] = field(default_factory=dict)
    waiting: dict[TaskId, None] = field(default_factory=dict)
    """Tasks whose next word must come from this target, sent or not."""
    forgets: bool = False
    busy: int = 0
    failures: int = 0
    asleep: bool = False
    gone: bool = False
    """It is known not to be there: asleep until somebody says that it is back."""
    queued: bool = False
    """It stands in the row of lanes that have something to send."""


class Lanes:
    def __init__(self, *, lane_limit: int, backoff_s: float, backoff_limit_s: float) -> None:
        self._lane_limit = lane_limit
        self._backoff_s = backoff_s
        self._backoff_limit_s = backoff_limit_s
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()

    # -------------------------------------------------------------- what is to be sent

    def push(self, call: Call) -> None:
        """At most one call per task waits in a lane; a real one is not replaced by a question."""
        lane = self._lane(call.at)
        lane.waiting[call.task] = None
        known = lane.calls.get(call.task)
        if known is None or not call.ask:
            lane.calls[call.task] = call
        self._offer(lane)

    def push_forgets(self, at: str) -> None:
        lane = self._lane(at)
        lane.forgets = True
        self._offer(lane)

    def settled(self, at: str, task: TaskId) -> None:
        """The task waits for this target no more."""
        if (lane := self._lanes.get(at)) is not None:
            lane.waiting.pop(task, None)
            lane.calls.pop(task, None)

    def waiting(self, at: str) -> list[TaskId]:
        lane = self._lanes.get(at)
        return list(lane.waiting) if lane else []

    # -------------------------------------------------------------- sending

    def take(self) -> Call | Forgets | None:
        """The next thing to send; `finished`, `failed` or `skipped` must follow."""
        while self._ready:
            lane = self._ready.popleft()
            lane.queued = False
            if not self._can_send(lane):
                continue
            lane.busy += 1
            found = self._pick(lane)
            self._offer(lane)
            return found
        return None

    @staticmethod
    def _pick(lane: _Lane) -> Call | Forgets:
        if lane.forgets:
            lane.forgets = False
            return Forgets(lane.at)
        return lane.calls.pop(next(iter(lane.calls)))

    def skipped(self, at: str) -> None:
        """There was nothing to send after all."""
        lane = self._lane(at)
        lane.busy -= 1
        self._offer(lane)

    def finished(self, at: str) -> None:
        """The target answered, so it is there."""
        lane = self._lane(at)
        lane.busy -= 1
        lane.failures = 0
        lane.asleep = lane.gone = False
        self._offer(lane)

    def failed(self, call: Call | Forgets) -> float:
        """Nobody answered: the call waits again, and the lane sleeps for the seconds that are returned."""
        lane = self._lane(call.at)
        lane.busy -= 1
        if isinstance(call, Forgets):
            lane.forgets = True
        elif call.task in lane.waiting:
            lane.calls.setdefault(call.task, call)
        if not lane.asleep:
            lane.failures += 1
        lane.asleep = True
        return min(self._backoff_limit_s, self._backoff_s * 2.0 ** min(lane.failures - 1, 32))

    def sleep(self, at: str) -> None:
        """The target is known to be gone; `wake` ends it."""
        lane = self._lane(at)
        lane.asleep = lane.gone = True
        lane.failures += 1

    def is_gone(self, at: str) -> bool:
        lane = self._lanes.get(at)
        return lane is not None and lane.gone

    def wake(self, at: str) -> None:
        lane = self._lane(at)
        lane.asleep = lane.gone = False
        self._offer(lane)

    def failures(self, at: str) -> int:
        """How often in a row nobody answered there."""
        lane = self._lanes.get(at)
        return lane.failures if lane else 0

    def is_ready(self) -> bool:
        return bool(self._ready)

    def drop(self, at: str) -> None:
        """Nothing will be sent there any more."""
        if (lane := self._lanes.get(at)) is not None:
            lane.calls.clear()
            lane.waiting.clear()
            lane.forgets = False

    def _lane(self, at: str) -> _Lane:
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = _Lane(at)
        return lane

    def _offer(self, lane: _Lane) -> None:
        if not lane.queued and self._can_send(lane):
            lane.queued = True
            self._ready.append(lane)

    def _can_send(self, lane: _Lane) -> bool:
        has_work = bool(lane.calls) or lane.forgets
        return has_work and not lane.asleep and lane.busy < self._lane_limit
