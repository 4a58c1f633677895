"""How large a packet may be on the way to a peer: found by trying (RFC 8899), forgotten when it stops being
true.

A connection begins with what every path carries. Once it has sent enough to be worth it, one packet of
padding of the next size is sent; an acknowledgement proves the size, and a few losses disprove it for a
while. When full packets stop arriving while small ones do, the path has changed under us (a black hole, RFC
8899, 4.3): back to the beginning.

No packets and no clock here: what is sent, what became of it and the time come in, the size to use comes out.
"""

from dataclasses import dataclass, field

BASE_BYTES = 1200
"""UDP payload that every path of QUIC carries (RFC 9000, 14.1)."""

LADDER = (1452, 2952, 4352, 8952, 16_000)
"""Payloads worth a try: what fits an Ethernet of 1500 below IPv6 and its tunnels, of 3000 (some overlays),
FDDI's size (some clouds'), 9000, and a loopback. aioquic's 14-bit length field ends at 16 383."""

WORTH_BYTES = 48 * 1024
"""What a connection sends before anything is tried: one of few small calls needs no larger packets."""

_TRIES = 3
"""Losses of one size in a row that disprove it: a lossy path loses some that it could carry."""

_SOON_S, _AGAIN_S = 10.0, 600.0
"""After how long a disproved size is tried anew: soon, since a path that reorders much looks like one that
loses, then each time after twice as long, up to what RFC 8899 says (5.1.1: PMTU_RAISE_TIMER)."""

_HOLE_LOSSES = 6
"""Full packets lost in a row, with none arriving between, that may mean a black hole."""

_HOLE_PROBE_TIMEOUTS = 3.0
"""... if they go on for so many probe timeouts: a queue that overflows loses many at once, and then none."""


@dataclass(slots=True)
class PathMtu:
    """The search on one path. `packet_bytes` is the UDP payload to use now."""

    packet_bytes: int = BASE_BYTES
    base_bytes: int = BASE_BYTES
    _sent_bytes: int = 0
    _trying: int | None = None
    _losses: int = 0
    _wait_until: float = 0.0
    _pause_s: float = _SOON_S
    _lost_in_row: int = field(default=0)
    _arrived_at: float = 0.0

    @classmethod
    def beginning(cls, base_bytes: int) -> "PathMtu":
        """A search that starts from a size which the path is known to carry."""
        return cls(packet_bytes=base_bytes, base_bytes=min(base_bytes, BASE_BYTES))

    def sent(self, size_bytes: int) -> None:
        """So much was sent."""
        self._sent_bytes += size_bytes

    def probe(self, now: float) -> int | None:
        """The size of a probe that should go out now, if any. It is on its way until its fate is told."""
        if not self.is_due(now):
            return None
        self._trying = next(size for size in LADDER if size > self.packet_bytes)
        return self._trying

    def is_due(self, now: float) -> bool:
        """Whether `probe` would give one."""
        is_worth_it = self._sent_bytes >= WORTH_BYTES and self.packet_bytes < LADDER[-1]
        return is_worth_it and self._trying is None and now >= self._wait_until

    def probe_arrived(self, size_bytes: int, now: float) -> None:
        """The peer has acknowledged a probe."""
        self._trying = None
        self._losses = 0
        self._lost_in_row = 0
        self._arrived_at = now
        self._pause_s = _SOON_S
        self.packet_bytes = max(self.packet_bytes, size_bytes)

    def probe_lost(self, now: float) -> None:
        """A probe is lost: the path may have been busy, so it is believed only when it happens again."""
        self._trying = None
        self._losses += 1
        if self._losses >= _TRIES:
            self._losses = 0
            self._pause(now)

    def full_arrived(self, now: float) -> None:
        """A packet of the size in use was acknowledged."""
        self._lost_in_row = 0
        self._arrived_at = now

    def full_lost(self, now: float, probe_timeout_s: float) -> bool:
        """One is lost; whether the size had to be given up."""
        if self.packet_bytes <= self.base_bytes:
            return False
        self._lost_in_row += 1
        silent_s = now - self._arrived_at
        if self._lost_in_row < _HOLE_LOSSES or silent_s < _HOLE_PROBE_TIMEOUTS * probe_timeout_s:
            return False
        self.fall_back(now)
        return True

    def fall_back(self, now: float) -> None:
        """The size in use does not arrive any more: begin again, but not at once."""
        self.packet_bytes = self.base_bytes
        self._lost_in_row = self._losses = 0
        self._trying = None
        self._pause(now)

    def _pause(self, now: float) -> None:
        self._wait_until = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _AGAIN_S)

    def moved(self) -> None:
        """Another path is in use: nothing is known of it."""
        self.packet_bytes = self.base_bytes
        self._lost_in_row = self._losses = 0
        self._trying = None
        self._wait_until = 0.0
        self._pause_s = _SOON_S
