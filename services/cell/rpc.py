"""Who calls the cell, and what they get. Steps come through `nano.steps`."""

from collections.abc import AsyncIterator
from typing import Any

from grpclib.const import Handler

from nano import wire
from nano.contracts.nano import v1
from nano.model.errors import Stale
from nano.model.peers import Role
from nano.model.pool import Capabilities
from nano.shelf import Shelf
from services.cell.display import OPEN_DISPLAY, Displays
from services.cell.host import Host
from services.cell.hypervisor import Hypervisor
from services.cell.statuses import StatusGone, StatusPut

ROLES = {
    "/nano.v1.CellHost/Watch": frozenset({Role.SCHEDULER}),
    OPEN_DISPLAY: frozenset({Role.GATEWAY}),
}
"""Who may call what; nobody may call what is not here."""


class CellRpc(v1.CellHostBase):
    """The service `nano.v1.CellHost`."""

    def __init__(self, shelf: Shelf[Host], capabilities: Capabilities, hypervisor: Hypervisor) -> None:
        self._shelf = shelf
        self._capabilities = capabilities
        self.displays = Displays(shelf.book, hypervisor)

    def __mapping__(self) -> dict[str, Handler]:
        return {**super().__mapping__(), **self.displays.mapping()}

    async def watch(self, message: v1.CellWatchRequest) -> AsyncIterator[v1.CellReport]:
        """The account, then each report once it is durable; the account again for who falls behind."""
        while True:
            at = self._shelf.cursor
            account = self._account()
            await self._shelf.durable()
            yield v1.CellReport(account=account)
            try:
                async for _, changes in self._shelf.follow(at):
                    for report in reports(changes):
                        yield report
            except Stale:
                continue
            return  # the shelf is being closed

    def _account(self) -> v1.Account:
        return v1.Account(
            incarnation=self._shelf.incarnation,
            capabilities=wire.outgoing(self._capabilities),
            statuses=[wire.outgoing(status) for status in self._shelf.book.statuses],
        )


def reports(changes: tuple[Any, ...]) -> list[v1.CellReport]:
    """What some changes of the book tell a watcher."""
    told = []
    for change in changes:
        match change:
            case StatusPut(status):
                told.append(v1.CellReport(status=wire.outgoing(status)))
            case StatusGone(instance):
                told.append(v1.CellReport(forgotten=instance))
    return told
