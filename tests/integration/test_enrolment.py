"""Enrolment over a real socket: who is let in, in which order they may start, and what a restart keeps."""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import structlog.testing
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from nano.fabric.identity.authority import LIFETIME, Authority
from nano.fabric.identity.folder import RENEWED_BEFORE
from nano.fabric.joining.enrolment import Admission, EnrolmentServer, Request, enrol, renewals
from nano.model.errors import Cancelled, Invalid, Stale, Untrusted
from nano.model.peers import Role
from tests.support.certificates import certificate_of, make_zone, signing_request, utc_now


@pytest.fixture
def run() -> Iterator[Path]:
    """A short folder that other users can look into: the path of a socket is limited."""
    with tempfile.TemporaryDirectory(prefix="nano-run-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def zone(tmp_path: Path) -> Authority:
    return make_zone(tmp_path / "zone")


def later(by: timedelta) -> datetime:
    return utc_now() + by


async def test_services_enrol_and_keep_their_key_inside(zone: Authority, run: Path, tmp_path: Path) -> None:
    async with EnrolmentServer(zone, run / "s"):
        async with asyncio.TaskGroup() as jobs:
            asked = [
                jobs.create_task(enrol(run / "s", role, f"{role}-1", tmp_path / role))
                for role in (Role.SCHEDULER, Role.IMAGESTORE, Role.ADDRESSPOOL, Role.GATEWAY, Role.CELL)
            ]
        identities = [each.result() for each in asked]
    assert {each.zone for each in identities} == {zone.zone.id}
    assert len({certificate_of(each).serial_number for each in identities}) == 5
    assert not (run / "s").exists()


async def test_a_service_that_starts_first_waits_and_says_so_once(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as jobs:
            early = jobs.create_task(enrol(run / "s", Role.CELL, "one", tmp_path / "cell"))
            await _logged(logs, "enrolment.waits")
            async with EnrolmentServer(zone, run / "s"):
                identity = await early
    assert identity.zone == zone.zone.id
    assert [log["event"] for log in logs].count("enrolment.waits") == 1


async def _logged(logs: list[structlog.typing.EventDict], event: str) -> None:
    async with asyncio.timeout(10):
        while not any(log["event"] == event for log in logs):  # noqa: ASYNC110 - a list tells nobody
            await asyncio.sleep(0)


async def test_waiting_ends_when_the_service_is_told_to_stop(run: Path, tmp_path: Path) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stopping.set)
    with pytest.raises(Cancelled):
        await enrol(run / "s", Role.CELL, "one", tmp_path / "cell", stopping=stopping)


async def test_a_valid_identity_lets_a_service_start_without_the_scheduler(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    async with EnrolmentServer(zone, run / "s"):
        first = await enrol(run / "s", Role.GATEWAY, "main", tmp_path / "own")
    certificate = certificate_of(first)
    again = await enrol(run / "s", Role.GATEWAY, "main", tmp_path / "own")
    assert again == first
    assert certificate_of(again) == certificate


async def test_a_socket_that_a_killed_scheduler_left_is_waited_for_and_replaced(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "s"))
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as jobs:
            early = jobs.create_task(enrol(run / "s", Role.CELL, "one", tmp_path / "cell"))
            await _logged(logs, "enrolment.waits")
            async with EnrolmentServer(zone, run / "s"):
                assert (await early).zone == zone.zone.id


async def test_a_predecessor_that_closes_leaves_its_successors_socket(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    predecessor = EnrolmentServer(zone, run / "s")
    await predecessor.__aenter__()
    async with EnrolmentServer(zone, run / "s"):
        await predecessor.__aexit__(None, None, None)
        assert await enrol(run / "s", Role.CELL, "one", tmp_path / "cell")
    assert not (run / "s").exists()


async def test_a_zone_made_anew_is_enrolled_in_at_the_next_start(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    async with EnrolmentServer(zone, run / "s"):
        old = await enrol(run / "s", Role.GATEWAY, "main", tmp_path / "own")
    anew = make_zone(tmp_path / "anew")
    async with EnrolmentServer(anew, run / "s"):
        with pytest.raises(Stale, match="made anew"):
            await anext(renewals(run / "s", old))
        again = await enrol(run / "s", Role.GATEWAY, "main", tmp_path / "own")
    assert again.zone == anew.zone.id
    assert again.ca_file.read_bytes() == anew.ca_file.read_bytes()


async def test_a_certificate_is_renewed_a_day_before_its_end(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    moved = timedelta()

    def clock() -> datetime:
        return later(moved)

    async with EnrolmentServer(zone, run / "s", clock):
        first = await enrol(run / "s", Role.GATEWAY, "main", tmp_path / "own", clock=clock)
        old = certificate_of(first)
        moved = LIFETIME - RENEWED_BEFORE
        second = await anext(renewals(run / "s", first, clock=clock))
    assert second == first
    new = certificate_of(second)
    assert new.public_key() == old.public_key()
    assert new.not_valid_after_utc - old.not_valid_after_utc >= LIFETIME - RENEWED_BEFORE


async def test_the_wrong_name_is_refused_with_its_field(zone: Authority, run: Path, tmp_path: Path) -> None:
    async with EnrolmentServer(zone, run / "s"):
        with pytest.raises(Invalid) as refused:
            await enrol(run / "s", Role.ADMIN, "me", tmp_path / "own")
    assert refused.value.field == "role"


@pytest.mark.parametrize("said", [b"", b"\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100_000, b'{"role":'])
async def test_nonsense_is_answered_or_dropped_and_the_next_one_served(
    zone: Authority, run: Path, tmp_path: Path, said: bytes
) -> None:
    async with EnrolmentServer(zone, run / "s"):
        reader, writer = await asyncio.open_unix_connection(run / "s")
        writer.write(said)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):  # too much is answered before it is all read
            assert b'"field":"request"' in await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert await enrol(run / "s", Role.CELL, "one", tmp_path / "cell")


async def test_silent_clients_do_not_keep_others_out(zone: Authority, run: Path, tmp_path: Path) -> None:
    async with EnrolmentServer(zone, run / "s"), _silent(run / "s", 8):
        assert await enrol(run / "s", Role.CELL, "one", tmp_path / "cell")


@contextlib.asynccontextmanager
async def _silent(path: Path, count: int) -> AsyncIterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        yield


def _ask_as_nobody(path: str, said: "multiprocessing.queues.Queue[str]", line: bytes = b"{}\n") -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        _ask(path, said, line)
    except PermissionError:
        said.put("refused by the kernel")


async def test_out_of_descriptors_it_waits_and_serves_when_there_are_some(zone: Authority, run: Path) -> None:
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    with structlog.testing.capture_logs() as logs:
        async with EnrolmentServer(zone, run / "s"):
            asking = fork.Process(target=_ask, args=(str(run / "s"), said))
            asking.start()
            with _no_more_descriptors():
                await _logged(logs, "enrolment.waits")
            assert '"field":"role"' in await asyncio.to_thread(said.get, True, 10)
            await asyncio.to_thread(asking.join)


@contextlib.contextmanager
def _no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _ask(path: str, said: "multiprocessing.queues.Queue[str]", line: bytes = b"{}\n") -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
        one.sendall(line)
        said.put(one.makefile().readline())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("mode", "expected"), [(0o600, "refused by the kernel"), (0o666, "user nobody (65534) may not enrol")]
)
async def test_another_user_is_kept_out_by_mode_and_by_name(
    zone: Authority, run: Path, mode: int, expected: str
) -> None:
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    async with EnrolmentServer(zone, run / "s"):
        assert (run / "s").stat().st_mode & 0o777 == 0o600
        (run / "s").chmod(mode)
        stranger = fork.Process(target=_ask_as_nobody, args=(str(run / "s"), said))
        stranger.start()
        assert expected in await asyncio.to_thread(said.get, True, 10)
        await asyncio.to_thread(stranger.join)


NOBODY = Admission({Role.GATEWAY: "nobody", Role.CELL: "daemon"}, group="nogroup")
"""As on a host where each service has its own user; these three are there on every Debian."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role.GATEWAY, '"type":"grant"'),
        (Role.CELL, "user nobody (65534) may not enrol as cell: it is for daemon"),
        (Role.SCHEDULER, "user nobody (65534) may not enrol as scheduler: no user is set for it"),
        (Role.ADMIN, '"field":"role"'),
    ],
)
async def test_a_user_of_the_group_gets_the_certificate_of_his_own_role_and_no_other(
    zone: Authority, run: Path, role: Role, expected: str
) -> None:
    csr = signing_request(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM).decode()
    line = msgspec.json.encode(Request(role, "main", csr)) + b"\n"
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    async with EnrolmentServer(zone, run / "s", admission=NOBODY):
        assert (run / "s").stat().st_mode & 0o777 == 0o660
        asking = fork.Process(target=_ask_as_nobody, args=(str(run / "s"), said, line))
        asking.start()
        assert expected in await asyncio.to_thread(said.get, True, 10)
        await asyncio.to_thread(asking.join)


async def test_root_and_the_schedulers_own_user_enrol_as_any_role_whoever_it_is_set_for(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    async with EnrolmentServer(zone, run / "s", admission=Admission({Role.CELL: "daemon"})):
        assert await enrol(run / "s", Role.CELL, "one", tmp_path / "cell")


async def test_a_group_that_is_not_there_is_named(zone: Authority, run: Path) -> None:
    with pytest.raises(Invalid, match="'nano-none'") as refused:
        await EnrolmentServer(zone, run / "s", admission=Admission(group="nano-none")).__aenter__()
    assert refused.value.field == "enrolment"
    assert not (run / "s").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_scheduler_with_a_user_of_its_own_is_believed_once_he_is_named(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    (run / "own").mkdir()
    os.chown(run / "own", 65534, 65534)
    scheduler = fork.Process(target=_serve_as_nobody, args=(str(run / "own" / "s"), ready))
    scheduler.start()
    assert await asyncio.to_thread(ready.wait, 10)
    stopping = asyncio.Event()
    with structlog.testing.capture_logs() as logs:
        place, folder = run / "own" / "s", tmp_path / "cell"
        asking = asyncio.ensure_future(
            enrol(place, Role.CELL, "one", folder, scheduler_user="nobody", stopping=stopping)
        )
        await _logged(logs, "enrolment.waits")  # it hangs up: believed, asked, and to be asked again
        stopping.set()
        with pytest.raises(Cancelled):
            await asking
    await asyncio.to_thread(scheduler.join)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
async def test_a_strangers_socket_is_not_believed(run: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    _public(run / "theirs")
    stranger = fork.Process(target=_serve_as_nobody, args=(str(run / "theirs" / "s"), ready))
    stranger.start()
    assert await asyncio.to_thread(ready.wait, 10)
    with pytest.raises(Untrusted, match=r"served by a stranger, user nobody \(65534\)"):
        await enrol(run / "theirs" / "s", Role.CELL, "one", tmp_path / "cell")
    await asyncio.to_thread(stranger.join)


def _public(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _serve_as_nobody(path: str, ready: "multiprocessing.synchronize.Event") -> None:
    os.setgid(65534)
    os.setuid(65534)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        ready.set()
        listener.accept()[0].close()


async def test_a_folder_that_others_may_write_is_refused(zone: Authority, run: Path) -> None:
    _public(run / "theirs")
    with pytest.raises(Invalid, match="others could put a socket"):
        await EnrolmentServer(zone, run / "theirs" / "s").__aenter__()


async def test_a_path_too_long_for_a_socket_is_refused_at_both_ends(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    long = run / ("x" * 100)
    with pytest.raises(Invalid, match="too long"):
        await EnrolmentServer(zone, long).__aenter__()
    with pytest.raises(Invalid, match="too long"):
        await enrol(long, Role.CELL, "one", tmp_path / "cell")


async def test_a_scheduler_that_dies_within_its_answer_is_asked_again(
    zone: Authority, run: Path, tmp_path: Path
) -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"type":"grant","certifi')
        writer.close()

    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as jobs:
            dying = await asyncio.start_unix_server(dies, run / "s")
            early = jobs.create_task(enrol(run / "s", Role.CELL, "one", tmp_path / "cell"))
            await _logged(logs, "enrolment.waits")
            dying.close()
            await dying.wait_closed()
            async with EnrolmentServer(zone, run / "s"):
                assert (await early).zone == zone.zone.id
