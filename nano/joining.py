"""How a service takes its place on the fabric: it enrols, joins, and keeps its certificate fresh.

fabric = await up.enter_async_context(joined(config.fabric, Role.ADDRESSPOOL, config.id, folder, stopping))
fabric.serve([AddressPoolsRpc(shelf), StepsRpc(callee)], ROLES | STEP_ROLES)
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nano.fabric.enrolment import enrol, renewals
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity import Identity
from nano.model.peers import Role
from nano.service import FabricSettings, waiting

PORTS = {
    Role.SCHEDULER: 5600,
    Role.IMAGESTORE: 5601,
    Role.ADDRESSPOOL: 5602,
    Role.GATEWAY: 5603,
    Role.CELL: 5604,
}
"""Where each role listens unless its configuration says otherwise (design, section 2)."""


@asynccontextmanager
async def joined(
    settings: FabricSettings,
    role: Role,
    id: str,  # noqa: A002 - the word of Identity
    folder: Path,
    stopping: asyncio.Event,
) -> AsyncIterator[Fabric]:
    """The fabric, as the peer `role`/`id` whose key and certificate are kept in `folder`.

    Waits for the scheduler when there is no valid certificate yet; `Cancelled` once `stopping` is set.
    """
    enrolment = Path(settings.enrolment)
    with waiting(f"the scheduler's enrolment socket {enrolment}"):
        identity = await enrol(
            enrolment, role, id, folder, scheduler_user=settings.enrolment_user, stopping=stopping
        )
    async with Fabric.join(fabric_config(settings, role), identity) as fabric, asyncio.TaskGroup() as jobs:
        renewing = jobs.create_task(_renew(fabric, settings, identity), name="renewals")
        yield fabric
        renewing.cancel()


def fabric_config(settings: FabricSettings, role: Role) -> FabricConfig:
    """The words of a service's configuration in those of the fabric."""
    discovery = settings.discovery
    return FabricConfig(
        host=settings.listen,
        port=settings.port or PORTS[role],
        domain=discovery.domain,
        group=discovery.group,
        group_port=discovery.port,
        interfaces=discovery.interfaces,
        peers=discovery.peers,
    )


async def _renew(fabric: Fabric, settings: FabricSettings, identity: Identity) -> None:
    user = settings.enrolment_user
    async for renewed in renewals(Path(settings.enrolment), identity, scheduler_user=user):
        fabric.renewed(renewed)
