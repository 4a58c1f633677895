"""A reverse proxy that puts a server below a path, as an administrator's nginx would."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 65536


@contextmanager
def below(path: str, port: int) -> Iterator[str]:
    """Serves `http://127.0.0.1:PORT` below `path` of another port; gives the address of that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, path, port), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, path: str, port: int) -> None:
    with suppress(OSError):  # closed: the test is over
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, path, port), daemon=True).start()


def _serve(client: socket.socket, path: str, port: int) -> None:
    """One request a connection, so that only its head has to be understood; a websocket is one as well."""
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(_PIECE)
            if not piece:
                return
            head += piece
        first, rest = head.split(b"\r\n", 1)
        method, target, version = first.split(b" ")
        if not target.startswith(path.encode()):
            client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        short = b"/" + target.removeprefix(path.encode())
        if b"\r\nupgrade:" not in head.lower():
            rest = b"Connection: close\r\n" + rest.replace(b"\r\nConnection: keep-alive", b"")
        server.sendall(b" ".join((method, short, version)) + b"\r\n" + rest)
        back = threading.Thread(target=_carry, args=(server, client), daemon=True)
        back.start()
        _carry(client, server)
        back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
