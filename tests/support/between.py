"""Somebody in between: a false scheduler to the one side, a false applicant to the other, each with keys of
its own."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib.const import Cardinality

from nano.applying import JOIN
from nano.contracts.nano import v1
from nano.fabric.fabric import Fabric, FabricConfig
from nano.fabric.identity.identity import key_in, spki_of
from nano.fabric.joining.applicant import ApplicantCredentials, linked
from nano.fabric.joining.enrolment import signing_request as read_request
from nano.fabric.joining.short_code import short_code
from nano.fabric.packets.address import Address
from nano.model.peers import Role
from services.scheduler.door import ROLES
from tests.support.certificates import issue, make_zone, signing_request, utc_now


class Between(v1.DoorBase):
    """Passes everything on that may be passed on, and tells each side what that side expects."""

    def __init__(self, real: Address, own_authority: x509.Certificate) -> None:
        self._real = real
        self._own_authority = own_authority
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secrets: list[bytes] = []

    async def join(self, messages: AsyncIterator[v1.JoinMessage]) -> AsyncIterator[v1.JoinReply]:
        asked = (await anext(messages)).application
        assert asked is not None
        self.secrets.append(asked.token_secret)
        victim = spki_of(key_in(read_request(asked.csr)))
        csr = signing_request(self.key).public_bytes(serialization.Encoding.PEM).decode()
        forged = v1.Application(role=asked.role, id=asked.id, csr=csr, commitment=asked.commitment)
        credentials = ApplicantCredentials(self.key, lambda _: None, utc_now)
        async with linked(self._real, credentials) as channel:
            call = channel.request(JOIN, Cardinality.STREAM_STREAM, v1.JoinMessage, v1.JoinReply)
            async with call:
                await call.send_message(v1.JoinMessage(application=forged))
                challenge = (await _reply(call)).challenge
                assert challenge is not None
                yield v1.JoinReply(challenge=challenge)
                nonce = (await anext(messages)).nonce
                assert nonce is not None
                await call.send_message(v1.JoinMessage(nonce=nonce))
                await _reply(call)  # the code that the real scheduler shows
                authority = self._own_authority.public_bytes(serialization.Encoding.DER)
                yield v1.JoinReply(code=short_code(victim, authority, nonce, challenge))
                await _reply(call)


async def _reply(call: object) -> v1.JoinReply:
    reply = await call.recv_message()  # type: ignore[attr-defined]
    assert isinstance(reply, v1.JoinReply)
    return reply


@contextlib.asynccontextmanager
async def somebody_between(folder: Path, real: Address) -> AsyncIterator[tuple[Between, str]]:
    """Who listens at the address that is given as text, and dials `real`."""
    authority = make_zone(folder)
    own = issue(authority, Role.SCHEDULER, "main")
    config = FabricConfig(host="127.0.0.1", multicast=False)
    between = Between(real, authority.certificate)
    async with Fabric.join(config, own) as fabric:
        fabric.serve([between], ROLES)
        fabric.admit_applicants()
        yield between, "{}:{}".format(*fabric.address)
