"""Listens to every cell: its full account, its reports, its samples.

A stream that opens begins with the account, so whatever happened while it was not open is known again. What
comes on it is decided by the book and committed; nothing here remembers anything. What was given up and is on
all the same is switched off as soon as that is known.
"""

import asyncio
from collections.abc import Callable

import structlog

from nano import wire
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric
from nano.fabric.links.sparing import Sparing
from nano.fabric.presence import while_present
from nano.model.errors import Exhausted, NanoError
from nano.model.ids import CellId, InstanceId, PoolName
from nano.model.instance import InstanceStatus
from nano.model.peers import Peer, Role
from nano.model.pool import Capabilities, Presence
from nano.saga.engine import Engine
from nano.shelf import Shelf
from services.scheduler.given_up import GivenUpPut
from services.scheduler.inventory import Inventory
from services.scheduler.samples import Samples
from services.scheduler.tasks.switch_off_forgotten import SWITCH_OFF_FORGOTTEN, SwitchOffForgotten

_SHOWN = 10
"""How many unknown instances of one cell are named in the log."""

LOOK_AGAIN_S = 30.0
"""What was not switched off at the first try waits for the next; its pauses are the book's."""

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
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(while_present(self._fabric, frozenset({Role.CELL}), self._listen_to))
            jobs.create_task(self._look_again(), name="cells: given up")

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
            self._switch_off()
        elif report.status is not None:
            status = wire.incoming(report.status, InstanceStatus, "status.")
            changes = book.reported(cell, status)
            self._shelf.commit(*changes)
            if any(isinstance(change, GivenUpPut) for change in changes):
                self._switch_off()
        elif report.forgotten:
            self._shelf.commit(*book.given_up.gone(cell, InstanceId(report.forgotten)))

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            self._switch_off()

    def _switch_off(self) -> None:
        """What was given up must not run: one task for each, and no second one beside it.

        What else nobody knows is left alone: a book that was put back from a backup does not know what is
        newer.
        """
        book = self._shelf.book
        for one in book.given_up.due(book.cells, self._now_ms()):
            claim = f"given_up/{one.instance}"
            if book.tasks.claims.holder(claim) is not None:
                continue
            notes = SwitchOffForgotten(one.instance, one.at, one.epoch)
            try:
                self._engine.start(
                    SWITCH_OFF_FORGOTTEN, notes, subject=one.instance, about=one.about, claims=(claim,)
                )
                self._shelf.commit(*book.given_up.tried(one.instance, self._now_ms()))
            except Exhausted as error:  # of tasks, or of the disk: looked at again soon
                _log.warning("cell.not_switched_off", instance=one.instance, reason=error.message)
                return

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
