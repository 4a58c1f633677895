"""The responder's UNIX socket, which root and the cell open: lines in, lines out, no line ever waited for.

It knows how lines travel; what they mean is `nano.bindings.messages`, what they do is the caller's `answer`.
"""

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nano.bindings.messages import Ask, Watch, decode_ask, encode_fault
from nano.local_users import is_trusted, other_uid, share, user_text
from nano.model.errors import Conflict, Forbidden, Invalid, NanoError

LONGEST_LINE_BYTES = 16 * 2**20
"""As the client's: some thirty thousand entries."""
MOST_UNREAD_BYTES = 4 * 2**20
"""How far a watcher may fall behind before it is cut off; it asks again and loses nothing by it."""
_CHUNK_BYTES = 65_536


class Control:
    """Whoever is connected, and what is under way to them."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        answer: Callable[[Ask], bytes],
        *,
        cell_user: str = "",
        cell_group: str = "",
    ) -> None:
        """`cell_user` may ask as well as root and our own user; `cell_group` may open the socket at all."""
        self._path = path
        self._cell_user = cell_user
        self._selector = selector
        self._answer = answer
        self._talks: set[_Talk] = set()
        self._listener = _listen(path, cell_group)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        for talk in list(self._talks):
            self._hang_up(talk)
        self._selector.unregister(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def publish(self, line: bytes) -> None:
        """Send a line to all who watch."""
        for talk in [talk for talk in self._talks if talk.watches]:
            self._say(talk, line)

    def _accept(self, _events: int) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            talk = _Talk(connection)
            self._talks.add(talk)
            self._selector.register(connection, selectors.EVENT_READ, lambda events: self._move(talk, events))

    def _move(self, talk: "_Talk", events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(talk)
            if events & selectors.EVENT_READ:
                self._hear(talk)
        except (ConnectionError, BlockingIOError):
            self._hang_up(talk)

    def _hear(self, talk: "_Talk") -> None:
        heard = talk.connection.recv(_CHUNK_BYTES)
        talk.heard += heard
        while talk in self._talks and (end := talk.heard.find(b"\n")) >= 0:
            line = bytes(talk.heard[:end])
            del talk.heard[: end + 1]
            self._say(talk, self._reply(talk, line))
        if not heard or len(talk.heard) > LONGEST_LINE_BYTES:
            self._hang_up(talk)

    def _reply(self, talk: "_Talk", line: bytes) -> bytes:
        try:
            if not is_trusted(uid := other_uid(talk.connection), self._cell_user):
                raise Forbidden(f"{user_text(uid)} may not ask here: set `cell_user` if it runs the cell")
            ask = decode_ask(line)
            reply = self._answer(ask)
        except NanoError as error:
            return encode_fault(error)
        talk.watches = talk.watches or isinstance(ask, Watch)
        return reply

    def _say(self, talk: "_Talk", line: bytes) -> None:
        talk.unsent += line
        try:
            self._flush(talk)
        except ConnectionError:
            self._hang_up(talk)
        if talk.watches and len(talk.unsent) > MOST_UNREAD_BYTES:
            self._hang_up(talk)

    def _flush(self, talk: "_Talk") -> None:
        with suppress(BlockingIOError):
            while talk.unsent:
                del talk.unsent[: talk.connection.send(talk.unsent[:_CHUNK_BYTES])]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if talk.unsent else 0)
        if (key := self._selector.get_key(talk.connection)).events != wanted:
            self._selector.modify(talk.connection, wanted, key.data)

    def _hang_up(self, talk: "_Talk") -> None:
        if talk in self._talks:
            self._talks.discard(talk)
            self._selector.unregister(talk.connection)
            talk.connection.close()


class _Talk:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard = bytearray()
        self.unsent = bytearray()
        self.watches = False


def _listen(path: Path, group: str) -> socket.socket:
    """A socket that nobody but root, whoever runs this and `group` may open, from its first moment on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    being_made = path.with_name(path.name + ".new")
    being_made.unlink(missing_ok=True)
    try:
        listener.bind(str(being_made))
        share(being_made, group, field="cell_group")
        listener.listen()
        being_made.rename(path)
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Take away a socket that a killed process left behind; `Conflict` when somebody answers on it."""
    if not path.exists():
        return
    if not path.is_socket():
        raise Invalid("socket", f"{path} exists and is no socket: name another path", subject=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise Conflict(f"another responder listens on {path}: stop it first", subject=str(path))
