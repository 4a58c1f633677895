"""`/live/`: a websocket on which a page hears what changes, and what is measured.

The page says from where it goes on and which samples it wants; the messages are in `ring.py` and in
docs/portal.md. What a session may not see it is not told, judged anew for each message.
"""

import asyncio
from collections.abc import Iterable

import msgspec
import structlog
from fastapi import Response

from nano.model.errors import Internal, NanoError, Untrusted
from nano.web import websocket
from nano.web.websocket import Socket
from services.portal.access import Menu
from services.portal.call import Call, Caller, Portal, Route
from services.portal.callers import caller_of
from services.portal.directory import Who
from services.portal.ring import REREAD, Message, written
from services.portal.visible import sees

ENDED = 4401
"""The session has ended: log in again."""
RESTARTED = 1012
MALFORMED = 1007
FIRST_S = 10.0
"""How long a page may take to say what it wants."""
LOOK_S = 5.0
"""How often a quiet stream, or an open console, looks whether its session is still open."""
BATCH = 256
MOST_SAMPLES = 64
ZONE = "zone"
RETRY_S = 2.0

_log = structlog.get_logger("nano.portal")


class Wish(msgspec.Struct):
    """What a page says, first and whenever it wants other samples."""

    since: str = ""
    """The cursor of the last message that it had; empty: it knows nothing."""
    samples: list[str] = []
    """`zone`, or ids of instances."""


async def follow(call: Call[None]) -> Response:
    socket = websocket.of(call.request)
    if socket is None:
        raise Internal("live was asked for without a websocket")
    try:
        caller = caller_of(call.portal, call.request)
    except Untrusted:  # a page cannot read why a websocket was refused, but it can read a close
        await socket.accept()
        await socket.close(ENDED)
        return websocket.Over()
    with call.portal.lives.held(caller.who.user):
        await socket.accept()
        code = await _Stream(call.portal, socket, caller).run()
    if code:
        await socket.close(code)
    return websocket.Over()


class _Over(Exception):
    """The stream ends, with this code; 0 when the page is gone already."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Stream:
    """One page's connection."""

    def __init__(self, portal: Portal, socket: Socket, caller: Caller) -> None:
        self._portal = portal
        self._socket = socket
        self._caller = caller
        self._feed = portal.feed
        self._samples: dict[str, Message] = {}
        """The newest of each subject that has not been sent yet."""
        self._measured = asyncio.Event()
        self._wanted: tuple[str, ...] = ()
        self._sampling: asyncio.Task[None] | None = None
        self._jobs: asyncio.TaskGroup

    async def run(self) -> int:
        """Until either side ends; the code to close with, 0 when the page is gone."""
        try:
            async with asyncio.timeout(FIRST_S):
                first = await self._heard()
        except TimeoutError:
            return MALFORMED
        except _Over as over:
            return over.code
        return await self._served(first)

    async def _served(self, first: Wish) -> int:
        codes: list[int] = []
        try:
            async with asyncio.TaskGroup() as jobs:
                self._jobs = jobs
                self._sample(first.samples)
                jobs.create_task(self._hear(), name="page")
                jobs.create_task(self._tell(first.since), name="live")
        except* _Over as ends:
            codes = [end.code for end in ends.exceptions if isinstance(end, _Over)]
        return codes[0]

    async def _heard(self) -> Wish:
        message = await self._socket.receive()
        if message is None:
            raise _Over(0)
        try:
            wish = msgspec.json.decode(message, type=Wish)
        except msgspec.DecodeError:
            raise _Over(MALFORMED) from None
        if len(wish.samples) > MOST_SAMPLES:
            raise _Over(MALFORMED)
        return wish

    async def _hear(self) -> None:
        while True:
            self._sample((await self._heard()).samples)

    # -- what is told ------------------------------------------------------------------------------

    async def _tell(self, since: str) -> None:
        ring = self._feed.ring
        number = ring.number_behind(since) if since else ring.next_number
        await self._send(Message("hello", "", gone=False, document=None, cursor=since or ring.cursor))
        if number is None:
            await self._send_reread()
            number = ring.next_number
        is_heard: bool | None = None
        while True:
            self._now()
            if self._portal.is_stopping:
                raise _Over(RESTARTED)
            if is_heard is not self._feed.is_heard:
                is_heard = self._feed.is_heard
                word = "found" if is_heard else "lost"
                await self._send(Message(word, "", gone=False, document=None, cursor=""))
            if not await self._wait_for_news(number, is_heard=is_heard):
                continue
            number = await self._tell_events(number)
            await self._tell_samples()

    async def _tell_events(self, number: int) -> int:
        """Sends what comes next; where the reader stands then."""
        events = self._feed.ring.since(number, BATCH)
        if events is None:
            await self._send_reread()
            return self._feed.ring.next_number
        for told in list(events):
            number = told.number + 1
            event = told.event
            document = None if event.gone else event.document
            if self._feed.owners.shows(self._now(), event.kind, event.id, document):
                await self._say(told.text)
        return number

    async def _tell_samples(self) -> None:
        samples, self._samples = self._samples, {}
        self._measured.clear()
        for message in samples.values():
            if self._may_sample(self._now(), message.id):
                await self._send(message)

    async def _wait_for_news(self, number: int, *, is_heard: bool) -> bool:
        """Whether there is something to tell; after `LOOK_S` at the latest, since a session may have
        ended."""
        if self._has_news(number, is_heard=is_heard):
            return True
        rung = asyncio.ensure_future(self._feed.bell.heard())
        measured = asyncio.ensure_future(self._measured.wait())
        try:
            await asyncio.wait((rung, measured), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rung.cancel()
            measured.cancel()
        return self._has_news(number, is_heard=is_heard)

    def _has_news(self, number: int, *, is_heard: bool) -> bool:
        return (
            number != self._feed.ring.next_number
            or bool(self._samples)
            or is_heard is not self._feed.is_heard
        )

    def _who(self) -> Who | None:
        return self._portal.who_of(self._caller.session)

    def _now(self) -> Who:
        """Who it is at this moment, for one message: news may have been waited for, and so may the reader."""
        who = self._who()
        if who is None:
            raise _Over(ENDED)
        return who

    async def _send_reread(self) -> None:
        await self._send(Message(REREAD, "", gone=False, document=None, cursor=self._feed.ring.cursor))

    async def _send(self, message: Message) -> None:
        await self._say(written(message))

    async def _say(self, text: str) -> None:
        if not await self._socket.send(text):
            raise _Over(0)

    # -- what is measured --------------------------------------------------------------------------

    def _sample(self, wanted: Iterable[str]) -> None:
        """Follows the samples of these subjects, and of no others any more."""
        subjects = tuple(dict.fromkeys(wanted))
        if subjects == self._wanted:
            return
        self._wanted = subjects
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
        if subjects:
            self._sampling = self._jobs.create_task(self._follow_samples(subjects), name="samples")

    async def _follow_samples(self, subjects: tuple[str, ...]) -> None:
        """The gateway's stream of them; when it ends it is opened again, for as long as the page is there."""
        while True:
            who = self._who()
            here = [each for each in subjects if each == ZONE or self._feed.owners.is_here(each)]
            allowed = [each for each in here if who is not None and self._may_sample(who, each)]
            if allowed:
                try:
                    with self._portal.samplings.held(self._caller.session.user):
                        await self._take_samples(allowed)
                except NanoError as error:
                    _log.info("samples.ended", code=error.code, error=error.message)
            await asyncio.sleep(RETRY_S)

    async def _take_samples(self, subjects: Iterable[str]) -> None:
        async for event in self._portal.upstream.samples(subjects):
            self._samples[event.id] = Message("sample", event.id, False, event.document, "")
            self._measured.set()

    def _may_sample(self, who: Who, subject: str) -> bool:
        if subject == ZONE:
            return Menu.DASHBOARD in who.menu
        return sees(who, self._feed.owners.of(subject))


ROUTES = (
    Route(
        "GET",
        "/live/",
        follow,
        "Hear what changes and what is measured; without a session it is closed with 4401",
        is_open=True,
        is_websocket=True,
    ),
)
