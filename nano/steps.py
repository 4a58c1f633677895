"""Steps of tasks over the fabric: the callee's door, and the caller's way to it.

Between `nano.saga`, which knows model types only, and the contract `nano.v1.Steps`.
"""

from collections.abc import AsyncIterator, Sequence

from nano import wire
from nano.contracts.nano import v1
from nano.fabric.calls.caller import for_task
from nano.fabric.fabric import Fabric
from nano.fabric.presence import while_present
from nano.model.action import Action, Outcome
from nano.model.ids import TaskId
from nano.model.peers import Peer, Role
from nano.saga.callee import Callee
from nano.saga.engine import Engine
from nano.saga.targets import Target

STEP_ROLES = {
    f"/nano.v1.Steps/{method}": frozenset({Role.SCHEDULER})
    for method in ("Begin", "Undo", "Ask", "Forget", "Outcomes")
}
"""Only the scheduler runs tasks that span services."""

ANSWER_S = 10.0
"""Each call is answered at once; a callee that takes longer is asked again."""


class StepsRpc(v1.StepsBase):
    """The service `nano.v1.Steps` of one callee."""

    def __init__(self, callee: Callee) -> None:
        self._callee = callee

    async def begin(self, message: v1.BeginRequest) -> v1.Outcome:
        action = wire.asked_action(message)
        known = await self._callee.begin(TaskId(message.task), message.step, action, message.deadline_ms)
        return wire.outcome_message(known)

    async def undo(self, message: v1.StepRef) -> v1.Outcome:
        return wire.outcome_message(await self._callee.undo(TaskId(message.task), message.step))

    async def ask(self, message: v1.StepRef) -> v1.Outcome:
        return wire.outcome_message(await self._callee.ask(TaskId(message.task), message.step))

    async def forget(self, message: v1.ForgetRequest) -> v1.ForgetReply:
        await self._callee.forget([TaskId(task) for task in message.tasks])
        return v1.ForgetReply()

    async def outcomes(self, message: v1.OutcomesRequest) -> AsyncIterator[v1.Outcome]:
        outcomes = self._callee.outcomes()  # listens from here on, before we say so
        try:
            yield v1.Outcome()
            async for known in outcomes:
                yield wire.outcome_message(known)
        finally:
            self._callee.leave(outcomes)


class RemoteCallees:
    """`nano.saga.callees.Callees`, over the fabric."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    async def begin(
        self, target: Target, task: TaskId, step: str, action: Action, deadline_ms: int
    ) -> Outcome:
        with for_task(task):
            asked = wire.begin_request(task, step, action, deadline_ms)
            return wire.outcome(await self._stub(target).begin(asked, timeout=ANSWER_S))

    async def undo(self, target: Target, task: TaskId, step: str) -> Outcome:
        with for_task(task):
            asked = v1.StepRef(task=task, step=step)
            return wire.outcome(await self._stub(target).undo(asked, timeout=ANSWER_S))

    async def ask(self, target: Target, task: TaskId, step: str) -> Outcome:
        with for_task(task):
            asked = v1.StepRef(task=task, step=step)
            return wire.outcome(await self._stub(target).ask(asked, timeout=ANSWER_S))

    async def forget(self, target: Target, tasks: Sequence[TaskId]) -> None:
        await self._stub(target).forget(v1.ForgetRequest(tasks=list(tasks)), timeout=ANSWER_S)

    def _stub(self, target: Target) -> v1.StepsStub:
        if isinstance(target, Peer):
            return v1.StepsStub(self._fabric.channel(target.role, target.id))
        return v1.StepsStub(self._fabric.channel(target))


async def hear_outcomes(fabric: Fabric, engine: Engine, roles: frozenset[Role]) -> None:
    """Keeps a stream of outcomes open to every callee of these roles for as long as it is there."""

    async def listen(peer: Peer) -> None:
        stub = v1.StepsStub(fabric.channel(peer.role, peer.id))
        is_open = False
        try:
            async for message in stub.outcomes(v1.OutcomesRequest()):
                if is_open:
                    engine.outcome(peer, wire.outcome(message))
                else:
                    is_open = True
                    engine.peer_up(peer)
        finally:
            engine.peer_down(peer)

    await while_present(fabric, roles, listen)
