"""Whom the cell takes for its responder."""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nano.bindings.client import Responder
from nano.bindings.messages import encode_entries
from nano.model.errors import Unreachable, Untrusted

PATIENCE_S = 10.0


@pytest.fixture
def run() -> Iterator[Path]:
    """A folder that other users can put a socket into."""
    with tempfile.TemporaryDirectory(prefix="nano-run-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def answer_as_nobody(path: str, ready: "multiprocessing.synchronize.Event") -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        ready.set()
        connection, _ = listener.accept()
        with connection:
            if connection.recv(65_536):
                connection.sendall(encode_entries(()))


@pytest.fixture
def nobodys(run: Path) -> Iterator[str]:
    """The path of a socket on which the user nobody answers one question."""
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    answering = fork.Process(target=answer_as_nobody, args=(str(run / "dhcp.sock"), ready))
    answering.start()
    assert ready.wait(PATIENCE_S)
    yield str(run / "dhcp.sock")
    answering.join(PATIENCE_S)
    assert answering.exitcode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_stranger_is_told_nothing(nobodys: str) -> None:
    with pytest.raises(Untrusted, match=r"served by a stranger, user nobody \(65534\)"):
        await Responder(nobodys).list()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_the_user_that_the_configuration_names_is_believed(nobodys: str) -> None:
    assert await Responder(nobodys, user="nobody").list() == ()


async def test_without_a_responder_nothing_has_happened(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="start nano-dhcp"):
        await Responder(str(tmp_path / "none.sock")).list()
