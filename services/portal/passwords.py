"""Passwords: what is good enough, and how one is kept (argon2id, RFC 9106)."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from nano.model.errors import Exhausted, Invalid

T = TypeVar("T")

SHORTEST = 8
LONGEST = 1024
_WAITING = 32
"""Passwords that may wait to be judged: each takes a core for some 20 ms and 19 MiB for as long."""


def check_policy(field: str, password: str) -> None:
    """At least 8 characters with a digit, a lower and an upper case letter (REST document, section 9.4)."""
    missing = [
        what
        for what, is_there in (
            (f"{SHORTEST} characters", len(password) >= SHORTEST),
            ("a digit", any(each.isdigit() for each in password)),
            ("a lower case letter", any(each.islower() for each in password)),
            ("an upper case letter", any(each.isupper() for each in password)),
        )
        if not is_there
    ]
    if missing:
        raise Invalid(field, f"the password is too weak: it needs {', '.join(missing)}")
    if len(password) > LONGEST:
        raise Invalid(field, f"the password is longer than {LONGEST} characters")


class Passwords:
    """Hashes and judges on one thread of its own: the loop goes on, and memory stays bounded."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._crew = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._waiting = 0
        self._nobody = self._hasher.hash("nobody's password")

    async def secret(self, password: str) -> str:
        """What is kept of a password."""
        return await self._on_thread(partial(self._hasher.hash, password))

    async def fits(self, password: str, secret: str | None) -> bool:
        """Whether it is the password behind `secret`; without one it takes as long and is not."""
        return await self._on_thread(partial(self._fits, password, secret))

    def _fits(self, password: str, secret: str | None) -> bool:
        try:
            return self._hasher.verify(secret or self._nobody, password) and secret is not None
        except (VerificationError, InvalidHashError):
            return False

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise Exhausted("too many people log in at once: try again in a moment", retry_after_s=1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._crew, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._crew.shutdown(wait=False, cancel_futures=True)
