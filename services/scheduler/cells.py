"""Listens to every cell: its full account, its reports, its samples.

A stream that opens begins with the account, so whatever happened while it was not open is known again. What
comes on it is decided by the book and committed; nothing here remembers anything.
"""

import contextlib
from collections.abc import Callable

import structlog

from nano import wire
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric
from nano.fabric.links.sparing import Sparing
from nano.fabric.presence import while_present
from nano.model.errors import Busy, NanoError
from nano.model.ids import CellId, PoolName
from nano.model.instance import InstanceStatus, Power
from nano.model.peers import Peer, Role
from nano.model.pool import Capabilities, Presence
from nano.model.task import TaskState
from nano.saga.engine import Engine
from nano.saga.record import About
from nano.shelf import Shelf
from services.scheduler.inventory import Inventory
from services.scheduler.samples import Samples
from services.scheduler.tasks.forget_instance import FORGET_INSTANCE
from services.scheduler.tasks.switch_off_forgotten import SWITCH_OFF_FORGOTTEN, SwitchOffForgotten

_SHOWN = 10
"""How many unknown instances of one cell are named in the log."""

_log = structlog.get_logger("scheduler.cells")


class Cells:
    """The ears of the scheduler."""

    def __init__(
        self,
        shelf: Shelf[Inventory],
        engine: Engine,
        fabric: Fabric,
        samples: Samples,
        now_ms: Callable[[], int],
        *,
        first_pool: PoolName | None,
    ) -> None:
        """Cells never seen before enter `first_pool`: their certificate says that they may be here."""
        self._shelf = shelf
        self._engine = engine
        self._fabric = fabric
        self._samples = samples
        self._now_ms = now_ms
        self._first_pool = first_pool
        self._sparing = Sparing()

    async def listen(self) -> None:
        """Until cancelled."""
        self._fabric.on_sample(self._sampled)
        await while_present(self._fabric, frozenset({Role.CELL}), self._listen_to)

    async def _listen_to(self, peer: Peer) -> None:
        cell = CellId(peer.id)
        stub = v1.CellHostStub(self._fabric.channel(peer.role, peer.id))
        presence = Presence.LOST
        try:
            async for report in stub.watch(v1.CellWatchRequest()):
                self._heard(peer, cell, report)
            presence = Presence.LEFT
        finally:
            self._shelf.commit(*self._shelf.book.cell_silent(cell, presence, self._now_ms()))
            self._samples.forget(cell)

    def _heard(self, peer: Peer, cell: CellId, report: v1.CellReport) -> None:
        book = self._shelf.book
        if report.account is not None:
            self._shelf.commit(*book.cell_seen(cell, self._host_of(peer), self._now_ms(), self._first_pool))
            statuses = [
                wire.incoming(status, InstanceStatus, f"account.statuses[{index}].")
                for index, status in enumerate(report.account.statuses)
            ]
            capabilities = wire.incoming(report.account.capabilities, Capabilities, "account.capabilities.")
            self._shelf.commit(
                *book.account(cell, report.account.incarnation, capabilities, statuses, self._now_ms())
            )
            _log.info("cell.confirmed", cell=cell, instances=len(statuses), pool=book.cells[cell].pool)
            unknown = [one for one in statuses if one.instance not in book.instances]
            if unknown:
                first = [one.instance for one in unknown[:_SHOWN]]
                _log.warning("cell.unknown_instances", cell=cell, count=len(unknown), first=first)
            for status in unknown:
                self._see_to_unknown(cell, status)
        elif report.status is not None:
            status = wire.incoming(report.status, InstanceStatus, "status.")
            self._shelf.commit(*book.reported(cell, status))
            if status.instance not in book.instances:
                self._see_to_unknown(cell, status)

    def _see_to_unknown(self, cell: CellId, status: InstanceStatus) -> None:
        """One that a person has given up, since its server was gone, must not run when that is back.

        Any other is left alone: a book that was put back from a backup does not know what is newer.
        """
        if status.power is Power.STOPPED:
            return
        given_up = self._shelf.book.tasks.page(
            limit=1, kind=FORGET_INSTANCE.name, subject=status.instance, states=[TaskState.DONE]
        )
        for task in given_up:
            with contextlib.suppress(Busy):  # it is being switched off already
                self._engine.start(
                    SWITCH_OFF_FORGOTTEN,
                    SwitchOffForgotten(status.instance, cell, status.epoch),
                    subject=status.instance,
                    about=About(task.name, task.owner, task.group),
                    claims=(f"instance/{status.instance}",),
                )

    def _host_of(self, peer: Peer) -> str:
        address = self._fabric.peers.address_of(peer)
        return "" if address is None else address[0]

    def _sampled(self, peer: Peer, datagram: bytes) -> None:
        """A malformed sample is dropped: it may be lost anyway. A cell speaks for itself and its own only."""
        if peer.role is not Role.CELL:
            return
        cell = CellId(peer.id)
        try:
            samples = wire.sampled(datagram)
        except NanoError as error:
            left_out = self._sparing.left_out(peer.id, self._now_ms() / 1000)
            if left_out is not None:
                _log.warning("cell.bad_sample", cell=peer.id, reason=error.message, left_out=left_out)
            return
        self._samples.heard([one for one in samples if self._shelf.book.speaks_for(cell, one.subject)])
