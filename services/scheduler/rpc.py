"""Who calls the scheduler, and what they get.

Each handler asks the book, starts a task or commits a change, waits until that is durable, and answers.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from nano import wire
from nano.contracts.nano import v1
from nano.model.action import StopMode
from nano.model.errors import Conflict, Internal, Invalid, NotFound
from nano.model.ids import CellId, InstanceId, PoolName, TaskId, new_instance_id, new_task_id
from nano.model.instance import Instance, InstanceSpec
from nano.model.membership import JoinToken, Phase
from nano.model.peers import Peer, Role
from nano.model.pool import Pool, Presence
from nano.saga.engine import Engine
from nano.saga.record import About, Idempotency, StepMarked, TaskEnded, TaskOpened, TaskTurned
from nano.saga.step import Saga
from nano.shelf import Shelf
from nano.watching import watch
from services.scheduler.inventory import (
    CellGone,
    CellPut,
    InstanceGone,
    InstancePut,
    Inventory,
    PoolGone,
    PoolPut,
    StatusPut,
    TemplatePut,
)
from services.scheduler.lifecycle import Verb, permit
from services.scheduler.membership import (
    ApplicantGone,
    ApplicantPut,
    MemberGone,
    MemberPut,
    RemovalGone,
    RemovalPut,
    TokenGone,
    TokenPut,
    TrustPut,
)
from services.scheduler.samples import Samples
from services.scheduler.tasks.create_instance import CREATE_INSTANCE, CreateInstance
from services.scheduler.tasks.delete_instance import DELETE_INSTANCE, DeleteInstance
from services.scheduler.tasks.forget_instance import FORGET_INSTANCE, ForgetInstance
from services.scheduler.tasks.start_instance import START_INSTANCE, StartInstance
from services.scheduler.tasks.stop_instance import REBOOT_INSTANCE, STOP_INSTANCE, StopInstance

_CHANGES_AND_READS = frozenset({Role.GATEWAY, Role.ADMIN})

ROLES = {
    f"/nano.v1.Scheduler/{method}": _CHANGES_AND_READS
    for method in (
        "CreateInstance",
        "StartInstance",
        "StopInstance",
        "DeleteInstance",
        "ForgetInstance",
        "CancelTask",
        "PutPool",
        "DeletePool",
        "AddCell",
        "RemoveCell",
        "EnableCell",
        "Watch",
        "WatchUsage",
    )
}
"""Who may call what; nobody may call what is not here."""

GIVING_UP_S = 5.0
"""How long a forced stop waits until a polite one has been taken back."""
_HARD = frozenset({StopMode.FORCE, StopMode.RESET})
_AGAIN = frozenset({StopMode.REBOOT, StopMode.RESET})
_ENDING = frozenset({STOP_INSTANCE.name, REBOOT_INSTANCE.name})
_VERBS = {
    StopMode.GRACEFUL: Verb.STOP,
    StopMode.FORCE: Verb.FORCE,
    StopMode.REBOOT: Verb.REBOOT,
    StopMode.RESET: Verb.RESET,
}


class SchedulerRpc(v1.SchedulerBase):
    """The service `nano.v1.Scheduler`."""

    def __init__(
        self,
        shelf: Shelf[Inventory],
        engine: Engine,
        samples: Samples,
        now_ms: Callable[[], int],
        *,
        first_use: bool = False,
    ) -> None:
        """`first_use`: a cell that waits to be let in is, when it is put into a pool."""
        self._first_use = first_use
        self._shelf = shelf
        self._engine = engine
        self._samples = samples
        self._now_ms = now_ms

    @property
    def _book(self) -> Inventory:
        return self._shelf.book

    # -------------------------------------------------------------- tasks

    async def create_instance(self, message: v1.CreateInstanceRequest) -> v1.TaskRef:
        spec = wire.incoming(message.spec, InstanceSpec, "spec.")
        return await self._started(message.requester, lambda: self._creation(spec))

    async def start_instance(self, message: v1.InstanceRequest) -> v1.TaskRef:
        return await self._started(message.requester, lambda: self._start(InstanceId(message.instance)))

    async def stop_instance(self, message: v1.StopInstanceRequest) -> v1.TaskRef:
        if message.mode not in set(StopMode):
            raise Invalid("mode", f"mode {message.mode!r} is unknown: give one of {', '.join(StopMode)}")
        mode, instance = StopMode(message.mode), InstanceId(message.instance)
        if mode in _HARD:
            await self._stop_asking(instance)
        return await self._started(message.requester, lambda: self._stop(instance, mode))

    async def delete_instance(self, message: v1.InstanceRequest) -> v1.TaskRef:
        return await self._started(message.requester, lambda: self._deletion(InstanceId(message.instance)))

    async def forget_instance(self, message: v1.InstanceRequest) -> v1.TaskRef:
        return await self._started(message.requester, lambda: self._forgetting(InstanceId(message.instance)))

    async def _stop_asking(self, instance: InstanceId) -> None:
        """Whoever pulls the plug does not wait for a guest that is being asked to leave: the asking ends.

        Not where nobody could say that it has ended, since the cell is not there.
        """
        holder = self._book.tasks.claims.holder(f"instance/{instance}")
        if holder is None or self._presence_of(instance) is not Presence.ONLINE:
            return
        record = self._book.tasks.record(holder)
        if record.kind not in _ENDING or STOP_INSTANCE.decode(record.notes).mode in _HARD:
            return
        with contextlib.suppress(Conflict, TimeoutError):  # it has just ended, or its cell is not there
            self._engine.cancel(holder)
            async with asyncio.timeout(GIVING_UP_S):
                await self._engine.wait(holder)

    def _creation(self, spec: InstanceSpec) -> "_Story":
        template = self._book.templates.get(spec.template)
        if template is not None:  # `check_spec` says so when there is none
            spec = replace(spec, devices=template.devices)
        pool = self._book.pools.get(spec.pool)
        notes = CreateInstance(
            task=new_task_id(),
            instance=new_instance_id(),
            spec=spec,
            mac=self._new_mac(),
            created_ms=self._now_ms(),
            address_pool=None if pool is None else pool.address_pool,
        )
        claims = (f"instance/{notes.instance}", f"name/{spec.pool}/{spec.full_name}")
        return _Story(CREATE_INSTANCE, notes, notes.instance, _about(spec), claims, notes.task)

    def _start(self, asked: InstanceId) -> "_Story":
        found = self._permitted(Verb.START, asked)
        notes = StartInstance(found.id, found.cell, found.epoch, found.binding, found.wanted)
        return _story_of(found, START_INSTANCE, notes)

    def _stop(self, asked: InstanceId, mode: StopMode) -> "_Story":
        found = self._permitted(_VERBS[mode], asked)
        notes = StopInstance(found.id, found.cell, found.epoch, mode, found.wanted)
        saga = REBOOT_INSTANCE if mode in _AGAIN else STOP_INSTANCE
        return _story_of(found, saga, notes)

    def _deletion(self, asked: InstanceId) -> "_Story":
        found = self._permitted(Verb.DELETE, asked)
        notes = DeleteInstance(found.id, found.cell, found.epoch, found.binding is not None)
        return _story_of(found, DELETE_INSTANCE, notes)

    def _forgetting(self, asked: InstanceId) -> "_Story":
        found = self._permitted(Verb.FORGET, asked)
        notes = ForgetInstance(found.id, found.binding is not None)
        return _story_of(found, FORGET_INSTANCE, notes)

    def _permitted(self, verb: Verb, asked: InstanceId) -> Instance:
        found = self._book.instance(asked)
        self._book.tasks.claims.check((f"instance/{found.id}",))  # who is at it says more than the state
        is_removed = self._presence_of(found.id) is Presence.REMOVED
        permit(verb, found, self._book.status(found.id), is_cell_removed=is_removed)
        return found

    def _presence_of(self, instance: InstanceId) -> Presence | None:
        """Of its cell."""
        found = self._book.instances.get(instance)
        cell = self._book.cells.get(found.cell) if found else None
        return cell.presence if cell else None

    async def _started(self, requester: v1.Requester | None, story: "Callable[[], _Story]") -> v1.TaskRef:
        """Opens the task, unless the requester's key names it already, and answers when that is durable."""
        asked = requester or v1.Requester()
        task = self._repeated(asked) or self._open(asked, story())
        revision = self._shelf.revision
        await self._shelf.durable(revision)
        subject = self._book.tasks.record(task).subject
        return v1.TaskRef(task=task, subject=subject, revision=revision)

    def _repeated(self, asked: v1.Requester) -> TaskId | None:
        key = _key(asked)
        if key is None:
            return None
        return self._book.tasks.repeated(asked.credential, key, now_ms=self._now_ms())

    def _open(self, asked: v1.Requester, story: "_Story") -> TaskId:
        return self._engine.start(
            story.saga,
            story.notes,
            subject=story.subject,
            claims=story.claims,
            requester=asked.credential,
            about=story.about,
            deadline_ms=asked.deadline_ms,
            idempotency=_key(asked),
            task=story.task,
        )

    def _new_mac(self) -> str:
        """`00:16:3e` and three octets that nobody in the zone has (REST document, section 7)."""
        for _ in range(100):
            mac = "00:16:3e:" + ":".join(f"{octet:02x}" for octet in secrets.token_bytes(3))
            if self._book.mac_is_free(mac):
                return mac
        raise Internal("a hundred random MAC addresses in a row were taken: is the random source broken?")

    async def cancel_task(self, message: v1.CancelTaskRequest) -> v1.SchedulerReply:
        self._engine.cancel(TaskId(message.task))
        return await self._durable()

    # -------------------------------------------------------------- pools and cells

    async def put_pool(self, message: v1.Pool) -> v1.SchedulerReply:
        return await self._committed(self._book.put_pool(wire.incoming(message, Pool)))

    async def delete_pool(self, message: v1.PoolRef) -> v1.SchedulerReply:
        return await self._committed(self._book.delete_pool(PoolName(message.name)))

    async def add_cell(self, message: v1.CellRequest) -> v1.SchedulerReply:
        pool, cell = PoolName(message.pool), CellId(message.cell)
        if self._first_use:
            return await self._committed(self._book.add_first(pool, cell, self._now_ms()))
        return await self._committed(self._book.add_cell(pool, cell))

    async def remove_cell(self, message: v1.CellRequest) -> v1.SchedulerReply:
        return await self._committed(self._book.remove_cell(PoolName(message.pool), CellId(message.cell)))

    async def enable_cell(self, message: v1.EnableCellRequest) -> v1.SchedulerReply:
        pool, cell = PoolName(message.pool), CellId(message.cell)
        return await self._committed(self._book.enable_cell(pool, cell, enabled=message.enabled))

    async def _committed(self, changes: list[Any]) -> v1.SchedulerReply:
        self._shelf.commit(*changes)
        return await self._durable()

    async def _durable(self) -> v1.SchedulerReply:
        revision = self._shelf.revision
        await self._shelf.durable(revision)
        return v1.SchedulerReply(revision=revision)

    # -------------------------------------------------------------- watching

    async def watch(self, message: v1.WatchRequest) -> AsyncIterator[v1.SchedulerChange]:
        async for change in watch(self._shelf, message.since, lambda: whole(self._book), self._told):
            yield change

    def _told(self, changes: tuple[Any, ...]) -> v1.SchedulerChange | None:
        return told(self._book, changes)

    async def watch_usage(self, message: v1.WatchUsageRequest) -> AsyncIterator[v1.Usages]:
        async for samples in self._samples.follow():
            yield wire.usages_message(samples)


class _Story(NamedTuple):
    """A task that is about to begin."""

    saga: Saga[Any]
    notes: Any
    subject: str
    about: About
    claims: tuple[str, ...]
    task: TaskId | None = None


def _story_of(found: Instance, saga: Saga[Any], notes: Any) -> _Story:
    """Of an instance that is there, which the task holds meanwhile."""
    return _Story(saga, notes, found.id, _about(found.spec), (f"instance/{found.id}",))


def _about(spec: InstanceSpec) -> About:
    return About(spec.full_name, spec.owner, spec.group)


def _key(asked: v1.Requester) -> Idempotency | None:
    return Idempotency(asked.idempotency_key, asked.body_digest) if asked.idempotency_key else None


def whole(book: Inventory) -> v1.SchedulerChange:
    """The book as it is, for a watcher that knows nothing yet."""
    return v1.SchedulerChange(
        pools=[wire.outgoing(pool) for pool in book.pools.values()],
        cells=[wire.outgoing(cell) for cell in book.cells.values()],
        templates=[wire.outgoing(template) for template in book.templates.values()],
        instances=[wire.outgoing(instance) for instance in book.instances.values()],
        statuses=[wire.outgoing(status) for status in book.statuses.values()],
        tasks=[wire.outgoing(task) for task in book.tasks.page(limit=len(book.tasks))],
        members=[wire.outgoing(member) for member in book.membership.members.values()],
        applicants=[wire.outgoing(applicant) for applicant in book.membership.applicants.values()],
        join_tokens=[wire.outgoing(token.shown) for token in book.membership.tokens.values()],
        removals=[wire.outgoing(removal) for removal in book.membership.removals.values()],
        authorities=[wire.outgoing(book.membership.authority)],
    )


_PUT: dict[type, str] = {
    PoolPut: "pools",
    CellPut: "cells",
    TemplatePut: "templates",
    InstancePut: "instances",
    StatusPut: "statuses",
    MemberPut: "members",
    ApplicantPut: "applicants",
    TokenPut: "join_tokens",
    RemovalPut: "removals",
}
"""The member of the message that shows the noun of such a change."""
_GONE: dict[type, str] = {
    PoolGone: "pool",
    CellGone: "cell",
    InstanceGone: "instance",
    ApplicantGone: "applicant",
    TokenGone: "join_token",
    RemovalGone: "removal",
}
_OF_TRUST = (RemovalPut, RemovalGone, TrustPut)
_OF_MEMBERS = (MemberPut, MemberGone)
"""While the authority is being rotated they are what that waits for."""
_OF_TASKS = (TaskOpened, StepMarked, TaskTurned, TaskEnded)


def told(book: Inventory, changes: tuple[Any, ...]) -> v1.SchedulerChange | None:
    """What some changes show to a watcher; None when they show nothing."""
    message = v1.SchedulerChange()
    tasks: dict[TaskId, None] = {}
    for change in changes:
        if (member := _PUT.get(type(change))) is not None:
            (noun,) = msgspec.structs.astuple(change)
            shown = noun.shown if isinstance(noun, JoinToken) else noun
            getattr(message, member).append(wire.outgoing(shown))
        elif (kind := _GONE.get(type(change))) is not None:
            (gone,) = msgspec.structs.astuple(change)
            message.gone.append(v1.Gone(kind=kind, id=gone))
        elif isinstance(change, MemberGone):
            message.gone.append(v1.Gone(kind="member", id=str(Peer(change.role, change.id))))
        elif isinstance(change, _OF_TASKS):
            tasks[change.task] = None
    rotating = book.membership.trust.phase is not Phase.STEADY
    if any(isinstance(one, _OF_TRUST) or (rotating and isinstance(one, _OF_MEMBERS)) for one in changes):
        message.authorities.append(wire.outgoing(book.membership.authority))
    for task in tasks:
        try:
            message.tasks.append(wire.outgoing(book.tasks.view(task)))
        except NotFound:
            message.gone.append(v1.Gone(kind="task", id=task))  # out of the history by now
    return message if bytes(message) else None
