"""How a service takes its place on the fabric: it is let in, joins, hears whom to trust, keeps its
certificate fresh.

    fabric = await up.enter_async_context(joined(config.fabric, Role.ADDRESSPOOL, config.id, folder,
    stopping)) fabric.serve([AddressPoolsRpc(shelf), StepsRpc(callee)], ROLES | STEP_ROLES)

On the scheduler's host it enrols over a socket of that host, at each start. Elsewhere (`enrolment = ""`) it
is let in once, by a join token or by an administrator, and renews over the fabric; whoever starts first
waits for the other. A token that is new to a member is tried once: its membership may be over without its
knowledge. How it stands is written down for people (`fabric/joining/standing.py`).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from nano.applying import Applicant
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.identity.identity import Identity, Removed
from nano.fabric.identity.renewal import SPREAD_S, Renewal
from nano.fabric.joining import application
from nano.fabric.joining.enrolment import enrol, renewals, utc_now
from nano.fabric.joining.join_token import TokenText, decode
from nano.fabric.joining.schedulers import Schedulers
from nano.fabric.joining.standing import Note, State
from nano.fabric.packets.address import Address
from nano.fabric.peers.addresses import static_addresses
from nano.fabric.peers.multicast import Group
from nano.member import MEMBER_ROLES, Member, MemberRpc, zone_trust
from nano.model import names
from nano.model.errors import Cancelled, Invalid, NanoError
from nano.model.peers import PORTS, Peer, Role
from nano.outlook import Outlook
from nano.service import FabricSettings, waiting
from nano.waits import first_of

RENEW_S = 10.0
"""How long the scheduler may take to answer a renewal."""

AGAIN_S = 15.0
"""How long a member that has a new token tries it by its own key before it goes on as the member that it was.
One that was removed, and has made another key, takes the time that it takes: that key may be let in by now.
"""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0  # a day is left when a certificate is renewed

_log = structlog.get_logger("nano.joining")


@dataclass(frozen=True, slots=True)
class Place:
    """A process's place in its zone."""

    fabric: Fabric
    member: Member


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
    async with placed(settings, Peer(role, names.plain("id", id)), folder, stopping) as place:
        yield place.fabric


@asynccontextmanager
async def placed(
    settings: FabricSettings,
    peer: Peer,
    folder: Path,
    stopping: asyncio.Event,
    *,
    clock: Callable[[], datetime] = utc_now,
    spread_s: float = SPREAD_S,
) -> AsyncIterator[Place]:
    """As `joined`, with what the scheduler needs of its own place. `spread_s`: see `renewal.py`."""
    note = Note(folder, lambda: int(clock().timestamp() * 1000))
    way = _Way(settings, peer, IdentityFolder(folder, peer), clock, note)
    identity = await way.in_(stopping)
    renewal = Renewal(way.folder, clock, spread_s=spread_s)
    config = fabric_config(settings, peer.role, way.last_scheduler())
    async with Fabric.join(config, identity, clock=clock) as fabric, asyncio.TaskGroup() as jobs:
        outlook = None if settings.enrolment else Outlook(fabric, way.folder, way.note)
        member = Member(fabric, way.folder, identity, renewal, outlook)
        if peer.role is not Role.SCHEDULER:
            fabric.serve([MemberRpc(member, identity.zone)], MEMBER_ROLES)
        for_ever = [jobs.create_task(way.keep(member, identity, renewal, stopping), name="renewals")]
        if outlook is not None:
            for_ever.append(jobs.create_task(outlook.run(), name="outlook"))
        yield Place(fabric, member)
        for each in for_ever:
            each.cancel()


@dataclass(frozen=True, slots=True)
class _Way:
    """How one service gets its certificates."""

    settings: FabricSettings
    peer: Peer
    folder: IdentityFolder
    clock: Callable[[], datetime]
    note: Note

    async def in_(self, stopping: asyncio.Event) -> Identity:
        """Its identity, kept or new."""
        settings = self.settings
        if settings.enrolment:
            if settings.token or settings.token_file:
                raise Invalid(
                    "fabric.token",
                    'a join token is for a host without a scheduler: set fabric.enrolment = "" as well',
                )
            socket = Path(settings.enrolment)
            with waiting(f"the scheduler's enrolment socket {socket}"):
                return await enrol(
                    socket,
                    self.peer.role,
                    self.peer.id,
                    self.folder.path,
                    scheduler_user=settings.enrolment_user,
                    clock=self.clock,
                    stopping=stopping,
                )
        kept = self.folder.kept(self.clock())
        if kept is not None and (token := self._new_token()) is None:
            return kept
        with waiting(f"a scheduler that lets {self.peer} in"):
            known = self.note.kept
            if kept is not None:  # one that is a member, as far as it knows, waits for nobody
                within_s = None if known is not None and known.is_over else AGAIN_S
                return await self._let_in_or_as_before(token, stopping, within_s)
            if known is not None and known.state is State.REMOVED:  # an old token lets no new key in
                return await self._let_in_or_as_before(self._new_token(), stopping)
            self.note.says(State.ASKS)
            return await self._let_in_or_as_before(self._of_its_zone(_token(settings)), stopping)

    def _new_token(self) -> TokenText | None:
        """The token that this member has never used; None when there is no such."""
        try:
            token = _token(self.settings)
        except Invalid as error:
            _log.warning("token.passed_over", why=error.message)
            return None
        known = self.note.kept
        is_used = known is not None and token is not None and known.token == token.name
        return None if is_used else self._of_its_zone(token)

    def _of_its_zone(self, token: TokenText | None) -> TokenText | None:
        """The token, unless it is of another zone than the folder: nobody leaves a zone by a line of its
        configuration, after the end of its certificate neither. Who was removed is in none."""
        known, zone = self.note.kept, self.folder.zone
        is_out = self.folder.has_former_key or (known is not None and known.state is State.REMOVED)
        if token is None or token.zone == zone or not zone or is_out:
            return token
        _log.warning(
            "token.passed_over",
            why=f"{token} is of zone {token.zone}, this server is in zone {zone}: to change to that one, run "
            "nanoctl join --start-over with the token",
        )
        return None

    async def _let_in_or_as_before(
        self, token: TokenText | None, stopping: asyncio.Event, within_s: float | None = None
    ) -> Identity:
        """Who has a certificate goes on with it when its token is refused, or nobody has answered `within_s`:
        who was removed still looks after its guests. Whoever has none has to be let in."""
        try:
            return await self._by_either_key(stopping, token, within_s)
        except Cancelled:
            raise
        except (NanoError, TimeoutError) as error:
            kept = self.folder.kept(self.clock())
            if kept is None:
                raise
            _log.warning("token.not_used", token=str(token), why=str(error) or "no scheduler has answered")
            return kept

    async def _by_either_key(
        self, stopping: asyncio.Event, token: TokenText | None, within_s: float | None = None
    ) -> Identity:
        """A removal is of a key (docs/decisions/0016): with a token another one is made, and the same name is
        asked for. Without one the key stays, so that whoever removed it by mistake finds it again.

        `TimeoutError` after `within_s` with the key that it has. The other one is the folder's, and asks
        again at the next start, until a scheduler has said yes or no to it.
        """
        self._applicant(token).check_token()
        known = self.note.kept
        if token is None or known is None or known.state is not State.REMOVED:
            try:
                async with asyncio.timeout(within_s):
                    return await self._let_in(stopping, token)
            except Removed:  # raised with a token only, said by a scheduler of an authority that it names
                pass
        _log.warning("identity.key_is_removed", peer=str(self.peer), next="it asks with another key")
        self.folder.another_key()
        self.note.says(State.ASKS)
        return await self._let_in(stopping, token)

    async def _let_in(self, stopping: asyncio.Event, token: TokenText | None) -> Identity:
        async with self._schedulers(token) as schedulers:
            return await self._applicant(token).until_let_in(schedulers, stopping)

    def _applicant(self, token: TokenText | None) -> Applicant:
        return Applicant(self.peer, self.folder, token, self.clock, self.note)

    def _schedulers(self, token: TokenText | None) -> Schedulers:
        discovery = self.settings.discovery
        told = [address for peer, address in static_addresses(discovery.peers).items() if _is_scheduler(peer)]
        if token is not None:
            told += [_address(each) for each in token.schedulers]
        last = application.read(self.folder.path)
        if last is not None:
            told.append(_address(last.scheduler))
        group = Group(discovery.group, discovery.port, discovery.interfaces)
        return Schedulers(
            told,
            group,
            domain=discovery.domain,
            fingerprint=self.folder.fingerprint,
            zone="" if token is None else token.zone,
        )

    def last_scheduler(self) -> dict[str, str]:
        """Where the scheduler was that let us in, as a line of static addresses; none on its own host."""
        found = None if self.settings.enrolment else application.read(self.folder.path)
        return {} if found is None else {f"{Role.SCHEDULER}/{found.scheduler_id}": found.scheduler}

    async def keep(
        self, member: Member, identity: Identity, renewal: Renewal, stopping: asyncio.Event
    ) -> None:
        """Renew for as long as the service runs. No link that is up is touched."""
        fabric = member.fabric
        if self.settings.enrolment:
            fresh = renewals(
                Path(self.settings.enrolment),
                identity,
                scheduler_user=self.settings.enrolment_user,
                clock=self.clock,
                renewal=renewal,
            )
            async for renewed in fresh:
                fabric.renewed(renewed)
            return
        outlook = member.outlook
        assert outlook is not None  # noqa: S101 - whoever has no socket of the scheduler's has one
        while True:
            await first_of(renewal.due(), outlook.left_behind.wait())
            await self._renew(fabric, identity, outlook, stopping)
            fabric.renewed(identity)

    async def _renew(
        self, fabric: Fabric, identity: Identity, outlook: Outlook, stopping: asyncio.Event
    ) -> None:
        """Ask the scheduler until it answers; one whose certificate has ended, or is of an authority that the
        zone has given up meanwhile, asks as who it was before: its key is still the member's."""
        door = v1.DoorStub(fabric.channel(Role.SCHEDULER, visit=True))
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if self.folder.kept(self.clock()) is None or outlook.left_behind.is_set():
                    await self._let_in(stopping, None)
                    outlook.left_behind.clear()
                    return
                request = v1.RenewRequest(csr=self.folder.signing_request())
                grant = await door.renew(request, timeout=RENEW_S)
                trust = zone_trust(grant.trust, identity.zone)
                self.folder.keep(grant.certificate, trust, self.clock())
            except NanoError as error:
                _log.warning("identity.not_renewed", peer=str(self.peer), why=error.message)
            else:
                _log.info("identity.renewed", peer=str(self.peer))
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _token(settings: FabricSettings) -> TokenText | None:
    """What the configuration has; `Invalid` when it cannot be used, so that nothing is begun with it."""
    token = _token_text(settings)
    for each in () if token is None else token.schedulers:
        _address(each)
    return token


def _token_text(settings: FabricSettings) -> TokenText | None:
    if settings.token:
        return decode(settings.token, field="fabric.token")
    if not settings.token_file:
        return None
    path = Path(settings.token_file)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("fabric.token_file", f"the join token in {path} cannot be read: {error}") from error
    return decode(text, field="fabric.token_file") if text.strip() else None


def _is_scheduler(peer: Peer) -> bool:
    return peer.role is Role.SCHEDULER


def _address(text: str) -> Address:
    with contextlib.suppress(Invalid):
        return static_addresses({str(Role.SCHEDULER): text})[Peer(Role.SCHEDULER, "main")]
    raise Invalid("fabric.token", f"the token says that a scheduler is at {text!r:.80}: make a new one")


def fabric_config(
    settings: FabricSettings, role: Role, scheduler: dict[str, str] | None = None
) -> FabricConfig:
    """The words of a service's configuration in those of the fabric; a static line of its own comes first."""
    discovery = settings.discovery
    return FabricConfig(
        host=settings.listen,
        port=settings.port or PORTS[role],
        domain=discovery.domain,
        group=discovery.group,
        group_port=discovery.port,
        interfaces=discovery.interfaces,
        peers=(scheduler or {}) | discovery.peers,
    )
