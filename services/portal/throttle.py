"""How fast passwords and codes may be guessed. Pure, with the time handed in.

An attempt is charged before it is judged, so that many at once are no way around; success takes the charge
back. Some attempts are free; from then on each makes the next one wait twice as long. The charge fades.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from nano.model.errors import Exhausted

FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 900.0
FORGET_S = 1800.0
"""A key that made no attempt for so long starts anew."""
MOST_KEYS = 20_000
_LONGEST_NAME = 65
"""One more than a user's name may have: what is cut here is nobody's, and keys stay short."""


@dataclass(slots=True)
class _Charge:
    count: int
    at_s: float


class Throttle:
    """Charges by key: a user at an address, an address, a user from anywhere. Each key has its free
    attempts."""

    def __init__(self) -> None:
        self._charges: OrderedDict[str, _Charge] = OrderedDict()

    def attempt(self, keys: Iterable[tuple[str, int]], now_s: float) -> None:
        """Charges one attempt to each key, given with its number of free attempts.

        `Exhausted` with the time to wait when one of them has to; then nothing is charged.
        """
        keys = list(keys)
        wait_s = max((self._wait_s(key, free, now_s) for key, free in keys), default=0.0)
        if wait_s > 0:
            raise Exhausted(
                f"too many attempts failed: wait {_rounded(wait_s)} s, then try again", retry_after_s=wait_s
            )
        for key, _ in keys:
            charge = self._current(key, now_s) or _Charge(0, now_s)
            self._charges[key] = _Charge(charge.count + 1, now_s)
            self._charges.move_to_end(key)
        while len(self._charges) > MOST_KEYS:
            self._charges.popitem(last=False)

    def succeeded(self, keys: Iterable[tuple[str, int]]) -> None:
        """The last attempt was right: it and the failures before it are forgotten."""
        for key, _ in keys:
            self._charges.pop(key, None)

    def _wait_s(self, key: str, free: int, now_s: float) -> float:
        charge = self._current(key, now_s)
        over = charge.count - free if charge is not None else -1
        if charge is None or over < 0:
            return 0.0
        return charge.at_s + min(FIRST_WAIT_S * 2.0 ** min(over, 20), LONGEST_WAIT_S) - now_s

    def _current(self, key: str, now_s: float) -> _Charge | None:
        charge = self._charges.get(key)
        if charge is not None and now_s - charge.at_s >= FORGET_S:
            del self._charges[key]
            return None
        return charge


def login_keys(user: str, address: str) -> tuple[tuple[str, int], ...]:
    """What a login is charged to. The user alone has many free attempts, so that a stranger who guesses from
    elsewhere slows themselves down long before they lock the user out."""
    name, origin = user[:_LONGEST_NAME], _network(address)
    return ((f"pair {name} {origin}", 5), (f"address {origin}", 20), (f"user {name}", 200))


def code_keys(address: str) -> tuple[tuple[str, int], ...]:
    """What a first-start code is charged to."""
    return ((f"code {_network(address)}", 5), ("code", 50))


def _network(address: str) -> str:
    """What one person has many addresses of counts as one: with IPv6 that is a /64."""
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


def _rounded(seconds: float) -> int:
    return max(1, round(seconds + 0.5))
