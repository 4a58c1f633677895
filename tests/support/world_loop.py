"""What makes a world follow from its seed alone: no threads, and no randomness but the seed's."""

import asyncio
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from unittest import mock

from tests.support.virtual_time import VirtualLoop

T = TypeVar("T")

FILE_S = 0.0005
"""What one operation on files takes: a moment at which something else may happen."""


class WorldLoop(VirtualLoop):
    """Work that would be done on threads is done at once, and takes a moment."""

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            result, failure = func(*arguments), None
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits, as a thread's would be
            result, failure = cast("T", None), error
        self.call_later(FILE_S, _resolve, done, result, failure)
        return done


def _resolve(done: "asyncio.Future[T]", result: T, failure: Exception | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)


@contextmanager
def seeded_ids(seed: int) -> Iterator[None]:
    """What the operating system's randomness names is named by the seed instead."""
    chance = random.Random(seed)

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=chance.getrandbits(128), version=4)

    def token_hex(size_bytes: int = 16) -> str:
        return chance.randbytes(size_bytes).hex()

    with (
        mock.patch("uuid.uuid4", uuid4),
        mock.patch("secrets.token_hex", token_hex),
        mock.patch("secrets.token_bytes", chance.randbytes),
    ):
        yield
