"""`python -m services.scheduler --config FILE`: wiring, imported by nobody."""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from nano.fabric.identity.authority import Authority
from nano.fabric.joining.enrolment import Admission, EnrolmentServer, utc_now
from nano.joining import placed
from nano.model.ids import PoolName
from nano.model.peers import Peer, Role
from nano.model.pool import Pool
from nano.saga.engine import Engine
from nano.service import now_ms, ready, run
from nano.shelf import Shelf
from nano.steps import RemoteCallees, hear_outcomes
from services.scheduler.admissions import ROLES as ADMISSIONS_ROLES
from services.scheduler.admissions import AdmissionsRpc
from services.scheduler.cells import Cells
from services.scheduler.config import Config
from services.scheduler.door import ROLES as DOOR_ROLES
from services.scheduler.door import DoorRpc
from services.scheduler.grants import Grants
from services.scheduler.inventory import Inventory, PoolPut, TemplatePut
from services.scheduler.invitations import Invitations, places
from services.scheduler.members import Members
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
        shelf.commit(*shelf.book.nobody_is_confirmed(now_ms()))
        shelf.commit(*shelf.book.membership.nobody_is_present())
        authority = Authority.open(data / "authority", datetime.now(UTC), name=config.zone)
        grants = Grants(shelf, authority, now_ms, utc_now)
        admission = Admission(config.enrolment.users, config.enrolment.group)
        await up.enter_async_context(
            EnrolmentServer(authority, Path(config.fabric.enrolment), admission=admission, members=grants)
        )
        own = Peer(Role.SCHEDULER, config.id)
        place = await up.enter_async_context(placed(config.fabric, own, data / "identity", stopping))
        fabric = place.fabric
        samples = Samples(shelf.book.usage)
        engine = Engine(shelf, SAGAS, RemoteCallees(fabric), now_ms=now_ms)
        engine.resume()  # claims are there again before anything is served
        members = Members(shelf, fabric, grants, (own, place.member), now_ms)
        cells = Cells(shelf, engine, fabric, samples, now_ms, first_pool=first_pool)
        jobs = await up.enter_async_context(asyncio.TaskGroup())
        for name, job in (
            ("engine", engine.run()),
            ("cells", cells.listen()),
            ("outcomes", hear_outcomes(fabric, engine, CALLEES)),
            ("members", members.run()),
        ):
            up.callback(jobs.create_task(job, name=name).cancel)
        rpc = SchedulerRpc(shelf, engine, samples, now_ms, first_use=config.admission.first_use)
        fabric.serve([rpc], ROLES)
        fabric.serve([DoorRpc(shelf, grants, lambda: fabric.issuer, members.changed, now_ms)], DOOR_ROLES)
        where = partial(places, config.fabric, config.admission.addresses)
        invitations = Invitations(authority.zone.id, where)
        admissions = AdmissionsRpc(shelf, engine, invitations, grants.next_authority, now_ms)
        fabric.serve([admissions], ADMISSIONS_ROLES)
        fabric.admit_applicants()
        ready(f"serves the zone {authority.zone.name}, {authority.zone.id}")
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(run("scheduler", Config, serve))
