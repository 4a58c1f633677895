"""`python -m services.scheduler --config FILE`: wiring, imported by nobody."""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from nano.fabric.authority import Authority
from nano.fabric.enrolment import Admission, EnrolmentServer
from nano.joining import joined
from nano.model.ids import PoolName
from nano.model.peers import Role
from nano.model.pool import Pool
from nano.saga.engine import Engine
from nano.service import now_ms, ready, run
from nano.shelf import Shelf
from nano.steps import RemoteCallees, hear_outcomes
from services.scheduler.admissions import ROLES as ADMISSION_ROLES
from services.scheduler.admissions import AdmissionsRpc
from services.scheduler.cells import Cells
from services.scheduler.config import Config
from services.scheduler.inventory import Inventory, PoolPut, TemplatePut
from services.scheduler.invitations import Invitations, places
from services.scheduler.rpc import ROLES, SchedulerRpc
from services.scheduler.samples import Samples
from services.scheduler.tasks import SAGAS
from services.scheduler.templates import defaults

CALLEES = frozenset({Role.CELL, Role.IMAGESTORE, Role.ADDRESSPOOL})


def first_start(shelf: Shelf[Inventory], first_pool: PoolName | None) -> None:
    """What a zone has from its beginning; what was deleted later stays deleted."""
    if shelf.revision == 0:
        pools = [PoolPut(Pool(first_pool))] if first_pool else []
        shelf.commit(*pools, *(TemplatePut(template) for template in defaults(now_ms())))


async def serve(config: Config, stopping: asyncio.Event) -> None:
    data = Path(config.paths.data)
    first_pool = PoolName(config.first_pool) if config.first_pool else None
    async with AsyncExitStack() as up:
        shelf = await up.enter_async_context(Shelf.open(data / "shelf", Inventory))
        first_start(shelf, first_pool)
        shelf.commit(*shelf.book.nobody_is_confirmed())
        authority = Authority.open(data / "authority", datetime.now(UTC), name=config.zone)
        admission = Admission(config.enrolment.users, config.enrolment.group)
        await up.enter_async_context(
            EnrolmentServer(authority, Path(config.fabric.enrolment), admission=admission)
        )
        fabric = await up.enter_async_context(
            joined(config.fabric, Role.SCHEDULER, config.id, data / "identity", stopping)
        )
        samples = Samples(shelf.book.usage)
        engine = Engine(shelf, SAGAS, RemoteCallees(fabric), now_ms=now_ms)
        engine.resume()  # claims are there again before anything is served
        cells = Cells(shelf, fabric, samples, now_ms, first_pool)
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        for name, job in (
            ("engine", engine.run()),
            ("cells", cells.listen()),
            ("outcomes", hear_outcomes(fabric, engine, CALLEES)),
        ):
            up.callback(jobs.create_task(job, name=name).cancel)
        invitations = Invitations(
            authority.zone.id, lambda: places(config.fabric, config.admission.addresses)
        )
        fabric.serve(
            [
                SchedulerRpc(shelf, engine, samples, now_ms, first_use=config.admission.first_use),
                AdmissionsRpc(shelf, invitations, lambda: authority.make_next(datetime.now(UTC)), now_ms),
            ],
            ROLES | ADMISSION_ROLES,
        )
        ready(f"serves the zone {authority.zone.name}, {authority.zone.id}")
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(run("scheduler", Config, serve))
