"""Servers of other hosts come into the zone: by a token, by a code that people compare, and stay in it."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from betterproto2.grpclib.grpclib_server import ServiceBase
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib.const import Handler
from msgspec import structs

from nano.applying import NEW_CODE_S, NewCodes
from nano.contracts.nano import v1
from nano.fabric.calls.channel import Channel
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.authority import LIFETIME
from nano.fabric.identity.folder import RENEWED_BEFORE
from nano.fabric.identity.identity import fingerprint_of
from nano.fabric.joining import application, join_token
from nano.fabric.joining.applicant import ApplicantCredentials, linked
from nano.member import MEMBER_ROLES
from nano.model.errors import Cancelled, Conflict, Forbidden, Invalid, NanoError, Unreachable, Unsupported
from nano.model.membership import How
from nano.model.peers import Peer, Role
from nano.service import Discovery
from nano.steps import STEP_ROLES
from services.addresspool.rpc import ROLES as ADDRESSPOOL_ROLES
from services.cell.rpc import ROLES as CELL_ROLES
from services.imagestore.rpc import ROLES as IMAGESTORE_ROLES
from services.scheduler.admissions import ROLES as ADMISSIONS_ROLES
from services.scheduler.door import ROLES as DOOR_ROLES
from services.scheduler.rpc import ROLES as SCHEDULER_ROLES
from tests.support.between import somebody_between
from tests.support.certificates import issue, make_zone
from tests.support.doors import PATIENCE_S, Zone, short_folder
from tests.support.heard_logs import HeardLogs, heard_logs

CELL = Peer(Role.CELL, "c1")
GATEWAY = Peer(Role.GATEWAY, "g1")


@pytest.fixture
def zone() -> Iterator[Zone]:
    with short_folder() as folder:
        yield Zone(folder)


@contextlib.asynccontextmanager
async def waiting_cell(
    zone: Zone, peer: Peer = CELL, **settings: object
) -> AsyncIterator[asyncio.Task[None]]:
    """A cell that asks to be let in, without a token; the job ends when it is."""
    async with asyncio.TaskGroup() as jobs:
        job = jobs.create_task(zone.join(peer, **settings))
        try:
            yield job
        finally:
            job.cancel()


# ------------------------------------------------------------------ by token


async def test_a_token_lets_a_server_in_and_it_is_called_by_name(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token(Role.CELL)
        async with asyncio.timeout(PATIENCE_S), zone.joined(CELL, token=token):
            stub = v1.StepsStub(door.fabric.channel(CELL.role, CELL.id))
            assert (await stub.ask(v1.StepRef(task="t"), timeout=5)).task == "t"
        member = door.book.members[CELL]
        assert member.how is How.TOKEN
        assert member.fingerprint == zone.folder_of(CELL).fingerprint
        assert door.book.tokens[join_token.token_id(join_token.decode(token).secret)].used_by


async def test_a_server_that_starts_before_the_scheduler_waits_for_it(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token(Role.GATEWAY)
    async with asyncio.TaskGroup() as jobs:
        with heard_logs() as logs:
            joining = jobs.create_task(zone.join(GATEWAY, token=token))
            await _warned(logs, "")
        assert not joining.done()
        async with zone.scheduler() as door:
            await joining
            assert GATEWAY in door.book.members


async def test_once_in_the_zone_it_starts_without_scheduler_or_token(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
    async with asyncio.timeout(5), zone.joined(CELL, token="nonsense, which nobody looks at"):
        pass


async def test_a_token_in_a_file_is_as_good_and_an_empty_file_is_none(zone: Zone) -> None:
    file = zone.folder / "token"
    async with zone.scheduler() as door:
        file.write_text(f"{await door.token()}\n")
        await zone.join(CELL, token_file=str(file))
        file.write_text("\n")
        async with waiting_cell(zone, Peer(Role.CELL, "c2"), token_file=str(file)):
            (found,) = await door.waiting()
            assert found.id == "c2"


async def _refused(zone: Zone, peer: Peer, token: str, kind: type[NanoError], match: str) -> None:
    with pytest.raises(kind, match=match):
        await zone.join(peer, token=token)


async def test_a_token_that_has_expired_is_refused_by_name_role_and_end(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token(lifetime_s=60)
        zone.moved = timedelta(seconds=61)
        name = join_token.token_id(join_token.decode(token).secret)
        await _refused(zone, CELL, token, Forbidden, rf"{name} \(for any cell\) expired 1 seconds ago")
        assert CELL not in door.book.members


async def test_a_token_lets_in_one_key_which_may_repeat(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token()
        await zone.join(CELL, token=token)
        await _refused(zone, Peer(Role.CELL, "c2"), token, Forbidden, "was used by another server already")
        (zone.identity(CELL) / "certificate.pem").unlink()  # as if the grant was lost on its way
        await zone.join(CELL, token=token)


async def test_a_token_for_another_role_or_name_is_not_even_said(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await _refused(zone, CELL, await door.token(Role.GATEWAY), Forbidden, "does not let in cell/c1")
        await _refused(zone, CELL, await door.token(name="c9"), Forbidden, "does not let in cell/c1")


async def test_a_name_that_another_key_holds_is_refused_until_it_is_removed(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        zone.identity(CELL).rename(zone.folder / "lost")
        token = await door.token()
        await _refused(zone, CELL, token, Conflict, "is held by another key")
        await door.remove(CELL)
        await zone.join(CELL, token=token)


async def test_a_crash_of_the_scheduler_between_its_book_and_the_answer_burns_no_token(zone: Zone) -> None:
    async with zone.scheduler() as door:
        token = await door.token()
        peer, folder = CELL, zone.folder_of(CELL)
        secret = join_token.decode(token).secret
        digest = join_token.secret_digest(secret)
        door.shelf.commit(*door.book.redeem(digest, peer, folder.fingerprint, zone.now_ms()))
    async with zone.scheduler():
        await zone.join(CELL, token=token)


async def test_a_token_beside_the_socket_of_this_host_is_a_mistake(zone: Zone) -> None:
    with pytest.raises(Invalid, match=r"set fabric\.enrolment"):
        await zone.join(CELL, token="x", enrolment=str(zone.socket))


# ------------------------------------------------------------------ by discovery


async def test_both_ends_show_one_code_and_who_is_admitted_comes_in(zone: Zone) -> None:
    async with zone.scheduler() as door, waiting_cell(zone) as joining:
        (found,) = await door.waiting()
        note = await zone.note(CELL)
        assert found.code == note.code
        assert (found.fingerprint, found.host) == (note.fingerprint, "127.0.0.1")
        assert found.fingerprint == zone.folder_of(CELL).fingerprint
        await door.admit(found)
        await joining
        assert door.book.members[CELL].how is How.ADMITTED
        assert zone.application(CELL).state == "joined"


async def test_the_code_stays_the_same_when_either_end_starts_again(zone: Zone) -> None:
    async with zone.scheduler() as door:
        async with waiting_cell(zone):
            (before,) = await door.waiting()
        async with waiting_cell(zone):
            (again,) = await door.waiting()
            assert again.code == before.code
    async with waiting_cell(zone), zone.scheduler() as door:
        (after,) = await door.waiting()
        assert (after.code, after.fingerprint) == (before.code, before.fingerprint)


async def test_when_the_applicant_has_lost_its_notes_both_make_a_new_code(zone: Zone) -> None:
    async with zone.scheduler() as door:
        async with waiting_cell(zone):
            (before,) = await door.waiting()
        application.forget(zone.identity(CELL))
        async with waiting_cell(zone):
            await door.until(lambda: door.book.applicants[before.fingerprint].code != before.code)
            (after,) = await door.waiting()
            note = await zone.note(CELL)
            assert after.code == zone.application(CELL).code
            assert note.fingerprint == after.fingerprint


async def test_a_commitment_is_never_opened_to_two_challenges(zone: Zone) -> None:
    """Notes that name another challenge, as when the scheduler's key was replaced: the nonce is not said
    again."""
    async with zone.scheduler() as door:
        async with waiting_cell(zone):
            await door.waiting()
        first = zone.application(CELL)
        forged = application.Application(
            **{name: getattr(first, name) for name in first.__struct_fields__} | {"challenge": "00" * 32}
        )
        application.write(zone.identity(CELL), forged)
        async with waiting_cell(zone):
            await door.until(lambda: door.book.applicants[first.fingerprint].code != first.code)
            (again,) = await door.waiting()
        second = zone.application(CELL)
        assert second.nonce != first.nonce
        assert again.code == second.code


class Fickle(v1.DoorBase):
    """A scheduler with another challenge each time, which wants to see what comes out."""

    def __init__(self) -> None:
        self.nonces: list[bytes] = []

    async def join(self, messages: AsyncIterator[v1.JoinMessage]) -> AsyncIterator[v1.JoinReply]:
        await anext(messages)
        yield v1.JoinReply(challenge=secrets.token_bytes(32))
        self.nonces.append((await anext(messages)).nonce or b"")
        raise Unreachable("not this one")


async def test_whoever_asks_for_one_code_after_the_other_waits_ever_longer(zone: Zone) -> None:
    """Who has collected millions of codes at the real scheduler waits for one of ours that is among them."""
    fickle, liar = Fickle(), issue(make_zone(zone.folder / "liar"), Role.SCHEDULER, "main")
    config = FabricConfig(host="127.0.0.1", multicast=False)
    async with Fabric.join(config, liar) as fabric:
        fabric.serve([fickle], DOOR_ROLES)
        fabric.admit_applicants()
        at = "{}:{}".format(*fabric.address)
        discovery = Discovery(
            zone.domain, port=zone.group_port, interfaces=("127.0.0.1",), peers={"scheduler": at}
        )
        with heard_logs() as logs:
            async with waiting_cell(zone, discovery=discovery):
                await _warned(logs, "a new one is made", count=2)
    assert [line["in_s"] for line in logs.events("joining.code_changes")] == [0.0, NEW_CODE_S]
    assert len(set(fickle.nonces)) == len(fickle.nonces) == 2


def test_the_wait_for_a_new_code_doubles_up_to_an_hour() -> None:
    codes = NewCodes()
    assert [codes.pause_s() for _ in range(9)] == [0, 60, 120, 240, 480, 960, 1920, 3600, 3600]


async def test_two_that_claim_one_name_are_two(zone: Zone) -> None:
    with short_folder() as elsewhere:
        other = Zone(elsewhere, port=zone.port, group_port=zone.group_port, domain=zone.domain)
        async with zone.scheduler() as door, waiting_cell(zone) as ours, waiting_cell(other) as theirs:
            first, second = await door.waiting(2)
            assert first.peer == second.peer == CELL
            assert first.code != second.code
            mine = zone.folder_of(CELL).fingerprint
            await door.admit(first if first.fingerprint == mine else second)
            await ours
            assert not theirs.done()
            (left,) = await door.waiting()
            with pytest.raises(Conflict, match="held by another key"):
                await door.admit(left)


async def test_who_is_refused_is_told_and_not_let_in(zone: Zone) -> None:
    async with zone.scheduler() as door, waiting_cell(zone) as joining:
        (found,) = await door.waiting()
        await door.admissions.refuse(v1.ApplicantRef(fingerprint=found.fingerprint))
        await door.until(lambda: not door.book.applicants[found.fingerprint].present)
        assert not joining.done()
        assert CELL not in door.book.members


async def test_who_waits_to_be_admitted_stops_when_it_is_told_to(zone: Zone) -> None:
    async with zone.scheduler() as door:
        joining = asyncio.ensure_future(zone.join(CELL))
        await door.waiting()
        zone.stopping.set()
        async with asyncio.timeout(5):
            with pytest.raises(Cancelled, match="before cell/c1 was let into a zone"):
                await joining


async def test_only_cells_may_wait(zone: Zone) -> None:
    with heard_logs() as logs:
        async with zone.scheduler() as door, waiting_cell(zone, GATEWAY):
            await _warned(logs, "a gateway cannot wait to be let in: give it a join token")
            assert door.book.applicants == {}


async def test_the_first_authority_that_was_asked_is_the_only_one_believed(zone: Zone) -> None:
    with short_folder() as elsewhere:
        other = Zone(elsewhere, group_port=zone.group_port, domain=zone.domain)
        async with zone.scheduler() as door, waiting_cell(zone):
            await door.waiting()
        pinned = zone.application(CELL).authority
        with heard_logs() as logs:
            async with other.scheduler() as liar, waiting_cell(zone) as joining:
                await _warned(logs, "was asked first")
            assert liar.book.applicants == {}
            assert joining.cancelled()
        assert zone.application(CELL).authority == pinned


async def test_with_somebody_in_between_the_codes_differ(zone: Zone) -> None:
    """He passes on all that can be passed on and tells each side what it expects: people see two codes."""
    with short_folder() as elsewhere:
        async with (
            zone.scheduler() as door,
            somebody_between(elsewhere, door.fabric.address) as (between, at),
        ):
            discovery = Discovery(
                zone.domain, port=zone.group_port + 1, interfaces=("127.0.0.1",), peers={"scheduler": at}
            )
            async with waiting_cell(zone, discovery=discovery) as joining:
                (found,) = await door.waiting()
                note = await zone.note(CELL)
                assert found.peer == CELL
                assert found.fingerprint == fingerprint_of(between.key.public_key()) != note.fingerprint
                assert found.code != note.code
                request = v1.ApplicantRef(fingerprint=found.fingerprint, code=note.code)
                with pytest.raises(Conflict, match="somebody stands in between"):
                    await door.admissions.admit(request)
                assert not joining.done()


async def test_somebody_in_between_is_not_told_the_secret_of_a_token(zone: Zone) -> None:
    with short_folder() as elsewhere, heard_logs() as logs:
        async with (
            zone.scheduler() as door,
            somebody_between(elsewhere, door.fabric.address) as (between, at),
        ):
            text = join_token.decode(await door.token())
            token = join_token.encode(structs.replace(text, schedulers=(at,)))
            discovery = Discovery(zone.domain, port=zone.group_port + 1, interfaces=("127.0.0.1",))
            async with waiting_cell(zone, discovery=discovery, token=token) as joining:
                await _warned(logs, "its secret was not said")
                assert not joining.done()
            assert between.secrets == []


async def _warned(logs: HeardLogs, why: str, count: int = 1) -> None:
    await logs.until(lambda line: why in str(line.get("why")), PATIENCE_S, count)


async def test_where_multicast_does_not_reach_a_static_line_does(zone: Zone) -> None:
    discovery = Discovery(
        zone.domain,
        port=zone.group_port + 1,
        interfaces=("127.0.0.1",),
        peers={"scheduler": f"127.0.0.1:{zone.port}"},
    )
    async with zone.scheduler() as door, waiting_cell(zone, discovery=discovery):
        assert (await door.waiting())[0].id == "c1"


class Killed(BaseException):
    """As by kill -9: nothing that follows is done."""


async def test_killed_once_it_is_in_the_zone_it_still_knows_where_the_token_said_the_scheduler_is(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery = Discovery(zone.domain, port=zone.group_port + 1, interfaces=("127.0.0.1",))
    kept = application.write

    def killed_before_the_last(folder: Path, note: application.Application) -> None:
        if note.state == "joined":
            raise Killed
        kept(folder, note)

    async with zone.scheduler() as door:
        token = await door.token()
        with monkeypatch.context() as deadly:
            deadly.setattr(application, "write", killed_before_the_last)
            with pytest.raises(BaseExceptionGroup):
                await zone.join(CELL, token=token, discovery=discovery)
        certificate = _serial(zone, CELL)
        async with zone.joined(CELL, discovery=discovery) as (place, _):
            stub = v1.DoorStub(place.fabric.channel(Role.SCHEDULER, visit=True))
            await stub.renew(v1.RenewRequest(csr=zone.folder_of(CELL).signing_request()), timeout=5)
        assert _serial(zone, CELL) == certificate


# ------------------------------------------------------------------ renewal


def _serial(zone: Zone, peer: Peer) -> bytes:
    return (zone.identity(peer) / "certificate.pem").read_bytes()


async def test_a_certificate_is_renewed_over_the_fabric_and_no_call_is_dropped(zone: Zone) -> None:
    zone.moved = -(
        LIFETIME - RENEWED_BEFORE - timedelta(seconds=4)
    )  # OpenSSL has a calendar of its own: the past
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
    before = _serial(zone, CELL)
    zone.moved = timedelta()
    async with zone.scheduler() as door, zone.joined(CELL) as (_, ticks):
        await zone.linked(door, CELL)
        links = [link for link in door.fabric.links if link.is_up and link.peer == CELL]
        stub = v1.StepsStub(door.fabric.channel(CELL.role, CELL.id))
        stream = stub.outcomes(v1.OutcomesRequest())
        assert (await anext(stream)).task == "0"
        calls = 0
        async with asyncio.timeout(PATIENCE_S):
            while _serial(zone, CELL) == before:
                assert (await stub.ask(v1.StepRef(task=str(calls)), timeout=5)).task == str(calls)
                calls += 1
        ticks.next.set()
        assert (await anext(stream)).task == "1"
        assert [link for link in links if link.is_up] == links
        assert calls > 10
        assert zone.now_ms() - door.book.members[CELL].issued_ms < 20_000


async def test_a_server_that_was_off_for_longer_than_its_certificate_comes_back_by_its_key(
    zone: Zone,
) -> None:
    zone.moved = -(LIFETIME + timedelta(days=1))
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
    zone.moved = timedelta()
    async with zone.scheduler() as door:
        await zone.join(CELL)
        assert door.book.members[CELL].how is How.TOKEN


async def test_a_key_that_was_removed_neither_renews_nor_joins(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        token = await door.token()
        await door.remove(CELL)
        folder = zone.folder_of(CELL)
        with pytest.raises(Forbidden, match="was removed from the zone"):
            door.book.renewed(CELL, folder.fingerprint, zone.now_ms())
        digest = join_token.secret_digest(join_token.decode(token).secret)
        with pytest.raises(Forbidden, match="was removed from the zone"):
            door.book.redeem(digest, CELL, folder.fingerprint, zone.now_ms())


# ------------------------------------------------------------------ who may do what


TABLES = (
    SCHEDULER_ROLES
    | ADMISSIONS_ROLES
    | DOOR_ROLES
    | CELL_ROLES
    | IMAGESTORE_ROLES
    | ADDRESSPOOL_ROLES
    | MEMBER_ROLES
    | STEP_ROLES
)
HANDLERS: list[Any] = [
    each()
    for name, each in vars(v1).items()
    if name.endswith("Base") and isinstance(each, type) and issubclass(each, ServiceBase)
]


async def test_an_applicant_may_call_the_door_and_nothing_else(zone: Zone) -> None:
    """Each RPC that there is, with the role tables of the services, on the fabric of a scheduler."""
    async with zone.scheduler() as door:
        door.fabric.serve(HANDLERS, TABLES)
        credentials = ApplicantCredentials(
            ec.generate_private_key(ec.SECP256R1()), lambda _: None, zone.clock
        )
        answered = {}
        async with linked(door.fabric.address, credentials) as channel:
            for handler in HANDLERS:
                for method, found in handler.__mapping__().items():
                    with pytest.raises((Forbidden, Unsupported)) as refused:
                        await _call(channel, method, found)
                    answered[method] = type(refused.value)
        assert len(answered) > 30
        assert {method for method, kind in answered.items() if kind is not Forbidden} == {
            "/nano.v1.Door/Join"
        }


async def _call(channel: Channel, method: str, found: Handler) -> None:
    """Whatever kind of call it is: one message there, one back."""
    types = found.cardinality, found.request_type, found.reply_type
    async with channel.request(method, *types, timeout=5) as call:
        await call.send_message(found.request_type(), end=True)
        await call.recv_message()


async def test_no_table_opens_anything_else_to_applicants() -> None:
    assert [method for method, roles in TABLES.items() if Role.APPLICANT in roles] == ["/nano.v1.Door/Join"]


async def test_a_local_service_that_lost_its_folder_enrols_again_and_its_old_key_is_out(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(GATEWAY, enrolment=str(zone.socket))
        old = zone.folder_of(GATEWAY).fingerprint
        zone.identity(GATEWAY).rename(zone.folder / "lost")
        await zone.join(GATEWAY, enrolment=str(zone.socket))
        assert door.book.members[GATEWAY].fingerprint != old
        assert set(door.book.removals) == {old}


async def test_a_local_service_does_not_take_the_name_of_one_that_was_let_in_otherwise(zone: Zone) -> None:
    async with zone.scheduler() as door:
        await zone.join(CELL, token=await door.token())
        zone.identity(CELL).rename(zone.folder / "elsewhere")
        with pytest.raises(Conflict, match="is held by another key"):
            await zone.join(CELL, enrolment=str(zone.socket))
