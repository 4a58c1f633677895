import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nano.model.action import (
    Action,
    BuildInstance,
    CreateVolumes,
    DeleteInstance,
    LeaseAddress,
    Nothing,
    Outcome,
    Progress,
    ReleaseAddress,
)
from nano.model.address import owner_of
from nano.model.errors import Conflict, Exhausted, StorageFull, Unsupported
from nano.model.ids import TaskId
from nano.saga.callee import Callee
from nano.saga.handlers import Did, Errand, Report, errand
from nano.saga.step import Changes
from nano.shelf import Shelf
from tests.support import saga_books as books
from tests.support.disk import SimDisk
from tests.support.nouns import SPEC
from tests.support.saga_desk import INSTANCE
from tests.support.virtual_time import virtually

TASK = TaskId("t")
LEASE = LeaseAddress(books.POOL, owner_of(INSTANCE), INSTANCE)
RELEASE = ReleaseAddress(INSTANCE)
VOLUMES = CreateVolumes(INSTANCE, 1, SPEC, None, None)
BUILD = BuildInstance(INSTANCE, 1, SPEC, "00:16:3e:00:00:01", None)
DELETE = DeleteInstance(INSTANCE, 1)


@dataclass
class Pool:
    callee: Callee
    shelf: Shelf[books.Ledger]

    @property
    def leases(self) -> int:
        return len(self.shelf.book.leases)


@asynccontextmanager
async def open_pool(disk: SimDisk | None = None) -> AsyncIterator[Pool]:
    async with Shelf.open(Path("/data"), books.Ledger, disk=disk or SimDisk()) as shelf:
        callee = Callee(shelf)
        callee.immediate(LeaseAddress, books.lease_in, books.release_from)
        callee.immediate(ReleaseAddress, books.release_all)
        callee.settle()
        yield Pool(callee, shelf)


@dataclass
class Host:
    callee: Callee
    shelf: Shelf[books.Host]
    iron: books.Hardware

    async def heard(self) -> Outcome:
        """The next outcome from here on."""
        listener = self.callee.outcomes()
        try:
            return await anext(listener)
        finally:
            self.callee.leave(listener)


@asynccontextmanager
async def open_host(
    iron: books.Hardware | None = None, disk: SimDisk | None = None, **limits: int
) -> AsyncIterator[Host]:
    iron = iron or books.Hardware()
    async with (
        Shelf.open(Path("/data"), books.Host, disk=disk or SimDisk()) as shelf,
        asyncio.TaskGroup() as jobs,
    ):
        callee = Callee(shelf, **limits)
        callee.job(CreateVolumes, iron.create_volumes, iron.remove_volumes)
        callee.job(BuildInstance, iron.build, iron.demolish)
        callee.job(DeleteInstance, iron.delete)
        running = jobs.create_task(callee.run())
        yield Host(callee, shelf, iron)
        running.cancel()


# ------------------------------------------------------------------ immediate steps


@virtually
async def test_a_step_is_done_once_and_told_as_often_as_asked() -> None:
    async with open_pool() as pool:
        first = await pool.callee.begin(TASK, "lease", LEASE)
        again = await pool.callee.begin(TASK, "lease", LEASE)
        assert first == again == await pool.callee.ask(TASK, "lease")
        assert first.progress is Progress.DONE
        assert pool.leases == 1


@virtually
async def test_a_step_is_undone_once_and_never_begins_again() -> None:
    async with open_pool() as pool:
        await pool.callee.begin(TASK, "lease", LEASE)
        for _ in range(2):
            assert (await pool.callee.undo(TASK, "lease")).progress is Progress.UNDONE
        assert (await pool.callee.begin(TASK, "lease", LEASE)).progress is Progress.UNDONE
        assert pool.leases == 0


@virtually
async def test_a_step_that_comes_after_its_undo_is_refused() -> None:
    async with open_pool() as pool:
        assert (await pool.callee.undo(TASK, "lease")).progress is Progress.UNDONE
        assert (await pool.callee.begin(TASK, "lease", LEASE)).progress is Progress.UNDONE
        assert pool.leases == 0


@virtually
async def test_a_refusal_is_kept_and_changes_nothing() -> None:
    async with open_pool() as pool:
        for number in range(100):
            other = LeaseAddress(books.POOL, "owner", type(INSTANCE)(f"other-{number}"))
            await pool.callee.begin(TaskId(f"t{number}"), "lease", other)
        refused = await pool.callee.begin(TASK, "lease", LEASE)
        assert refused.progress is Progress.FAILED
        assert refused.fault is not None
        assert refused.fault.code == "no_address"
        await pool.callee.undo(TaskId("t0"), "lease")
        assert await pool.callee.begin(TASK, "lease", LEASE) == refused
        assert (await pool.callee.undo(TASK, "lease")).progress is Progress.UNDONE


@virtually
async def test_behind_the_pivot_a_failed_step_is_begun_anew_under_another_key() -> None:
    async with open_pool() as pool:
        tries = iter([Conflict("not now"), None])

        def moody(action: ReleaseAddress, ledger: books.Ledger) -> Did:
            if error := next(tries):
                raise error
            return books.release_all(action, ledger)

        pool.callee.immediate(ReleaseAddress, moody)
        assert (await pool.callee.begin(TASK, "release", RELEASE)).progress is Progress.FAILED
        assert (await pool.callee.begin(TASK, "release", RELEASE)).progress is Progress.FAILED
        done = await pool.callee.begin(TASK, "release~2", RELEASE)
        assert (done.step, done.progress) == ("release~2", Progress.DONE)
        assert (await pool.callee.begin(TASK, "release", RELEASE)).progress is Progress.UNDONE
        with pytest.raises(Conflict, match="release~2 of task t is done"):
            await pool.callee.begin(TASK, "release~3", RELEASE)


@virtually
async def test_what_cannot_be_undone_is_told_as_it_is() -> None:
    async with open_pool() as pool:
        done = await pool.callee.begin(TASK, "release", RELEASE)
        assert await pool.callee.undo(TASK, "release") == done


@virtually
async def test_an_undo_that_fails_is_told_and_tried_when_asked_again() -> None:
    async with open_pool() as pool:
        errors = iter([RuntimeError("defect"), None])

        def moody(action: LeaseAddress, result: Any, ledger: books.Ledger) -> Changes:
            if error := next(errors):
                raise error
            return books.release_from(action, result, ledger)

        pool.callee.immediate(LeaseAddress, books.lease_in, moody)
        await pool.callee.begin(TASK, "lease", LEASE)
        with capture_logs() as logs:
            undoing = await pool.callee.undo(TASK, "lease")
        assert undoing.progress is Progress.UNDOING
        assert undoing.fault is not None
        assert undoing.fault.subject == logs[0]["log_id"]
        assert pool.leases == 1
        assert (await pool.callee.undo(TASK, "lease")).progress is Progress.UNDONE
        assert pool.leases == 0


@virtually
async def test_what_is_not_done_here_is_refused() -> None:
    async with open_pool() as pool:
        with pytest.raises(Unsupported, match="BuildInstance is not done here"):
            await pool.callee.begin(TASK, "build", BUILD)
        assert (await pool.callee.ask(TASK, "build")).progress is Progress.UNKNOWN


@virtually
async def test_a_handler_knows_for_whom_it_works() -> None:
    async with open_pool() as pool:
        seen = []

        def spy(action: ReleaseAddress, ledger: books.Ledger) -> Did:
            seen.append(errand.get())
            return books.release_all(action, ledger)

        pool.callee.immediate(ReleaseAddress, spy)
        await pool.callee.begin(TASK, "release", RELEASE, deadline_ms=5)
        assert seen == [Errand(TASK, "release", 5)]


# ------------------------------------------------------------------ forgetting


@virtually
async def test_an_ended_task_is_forgotten_with_all_that_is_held_for_it() -> None:
    async with open_pool() as pool:
        held: list[TaskId] = []

        def drop(task: TaskId, _book: books.Ledger) -> Changes:
            held.append(task)
            return [books.LeaseErased(INSTANCE)]

        pool.callee.when_forgotten(drop)
        await pool.callee.begin(TASK, "lease", LEASE)
        await pool.callee.forget([TASK])
        await pool.callee.forget([TASK])
        assert held == [TASK]
        assert pool.leases == 0
        assert len(pool.shelf.book.outcomes) == 0


@virtually
async def test_what_comes_after_the_end_leaves_nothing_behind() -> None:
    async with open_pool() as pool:
        await pool.callee.forget([TASK])
        assert (await pool.callee.begin(TASK, "lease", LEASE)).progress is Progress.UNDONE
        assert (await pool.callee.undo(TASK, "lease")).progress is Progress.UNDONE
        assert pool.leases == 0
        assert len(pool.shelf.book.outcomes) == 0


# ------------------------------------------------------------------ jobs


@virtually
async def test_a_job_answers_at_once_and_its_outcome_follows() -> None:
    async with open_host() as host:
        listener = host.callee.outcomes()
        assert (await host.callee.begin(TASK, "volumes", VOLUMES)).progress is Progress.BEGUN
        heard = [await anext(listener), await anext(listener)]
        assert [(one.progress, one.percent) for one in heard] == [(Progress.BEGUN, 100), (Progress.DONE, 0)]
        assert heard[1].result == Nothing()
        assert host.iron.volumes == {(INSTANCE, 0)}


@virtually
async def test_an_undo_cuts_a_running_job_short_and_cleans_up() -> None:
    async with open_host() as host:
        await host.callee.begin(TASK, "volumes", VOLUMES)
        await asyncio.sleep(0.3)
        assert host.iron.volumes == {(INSTANCE, 0)}
        undoing = await host.callee.undo(TASK, "volumes")
        assert (undoing.progress, undoing.fault) == (Progress.UNDOING, None)
        assert (await host.callee.undo(TASK, "volumes")).progress is Progress.UNDOING
        assert (await host.heard()).progress is Progress.UNDONE
        assert host.iron.volumes == set()


@virtually
async def test_an_undo_of_a_job_that_was_done_runs_it_back() -> None:
    async with open_host() as host:
        await host.callee.begin(TASK, "build", BUILD)
        assert (await host.heard()).progress is Progress.DONE
        assert host.shelf.book.domains == {INSTANCE: "stopped"}
        await host.callee.undo(TASK, "build")
        assert (await host.heard()).progress is Progress.UNDONE
        assert host.shelf.book.domains == {}
        assert host.iron.domains == {}


@virtually
async def test_a_job_without_a_way_back_goes_on_when_asked_to_turn() -> None:
    async with open_host() as host:
        host.iron.volumes.add((INSTANCE, 0))
        await host.callee.begin(TASK, "delete", DELETE)
        assert (await host.callee.undo(TASK, "delete")).progress is Progress.BEGUN
        await asyncio.sleep(5)
        assert (await host.callee.undo(TASK, "delete")).progress is Progress.DONE
        assert host.iron.volumes == set()


@virtually
async def test_a_defect_in_a_job_is_logged_and_fails_that_step_only() -> None:
    async with open_host() as host:

        async def breaks(_action: Action, _report: Report) -> Did:
            raise ZeroDivisionError

        host.callee.job(BuildInstance, breaks)
        with capture_logs() as logs:
            await host.callee.begin(TASK, "build", BUILD)
            await host.callee.begin(TASK, "volumes", VOLUMES)
            await asyncio.sleep(5)
        failed = await host.callee.ask(TASK, "build")
        assert failed.fault is not None
        assert (failed.fault.code, failed.fault.subject) == ("internal", logs[0]["log_id"])
        assert (await host.callee.ask(TASK, "volumes")).progress is Progress.DONE
        assert (await host.callee.undo(TASK, "build")).progress is Progress.UNDONE


@virtually
async def test_an_undo_job_that_fails_is_told_and_runs_when_asked_again() -> None:
    async with open_host() as host:
        errors = iter([Conflict("busy disk"), None])

        async def moody(action: CreateVolumes) -> Changes:
            if error := next(errors):
                raise error
            return await host.iron.remove_volumes(action)

        host.callee.job(CreateVolumes, host.iron.create_volumes, moody)
        await host.callee.begin(TASK, "volumes", VOLUMES)
        await asyncio.sleep(1)
        await host.callee.undo(TASK, "volumes")
        stuck = await host.heard()
        assert (stuck.progress, stuck.fault and stuck.fault.message) == (Progress.UNDOING, "busy disk")
        await host.callee.undo(TASK, "volumes")
        assert (await host.heard()).progress is Progress.UNDONE


@virtually
async def test_too_many_waiting_jobs_are_refused_before_anything_is_written() -> None:
    async with open_host(jobs_at_once=1, jobs_waiting=2) as host:
        for number in range(3):
            await host.callee.begin(TaskId(f"t{number}"), "build", BUILD)
            await asyncio.sleep(0)
        with pytest.raises(Exhausted) as refused:
            await host.callee.begin(TASK, "build", BUILD)
        assert refused.value.retry_after_s > 0
        assert (await host.callee.ask(TASK, "build")).progress is Progress.UNKNOWN


@virtually
async def test_a_job_that_is_done_on_a_full_disk_says_so_when_there_is_room() -> None:
    async with open_host() as host:
        commit = host.shelf.commit
        full = True

        def refuses(*changes: Any) -> int:
            if full:
                raise StorageFull("no room")
            return commit(*changes)

        await host.callee.begin(TASK, "build", BUILD)
        host.shelf.commit = refuses  # type: ignore[method-assign]  # a disk that fills up at this moment
        with capture_logs() as logs:
            await asyncio.sleep(3)
        assert {entry["event"] for entry in logs} == {"saga.held_up"}
        assert (await host.callee.ask(TASK, "build")).progress is Progress.BEGUN
        full = False
        await asyncio.sleep(3)
        assert (await host.callee.ask(TASK, "build")).progress is Progress.DONE


# ------------------------------------------------------------------ restarts


@virtually
async def test_after_a_restart_open_jobs_run_again_before_new_ones() -> None:
    iron, disk = books.Hardware(), SimDisk()
    async with open_host(iron, disk) as host:
        await host.callee.begin(TASK, "volumes", VOLUMES)
        await asyncio.sleep(0.3)  # the volume is there, and nobody has said so
    async with open_host(iron, disk, jobs_at_once=1) as host:
        listener = host.callee.outcomes()
        await host.callee.begin(TaskId("new"), "build", BUILD)
        heard = [await anext(listener) for _ in range(3)]
        assert [(one.task, one.progress) for one in heard if one.progress is Progress.DONE] == [
            (TASK, Progress.DONE),
            ("new", Progress.DONE),
        ]


@virtually
async def test_after_a_restart_open_undos_are_run_to_their_end() -> None:
    iron, disk = books.Hardware(), SimDisk()
    async with open_host(iron, disk) as host:
        await host.callee.begin(TASK, "volumes", VOLUMES)
        await asyncio.sleep(1)
        await host.callee.undo(TASK, "volumes")
    async with open_host(iron, disk) as host:
        assert (await host.heard()).progress is Progress.UNDONE
        assert iron.volumes == set()


@virtually
async def test_a_step_that_this_version_does_not_know_fails_and_the_others_go_on() -> None:
    iron, disk = books.Hardware(), SimDisk()
    async with open_host(iron, disk) as host:
        await host.callee.begin(TASK, "build", BUILD)
        await host.callee.begin(TaskId("u"), "volumes", VOLUMES)
    async with Shelf.open(Path("/data"), books.Host, disk=disk) as shelf, asyncio.TaskGroup() as jobs:
        callee = Callee(shelf)
        callee.job(CreateVolumes, iron.create_volumes, iron.remove_volumes)
        running = jobs.create_task(callee.run())
        await asyncio.sleep(5)
        failed = await callee.ask(TASK, "build")
        assert failed.fault is not None
        assert failed.fault.code == "unsupported"
        assert (await callee.ask(TaskId("u"), "volumes")).progress is Progress.DONE
        running.cancel()


@virtually
async def test_no_step_is_taken_before_the_open_ones_are_settled() -> None:
    async with Shelf.open(Path("/data"), books.Ledger, disk=SimDisk()) as shelf:
        callee = Callee(shelf)
        callee.immediate(LeaseAddress, books.lease_in, books.release_from)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await callee.begin(TASK, "lease", LEASE)
        assert shelf.book.leases == {}
        callee.settle()
        assert (await callee.begin(TASK, "lease", LEASE)).progress is Progress.DONE
