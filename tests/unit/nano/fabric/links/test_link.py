"""Whose word the end of a link is: without a socket, so that each datagram comes when the test says."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from nano.fabric.http3.stream import Headers, Stream
from nano.fabric.identity.credentials import Credentials
from nano.fabric.identity.identity import Usage
from nano.fabric.links.link import Link
from nano.fabric.links.liveness import Pace, Patience
from nano.fabric.links.sparing import Sparing
from nano.fabric.links.verdict import Verdict
from nano.fabric.packets.quic import Connection, Windows
from nano.fabric.packets.udp import Datagram, Train
from nano.model.errors import NanoError, Untrusted
from nano.model.peers import Role
from tests.support.certificates import issue, make_zone, utc_now
from tests.support.quic_pairs import CLIENT, SERVER, Pair
from tests.support.strangers import forged_close


class _Member:
    """A cell that dials its scheduler over a wire on which the test lays each datagram."""

    def __init__(self, folder: Path) -> None:
        zone = make_zone(folder)
        identities = issue(zone, Role.SCHEDULER, "main"), issue(zone, Role.CELL, "c1")
        pair = Pair(identities, Windows(), 1200)
        self.scheduler: Connection = pair.server
        self._loop = asyncio.get_running_loop()
        self._said: list[bytes] = []
        pair.client.connect(SERVER, now=self._loop.time())
        own = Credentials.load(identities[1], utc_now)
        self.link = Link(
            pair.client,
            self,
            send=self._send,
            verify=lambda shown: own.verify(shown, Usage.SERVER, Role.SCHEDULER, "main"),
            patience=Patience(),
            pace=Pace(),
            sparing=Sparing(),
        )
        self.link.flush()
        self.first = self._said[0]

    def answer(self) -> list[bytes]:
        """The scheduler takes in what the cell has said, and speaks."""
        said, self._said = self._said, []
        for each in said:
            self.scheduler.take(each, CLIENT, self._loop.time())
        return [data for data, _ in self.scheduler.datagrams_to_send(now=self._loop.time())]

    def hears(self, datagrams: Iterable[bytes]) -> None:
        """All of it at once, and acts on it after that."""
        for each in datagrams:
            self.link.receive(Train(each, len(each), SERVER))
        self.link.drained()
        self.link.flush()

    def _send(self, datagrams: Iterable[Datagram]) -> None:
        self._said += [bytes(data) for data, _ in datagrams]

    # its owner's names

    def link_up(self, link: Link) -> None: ...
    def link_down(self, link: Link, error: NanoError) -> None: ...
    def link_silent(self, link: Link, *, suspected: bool) -> None: ...
    def request(self, link: Link, stream: Stream, headers: Headers) -> None: ...
    def datagram(self, link: Link, data: bytes) -> None: ...
    def address_issued(self, link: Link, connection_id: bytes) -> None: ...
    def address_retired(self, link: Link, connection_id: bytes) -> None: ...
    def is_behind(self) -> bool:
        return False


@pytest.mark.parametrize("verdict", Verdict)
async def test_a_scheduler_that_has_proven_itself_is_believed_why_it_turns_a_member_away(
    tmp_path: Path, verdict: Verdict
) -> None:
    member = _Member(tmp_path)
    member.hears(member.answer())
    assert member.link.is_up
    member.answer()
    member.scheduler.close_untrusted("not here", verdict.value)
    member.hears(member.answer())
    assert member.link.verdict is verdict
    assert isinstance(member.link.error, Untrusted)


@pytest.mark.parametrize("verdict", Verdict)
async def test_a_stranger_who_closes_behind_the_schedulers_own_flight_says_nothing_of_the_member(
    tmp_path: Path, verdict: Verdict
) -> None:
    """The flight proves the scheduler, and what comes right behind it is not the scheduler's for that."""
    member = _Member(tmp_path)
    flight = member.answer()
    member.hears([*flight, forged_close(member.first, flight[0], verdict.value)])
    assert member.link.peer.role is Role.SCHEDULER
    assert isinstance(member.link.error, Untrusted)
    assert member.link.verdict is None
