"""The texts of join tokens: what a person carries from the scheduler's host to another."""

import secrets
from collections.abc import Callable, Sequence

from nano.fabric.joining import join_token
from nano.fabric.peers.multicast import own_addresses
from nano.model.membership import JoinToken
from nano.model.peers import PORTS, Role
from nano.service import FabricSettings

ANY = "0.0.0.0"  # noqa: S104 - compared with, not listened on
ADDRESSES_LIMIT = 16
"""A text holds no more; a host that has more of them says in its configuration which ones count."""


class Invitations:
    """Makes tokens for one zone."""

    def __init__(self, zone: str, addresses: Callable[[], Sequence[str]]) -> None:
        """`addresses` says where the scheduler can be dialled now, as `host:port`."""
        self._zone = zone
        self._addresses = addresses

    def new(self, role: Role, name: str, now_ms: int, expires_ms: int) -> tuple[JoinToken, bytes]:
        """A token for the book, and the secret that the book does not keep."""
        secret = secrets.token_bytes(join_token.SECRET_BYTES)
        digest = join_token.secret_digest(secret)
        return JoinToken(join_token.token_id(secret), digest, role, name, now_ms, expires_ms), secret

    def text(self, token: JoinToken, secret: bytes, trusted: Sequence[str]) -> str:
        """`trusted` are the fingerprints of the zone's authorities, whom alone the other end believes."""
        return join_token.encode(
            join_token.TokenText(
                version=1,
                zone=self._zone,
                authorities=tuple(bytes.fromhex(each) for each in trusted),
                secret=secret,
                role=token.role,
                id=token.name,
                expires_ms=token.expires_ms,
                schedulers=tuple(self._addresses())[:ADDRESSES_LIMIT],
            )
        )


def places(settings: FabricSettings, given: Sequence[str]) -> list[str]:
    """Where the scheduler can be dialled, as `host:port`: as given, as it listens, or by any address here."""
    port = settings.port or PORTS[Role.SCHEDULER]
    if given:
        return [one if ":" in one else f"{one}:{port}" for one in given]
    if settings.listen != ANY:
        return [f"{settings.listen}:{port}"]
    return [f"{one}:{port}" for one in own_addresses(settings.discovery.interfaces)]
