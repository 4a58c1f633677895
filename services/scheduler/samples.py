"""The newest samples of cells and instances: heard by datagram, handed on in batches, kept nowhere."""

import asyncio
from collections.abc import AsyncIterator

from nano.model.pool import Usage


class Samples:
    """Late and lost ones do not matter: whoever follows gets the newest of what came since it last looked."""

    def __init__(self, newest: dict[str, Usage]) -> None:
        """`newest` is where placement looks them up."""
        self._newest = newest
        self._followers: set[_Follower] = set()

    def heard(self, samples: list[Usage]) -> None:
        for sample in samples:
            known = self._newest.get(sample.subject)
            if known is None or known.at_ms < sample.at_ms:
                self._newest[sample.subject] = sample
                for follower in self._followers:
                    follower.pending[sample.subject] = sample
                    follower.news.set()

    def forget(self, subject: str) -> None:
        """It is gone: its last sample says nothing any more."""
        self._newest.pop(subject, None)

    async def follow(self) -> AsyncIterator[list[Usage]]:
        """Batches of one moment each, beginning with what is known."""
        follower = _Follower(dict(self._newest))
        self._followers.add(follower)
        try:
            while True:
                batch, follower.pending = follower.pending, {}
                follower.news.clear()
                moments = sorted({sample.at_ms for sample in batch.values()})
                for moment in moments:
                    yield [sample for sample in batch.values() if sample.at_ms == moment]
                if not follower.pending:
                    await follower.news.wait()
        finally:
            self._followers.discard(follower)


class _Follower:
    """Bounded by the number of subjects: a newer sample takes the place of an older one."""

    def __init__(self, pending: dict[str, Usage]) -> None:
        self.pending = pending
        self.news = asyncio.Event()
