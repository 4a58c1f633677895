"""The responder's socket: lines in any pieces, rubbish, slow readers, and what a killed process leaves."""

import multiprocessing
import os
import selectors
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nano.bindings.messages import Ask, List, Unbind, Watch, decode_answer, encode_ask, encode_entries
from nano.model.errors import Conflict, Invalid, NotFound
from services.addresspool import control
from services.addresspool.control import Control

PATIENCE_S = 10.0
EMPTY = encode_entries(())


class Served:
    """A control with its loop turned by hand, which remembers what it was asked."""

    def __init__(self, path: Path, *, cell_user: str = "", cell_group: str = "") -> None:
        self.path = path
        self.asked: list[Ask] = []
        self.reply = EMPTY
        self.selector = selectors.DefaultSelector()
        self.control = Control(path, self.selector, self.answer, cell_user=cell_user, cell_group=cell_group)

    def answer(self, ask: Ask) -> bytes:
        if isinstance(ask, Unbind):
            raise NotFound("not here", subject=ask.mac)
        self.asked.append(ask)
        return self.reply

    def turn(self) -> None:
        """Whatever is there to do now."""
        for key, events in self.selector.select(0):
            if key.fd in self.selector.get_map():
                key.data(events)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE_S)
        client.connect(str(self.path))
        self.turn()
        return client

    def tell(self, client: socket.socket, data: bytes) -> bytes:
        client.sendall(data)
        self.turn()
        return client.recv(65_536)

    def close(self) -> None:
        self.control.close()
        self.selector.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with closing(Served(tmp_path / "run" / "dhcp.sock")) as opened:
        yield opened


def test_a_line_may_come_in_pieces_and_lines_in_one_piece(served: Served) -> None:
    line = encode_ask(List())
    with served.connect() as client:
        client.sendall(line[:5])
        served.turn()
        assert served.tell(client, line[5:]) == EMPTY
        assert served.tell(client, line + line) == EMPTY + EMPTY
    assert served.asked == [List()] * 3


def test_what_goes_wrong_is_told_and_the_talk_goes_on(served: Served) -> None:
    with served.connect() as client:
        with pytest.raises(Invalid):
            decode_answer(served.tell(client, b"rubbish\n"))
        with pytest.raises(NotFound, match="not here"):
            decode_answer(served.tell(client, encode_ask(Unbind("00:16:3e:00:00:07"))))
        assert served.tell(client, encode_ask(List())) == EMPTY


def test_only_watchers_are_told_the_news(served: Served) -> None:
    with served.connect() as watcher, served.connect() as other:
        served.tell(watcher, encode_ask(Watch()))
        served.tell(other, encode_ask(List()))
        served.control.publish(b"news\n")
        assert watcher.recv(100) == b"news\n"
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def test_a_watcher_that_does_not_read_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MOST_UNREAD_BYTES", 1000)
    with served.connect() as watcher, served.connect() as other:
        served.tell(watcher, encode_ask(Watch()))
        for _ in range(1000):
            served.control.publish(b"n" * 999 + b"\n")
        received = 0
        while data := watcher.recv(65_536):
            received += len(data)
        assert 0 < received < 1_000_000
        assert served.tell(other, encode_ask(List())) == EMPTY


def test_a_long_answer_waits_for_a_slow_reader(served: Served) -> None:
    served.reply = b"x" * 2_000_000 + b"\n"
    with served.connect() as client:
        received = served.tell(client, encode_ask(List()))
        while len(received) < len(served.reply):
            served.turn()
            received += client.recv(65_536)
    assert received == served.reply


def test_a_line_without_end_is_not_kept_for_ever(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LONGEST_LINE_BYTES", 100)
    with served.connect() as client:
        assert served.tell(client, b"x" * 101) == b""


def test_a_client_that_goes_is_forgotten(served: Served) -> None:
    served.connect().close()
    served.turn()
    assert len(served.selector.get_map()) == 1


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "dhcp.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    with closing(Served(path)) as served, served.connect() as client:
        assert served.tell(client, encode_ask(List())) == EMPTY
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


@pytest.fixture
def run() -> Iterator[Path]:
    """A folder that other users can look into."""
    with tempfile.TemporaryDirectory(prefix="nano-run-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def ask_as_nobody(path: str, said: "multiprocessing.queues.Queue[bytes]") -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
            client.sendall(encode_ask(List()))
            said.put(client.recv(65_536))
        except PermissionError:
            said.put(b"refused by the kernel")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("cell_user", "cell_group", "expected"),
    [
        ("nobody", "nogroup", EMPTY),
        ("nobody", "", b"refused by the kernel"),
        ("daemon", "nogroup", b"user nobody (65534) may not ask here"),
    ],
)
def test_the_cells_user_may_ask_and_no_other(
    run: Path, cell_user: str, cell_group: str, expected: bytes
) -> None:
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    with closing(Served(run / "dhcp.sock", cell_user=cell_user, cell_group=cell_group)) as served:
        asking = fork.Process(target=ask_as_nobody, args=(str(run / "dhcp.sock"), said))
        asking.start()
        while asking.is_alive():
            served.turn()
            asking.join(0.01)
        assert expected in said.get(timeout=PATIENCE_S)


def test_a_socket_in_use_and_a_file_that_is_none_are_left_alone(served: Served, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="another responder"):
        Served(served.path)
    plain = tmp_path / "plain"
    plain.write_text("mine")
    with pytest.raises(Invalid, match="no socket"):
        Served(plain)
    assert plain.read_text() == "mine"
