"""How a service on the scheduler's own host gets its certificate: by a UNIX socket of that host.

Root and the scheduler's own user may enrol as any role; another user only as the one role that the
scheduler's configuration gives to him (docs/decisions/0013).

One connection, one line of JSON each way. The client sends role, id and a signing request; the scheduler
answers with the certificate and whom the zone trusts, or with an error that names the field. Who gets a
certificate is a member of the zone, durably so before the answer leaves.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from nano.fabric.identity.authority import Authority, pem_of
from nano.fabric.identity.folder import IdentityFolder
from nano.fabric.identity.identity import Identity, fingerprint_of, key_in
from nano.fabric.identity.renewal import Renewal
from nano.fabric.identity.trust import ZoneTrust
from nano.fabric.joining.local_socket import check_path, listen, read_line
from nano.local_users import is_trusted, other_uid, uid_of, user_text
from nano.model import names
from nano.model.errors import (
    Cancelled,
    Corrupt,
    Forbidden,
    Invalid,
    NanoError,
    Stale,
    Unreachable,
    Untrusted,
    from_code,
)
from nano.model.peers import Peer, Role

Clock = Callable[[], datetime]

ENROLLED = frozenset({Role.SCHEDULER, Role.IMAGESTORE, Role.ADDRESSPOOL, Role.GATEWAY, Role.CELL})
"""The services that may live beside the scheduler; an administrator admits a server elsewhere instead."""

PATIENCE_S = 5.0
"""How long either end waits for the other within a connection: on one host answers take milliseconds."""

_FIRST_PAUSE_S = 0.05
_STARTING_PAUSE_S = 1.0  # the longest a service waits in vain after the scheduler is there
_RUNNING_PAUSE_S = 30.0  # nothing hurries while the certificate in hand is valid
_AT_ONCE = 16
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FIELD = re.compile(r"(?:at `\$\.|field `)(\w+)")  # where msgspec says what it did not like


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a service asks for; `csr` is a signing request in PEM, of which only the key is used."""

    role: str
    id: str
    csr: str


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """The certificate in PEM, and whom the zone trusts."""

    certificate: str
    trust: ZoneTrust


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """A NanoError on its way; `field` names the member of the request that is wrong, if one is."""

    code: str
    message: str
    field: str = ""


_ANSWER: msgspec.json.Decoder[Grant | Refusal] = msgspec.json.Decoder(Grant | Refusal)


@dataclass(frozen=True, slots=True)
class Admission:
    """Which users of this host may enrol, beside root and the scheduler's own."""

    users: Mapping[Role, str] = field(default_factory=dict)
    """The one user who may enrol as each role."""
    group: str = ""
    """The group that may open the socket; none: nobody else may."""

    def check(self, uid: int, role: Role) -> None:
        """`Forbidden` names user and role, and what to set."""
        if is_trusted(uid, self.users.get(role, "")):
            return
        owner = f"it is for {self.users[role]}" if role in self.users else "no user is set for it"
        raise Forbidden(
            f"{user_text(uid)} may not enrol as {role}: {owner} in [enrolment.users] of the scheduler's "
            "configuration",
            field="role",
        )

    def knows(self, uid: int) -> bool:
        """Whether `uid` may enrol as anything."""
        return is_trusted(uid) or uid in {uid_of(user) for user in self.users.values()}


class Members(Protocol):
    """The book of who is in the zone, as far as enrolment needs it."""

    def enrolled(self, peer: Peer, fingerprint: str) -> None:
        """A service of this host is let in with the key of that fingerprint; raises when it may not be."""

    def trust(self) -> ZoneTrust:
        """Whom the zone trusts now."""

    async def durable(self) -> None:
        """Returns when all that was said before is on the disk."""


class NoBook:
    """For a zone that keeps no members: everybody may enrol, nobody is ever shut out."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def enrolled(self, peer: Peer, fingerprint: str) -> None:
        """Nothing is remembered."""

    def trust(self) -> ZoneTrust:
        return ZoneTrust(self._authority.zone.id, 0, self._authority.pems)

    async def durable(self) -> None:
        """There is nothing to wait for."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def decode_request(line: bytes) -> Request:
    """The request in a line; `Invalid` names the field that is wrong."""
    try:
        return msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # msgspec lets the latter through
        found = _FIELD.search(str(error))
        field = found[1] if found else "request"
        raise Invalid(field, f"the enrolment request cannot be read: {error}") from error


def answer(
    authority: Authority, members: Members, line: bytes, now: datetime, *, uid: int, admission: Admission
) -> bytes:
    """The line that answers `line`, said by `uid`; whatever is in it, an answer comes back.

    It may leave once `members` are durable.
    """
    try:
        request = decode_request(line)
        peer = _peer_of(request)
        admission.check(uid, peer.role)
        csr = signing_request(request.csr)
        certificate = authority.issue(csr, peer, now)
        members.enrolled(peer, fingerprint_of(key_in(csr)))
    except NanoError as error:
        structlog.get_logger().warning("enrolment.refused", uid=uid, field=error.field, error=error.message)
        return msgspec.json.encode(Refusal(error.code, error.message, error.field)) + b"\n"
    structlog.get_logger().info(
        "enrolment.granted", peer=str(peer), until=str(certificate.not_valid_after_utc)
    )
    return msgspec.json.encode(Grant(pem_of(certificate), members.trust())) + b"\n"


class EnrolmentServer:
    """Lets in the services of this host for as long as its context is open."""

    def __init__(
        self,
        authority: Authority,
        socket_path: Path,
        clock: Clock = utc_now,
        admission: Admission | None = None,
        members: Members | None = None,
    ) -> None:
        self._authority = authority
        self._members: Members = members or NoBook(authority)
        self._path = socket_path
        self._clock = clock
        self._admission = admission or Admission()
        self._jobs = asyncio.TaskGroup()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        self._listener = listen(self._path, field="enrolment", group=self._admission.group)
        self._inode = self._path.stat().st_ino
        await self._jobs.__aenter__()
        self._accepting = self._jobs.create_task(self._accept(), name="enrolment")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accepting.cancel()
        try:
            if kind is asyncio.CancelledError:  # perhaps by the group itself, because a job failed
                await self._jobs.__aexit__(kind, error, trace)
            else:
                await self._jobs.__aexit__(None, None, None)
        finally:
            self._listener.close()
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:  # a successor may have put its own there
                    self._path.unlink()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                self._room.release()
                structlog.get_logger().warning("enrolment.waits", error=str(error))
                await asyncio.sleep(1.0)  # descriptors come back when others close theirs
                continue
            self._jobs.create_task(self._serve(connection), name="enrolment request")

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            with connection, contextlib.suppress(TimeoutError, OSError):  # a client that left asks again
                async with asyncio.timeout(PATIENCE_S):
                    await loop.sock_sendall(connection, await self._answer(connection))
        finally:
            self._room.release()

    async def _answer(self, connection: socket.socket) -> bytes:
        connection.setblocking(False)
        line = await read_line(connection)  # also a stranger's: closed over unread bytes, the answer is lost
        uid = other_uid(connection)
        if not self._admission.knows(uid):
            structlog.get_logger().warning("enrolment.stranger", uid=uid)
            refusal = Refusal(
                Forbidden.code,
                f"{user_text(uid)} may not enrol: run the service as root, or name its user in "
                "[enrolment.users] of the scheduler's configuration",
            )
            return msgspec.json.encode(refusal) + b"\n"
        said = answer(self._authority, self._members, line, self._clock(), uid=uid, admission=self._admission)
        await self._members.durable()
        return said


async def enrol(
    socket_path: Path,
    role: Role,
    id: str,  # noqa: A002 - the word of Identity
    folder: Path,
    *,
    scheduler_user: str = "",
    clock: Clock = utc_now,
    stopping: asyncio.Event | None = None,
) -> Identity:
    """The identity kept in `folder`, fresh from the scheduler if that is there now, else as it was.

    `scheduler_user` may listen on the socket as well as root and our own user. With nothing valid in the
    folder it waits for the scheduler, in whatever order the services start; `Cancelled` once `stopping` is
    set. `Forbidden`, `Invalid`, `Untrusted`: the scheduler refused, or is a stranger.
    """
    client = _Client(socket_path, Peer(role, names.plain("id", id)), folder, scheduler_user)
    kept = client.folder.kept(clock())
    if kept is None:
        grant = await client.ask_until_answered(_STARTING_PAUSE_S, stopping or asyncio.Event())
        return client.keep(grant, clock())
    try:
        return client.keep(await client.ask(), clock())
    except Unreachable:
        structlog.get_logger().info("enrolment.kept", peer=str(kept.peer), zone=kept.zone)
        return kept


async def renewals(
    socket_path: Path,
    identity: Identity,
    *,
    scheduler_user: str = "",
    clock: Clock = utc_now,
    renewal: Renewal | None = None,
) -> AsyncIterator[Identity]:
    """Yields `identity` again with a new certificate, each time that its `renewal` is due.

    Key and files keep their names. `Stale` when the scheduler is of another zone than the identity, which is
    looked at once at the start and at each renewal: the zone was made anew; start again to enrol in that.
    """
    client = _Client(socket_path, identity.peer, identity.certificate_file.parent, scheduler_user)
    renewal = renewal or Renewal(client.folder, clock)
    never = asyncio.Event()
    while True:
        grant = await client.ask_until_answered(_RUNNING_PAUSE_S, never)
        if grant.trust.zone != identity.zone:
            raise Stale(
                f"the scheduler here is of zone {grant.trust.zone}, {identity.peer} of {identity.zone}: the "
                "zone was made anew; start the service again",
                subject=str(identity.peer),
            )
        if renewal.is_due:
            identity = client.keep(grant, clock())
            structlog.get_logger().info("identity.renewed", peer=str(identity.peer))
            yield identity
        await renewal.due()


class _Client:
    """One service's side of enrolment: its folder, and its questions to the scheduler."""

    def __init__(self, socket_path: Path, peer: Peer, folder: Path, scheduler_user: str) -> None:
        self._path = socket_path
        self._scheduler_user = scheduler_user
        self._peer = peer
        self.folder = IdentityFolder(folder, peer)

    def keep(self, grant: Grant, now: datetime) -> Identity:
        return self.folder.keep(grant.certificate, grant.trust, now)

    async def ask_until_answered(self, longest_pause_s: float, stopping: asyncio.Event) -> Grant:
        """Asks until the scheduler is there; says so once in the log; `Cancelled` when `stopping` is set."""
        pause_s = 0.0
        while True:
            try:
                return await self.ask()
            except Unreachable as error:
                if not pause_s:
                    structlog.get_logger().info("enrolment.waits", peer=str(self._peer), why=error.message)
            pause_s = min(max(_FIRST_PAUSE_S, pause_s * 2), longest_pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_s)
            if stopping.is_set():
                raise Cancelled(f"stopped before {self._peer} was enrolled", subject=str(self._peer))

    async def ask(self) -> Grant:
        """One question, one answer. `Unreachable`: nobody answers now; else the error of the refusal."""
        check_path(self._path, field="enrolment")
        loop = asyncio.get_running_loop()
        line = (
            msgspec.json.encode(Request(self._peer.role, self._peer.id, self.folder.signing_request()))
            + b"\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await loop.sock_connect(connection, os.fspath(self._path))
                    if not is_trusted(uid := other_uid(connection), self._scheduler_user):
                        raise Untrusted(
                            f"{self._path} is served by a stranger, {user_text(uid)}: look who made it, or "
                            "name the scheduler's user as fabric.enrolment_user"
                        )
                    await loop.sock_sendall(connection, line)
                    said = await read_line(connection)
            except PermissionError as error:
                raise Forbidden(
                    f"{self._path} may not be opened: run the service as root, or put its user into the "
                    "scheduler's enrolment group"
                ) from error
            except (OSError, TimeoutError) as error:
                raise Unreachable(f"no scheduler answers at {self._path}: {error or 'too slow'}") from error
        return _granted(said)


def _peer_of(request: Request) -> Peer:
    if request.role not in ENROLLED:
        roles = ", ".join(sorted(ENROLLED))
        raise Invalid("role", f"role is {request.role[:64]!r}: enrolled here are {roles}")
    return Peer(Role(request.role), names.plain("id", request.id))


def signing_request(pem: str) -> x509.CertificateSigningRequest:
    """The signing request in `pem`; `Invalid` for `csr` when there is none."""
    try:
        return x509.load_pem_x509_csr(pem.encode())
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid("csr", f"csr is no signing request in PEM: {error}") from error


def _granted(line: bytes) -> Grant:
    if not line.endswith(b"\n"):
        raise Unreachable("the scheduler went away within its answer")
    try:
        said = _ANSWER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"the scheduler's answer cannot be read: {error}; are both of one version?") from error
    if isinstance(said, Refusal):
        raise from_code(said.code, said.message, field=said.field)
    return said
