"""The cell's end of its responder: asks over the UNIX socket, one connection for each question."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from nano.bindings.messages import Ask, Bind, Entry, List, Replace, Unbind, Watch, decode_answer, encode_ask
from nano.local_users import is_trusted, other_uid, user_text
from nano.model.address import Binding
from nano.model.errors import TimedOut, Unreachable, Untrusted

LONGEST_LINE_BYTES = 16 * 2**20
"""Some thirty thousand entries: far beyond what one host runs."""
ANSWER_S = 10.0
"""How long the responder may take: one sync of a small file, on a disk that is busy."""


class Responder:
    """The DHCP responder of this host. Nothing is kept here: it may restart between any two questions.

    Each method raises `Unreachable` when no responder listens; nothing has happened then.
    What was answered is durable there.
    """

    def __init__(self, socket_path: str, answer_s: float = ANSWER_S, *, user: str = "") -> None:
        """`user` may listen there as well as root and our own user."""
        self._socket_path = socket_path
        self._answer_s = answer_s
        self._user = user

    async def bind(self, mac: str, binding: Binding, hostname: str = "") -> None:
        """Have the guest with this MAC served; again with the same binding changes nothing."""
        await self._ask(Bind(Entry(mac, binding, hostname)))

    async def unbind(self, mac: str) -> None:
        """Have it served no more; not served is success."""
        await self._ask(Unbind(mac))

    async def replace(self, entries: Iterable[Entry]) -> None:
        """Have exactly these served: the cell's account after its own start."""
        await self._ask(Replace(tuple(entries)))

    async def list(self) -> tuple[Entry, ...]:
        return await self._ask(List())

    async def watch(self) -> AsyncIterator[Entry]:
        """Every entry as it is now, then each one that a guest's lease changes.

        Ends with `Unreachable` when the responder goes: ask again, and the first entries say what was missed.
        """
        async with self._connected(Watch()) as lines:
            while True:
                for entry in decode_answer(await self._line(lines)):
                    yield entry

    async def _ask(self, ask: Ask) -> tuple[Entry, ...]:
        async with self._connected(ask) as lines:
            try:
                async with asyncio.timeout(self._answer_s):
                    return decode_answer(await self._line(lines))
            except TimeoutError:
                raise TimedOut(
                    f"the DHCP responder at {self._socket_path} did not answer within {self._answer_s:g} s; "
                    "it may still do what it was asked",
                    subject=self._socket_path,
                ) from None

    @asynccontextmanager
    async def _connected(self, ask: Ask) -> AsyncIterator[asyncio.StreamReader]:
        try:
            lines, questions = await asyncio.open_unix_connection(self._socket_path, limit=LONGEST_LINE_BYTES)
        except OSError as error:
            raise self._absent(error.strerror or "cannot connect") from None
        try:
            uid = other_uid(questions.get_extra_info("socket"))
            if not is_trusted(uid, self._user):
                raise Untrusted(
                    f"{self._socket_path} is served by a stranger, {user_text(uid)}: look who made it, or "
                    "set responder_user",
                    subject=self._socket_path,
                )
            questions.write(encode_ask(ask))
            yield lines
        finally:
            questions.close()

    async def _line(self, lines: asyncio.StreamReader) -> bytes:
        try:
            return await lines.readuntil(b"\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._absent("it closed the connection") from None

    def _absent(self, reason: str) -> Unreachable:
        return Unreachable(
            f"the DHCP responder at {self._socket_path} is not there ({reason}): start nano-dhcp",
            subject=self._socket_path,
            retry_after_s=1.0,
        )
