"""An address pool that is called over the fabric, whatever the network does; and what must hold afterwards.

Each lease is a call with an id, a step of a task, that is made again until it is answered. `Follower` keeps a
copy of the pool by its watch and notes each revision.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric
from nano.model.action import LeaseAddress, Outcome
from nano.model.address import AddressPool, Provider, Range, owner_of
from nano.model.errors import NanoError
from nano.model.ids import AddressPoolName, InstanceId, TaskId
from nano.model.peers import Role
from nano.saga.callee import Callee
from nano.saga.handlers import Did
from nano.shelf import Shelf
from nano.steps import STEP_ROLES, RemoteCallees, StepsRpc
from services.addresspool.ledger import Ledger
from services.addresspool.rpc import ROLES, AddressPoolsRpc
from services.addresspool.steps import lease_address, return_address
from tests.support.disk import SimDisk

LAN = AddressPoolName("lan")
STEP = "lease_address"
POOL = AddressPool(
    LAN,
    IPv4Address("10.1.0.1"),
    (),
    Provider.DHCP,
    (Range(IPv4Address("10.1.0.10"), IPv4Address("10.1.3.250"), IPv4Address("255.255.0.0")),),
)
WATCH_ROLES = {method: frozenset(Role) for method in ROLES}
PAUSE_S = 0.05
"""Before what was not answered is asked again."""


class Pool:
    """The service, with a count of how often each step has acted."""

    def __init__(self, shelf: Shelf[Ledger]) -> None:
        self.shelf = shelf
        self.acted: Counter[str] = Counter()
        self._callee = Callee(shelf)
        self._callee.immediate(LeaseAddress, do=self._lease, undo=return_address)
        self._callee.settle()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, disk: SimDisk | None = None) -> AsyncIterator["Pool"]:
        async with Shelf.open(Path("/pool"), Ledger, disk=disk or SimDisk()) as shelf:
            shelf.commit(*shelf.book.create_pool(POOL))
            yield cls(shelf)

    def serve(self, fabric: Fabric) -> None:
        fabric.serve([StepsRpc(self._callee), AddressPoolsRpc(self.shelf)], STEP_ROLES | WATCH_ROLES)

    def _lease(self, action: LeaseAddress, ledger: Ledger) -> Did:
        self.acted[action.instance] += 1
        return lease_address(action, ledger, 5)


class Tenant:
    """Asks for addresses until each is answered."""

    def __init__(self, fabric: Fabric) -> None:
        self._callees = RemoteCallees(fabric)
        self.answers: dict[str, Outcome] = {}
        self.repeats = 0

    async def lease(self, number: int) -> None:
        instance = InstanceId(f"i-{number}")
        action = LeaseAddress(LAN, owner_of(instance), instance)
        while True:
            try:
                outcome = await self._callees.begin(Role.ADDRESSPOOL, TaskId(f"t-{number}"), STEP, action, 0)
            except NanoError:
                self.repeats += 1
                await asyncio.sleep(PAUSE_S)
            else:
                self.answers[instance] = outcome
                return


class Follower:
    """A copy of the pool's leases."""

    def __init__(self, fabric: Fabric) -> None:
        self._stub = v1.AddressPoolsStub(fabric.channel(Role.ADDRESSPOOL))
        self.leases: dict[str, str] = {}
        self.revisions: list[int] = []
        self.wholes = 0
        self.resumed = 0
        self._cursor: v1.Cursor | None = None
        self._heard = asyncio.Event()

    async def follow(self) -> None:
        """Until cancelled; where it broke off, it goes on."""
        while True:
            with contextlib.suppress(NanoError):
                async for change in self._stub.watch(v1.WatchRequest(since=self._cursor)):
                    self._take(change)
            self.resumed += 1
            await asyncio.sleep(PAUSE_S)

    async def until(self, revision: int) -> None:
        while not self.revisions or self.revisions[-1] < revision:
            self._heard.clear()
            await self._heard.wait()

    def _take(self, change: v1.AddressPoolChange) -> None:
        assert change.cursor is not None
        self._cursor = change.cursor
        self.revisions.append(change.cursor.revision)
        if change.whole:
            self.wholes += 1
            self.leases.clear()
        for lease in change.leases:
            assert lease.owner not in self.leases, "told twice"
            self.leases[lease.owner] = lease.address
        self._heard.set()


def check(pool: Pool, tenant: Tenant, follower: Follower, count: int) -> None:
    """Each lease was given once and answered, and the copy heard of each once and in order."""
    book = pool.shelf.book
    assert pool.acted == {f"i-{number}": 1 for number in range(count)}
    assert len(tenant.answers) == len(book.leases) == count
    assert len({str(lease.address) for lease in book.leases.values()}) == count
    assert follower.wholes == 1
    assert follower.revisions == list(range(follower.revisions[0], pool.shelf.revision + 1))
    assert follower.leases == {owner: str(lease.address) for owner, lease in book.leases.items()}
