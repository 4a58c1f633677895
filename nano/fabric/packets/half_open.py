"""Handshakes of others that are under way: how many there may be, and who proves its address first. No I/O.

A first packet costs its sender nothing and us milliseconds and memory, and its source may be forged. While
few handshakes are under way each one is answered. Above that the sender is sent a token, by QUIC's Retry, and
nothing of it is remembered; only one that really receives at its address can bring the token back. Above the
limit nobody gets in for the moment: who means it tries again.
"""

import collections
import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aioquic.quic.packet import QuicHeader, encode_quic_retry
from aioquic.quic.retry import QuicRetryTokenHandler

from nano.fabric.packets.address import Address

RETRY_ABOVE = 64
"""Handshakes under way, and first packets of the last second that were none, from which on proof is asked."""

LIMIT = 512
"""Handshakes under way at most: some 50 MiB."""

HANDSHAKE_S = 10.0
"""After how long a handshake that has begun is given up, by either side."""

_WASTE_MEMORY_S = 1.0
_CONNECTION_ID_BYTES = 8

Link = TypeVar("Link", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Entry:
    """A sender who may begin: what it first called us, and what our Retry told it to call us."""

    original_id: bytes
    retry_id: bytes | None = None


class HalfOpen(Generic[Link]):
    """The links of one listener that are not up yet."""

    def __init__(self) -> None:
        self._links: dict[Link, float] = {}
        self._wasted: collections.deque[float] = collections.deque(maxlen=RETRY_ABOVE)
        self._tokens = QuicRetryTokenHandler()
        self.begun = 0
        """Handshakes that ever began."""
        self.noise = 0
        """First packets that were none."""
        self.retries = 0
        """Senders that were asked to prove their address."""
        self.refused = 0
        """First packets dropped because too many handshakes were under way."""

    def __len__(self) -> int:
        return len(self._links)

    def admit(self, header: QuicHeader, address: Address, now: float) -> Entry | bytes | None:
        """What to do with a first packet: begin, send these bytes back, or (None) nothing."""
        entry = self._proven(header, address, now)
        if entry is None and len(self) + self._recently_wasted(now) >= RETRY_ABOVE:
            self.retries += 1
            return self._retry(header, address, now)
        if len(self) >= LIMIT:
            self.refused += 1
            return None
        return entry or Entry(header.destination_cid)

    def began(self, link: Link, now: float) -> None:
        self._links[link] = now
        self.begun += 1

    def done(self, link: Link) -> None:
        """It is up, or over."""
        self._links.pop(link, None)

    def wasted(self, now: float) -> None:
        """A first packet turned out to be none."""
        self._wasted.append(now)
        self.noise += 1

    def overdue(self, now: float) -> list[Link]:
        """Those that have been at it for too long; the oldest come first."""
        found = []
        for link, began in self._links.items():
            if began > now - HANDSHAKE_S:
                break
            found.append(link)
        return found

    def _recently_wasted(self, now: float) -> int:
        while self._wasted and self._wasted[0] < now - _WASTE_MEMORY_S:
            self._wasted.popleft()
        return len(self._wasted)

    def _proven(self, header: QuicHeader, address: Address, now: float) -> Entry | None:
        """The entry of a sender that brings our token back; a token of anybody else is as good as none."""
        if not header.token:
            return None
        try:
            original_id = self._tokens.validate_token(
                address=address[:2], destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            return None
        return Entry(original_id, header.destination_cid)

    def _retry(self, header: QuicHeader, address: Address, now: float) -> bytes:
        own_id = os.urandom(_CONNECTION_ID_BYTES)
        token = self._tokens.create_token(
            address=address[:2],
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=own_id,
            now=now,
        )
        return encode_quic_retry(
            version=header.version or 0,
            source_cid=own_id,
            destination_cid=header.source_cid or b"",
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
