"""Where services are born quickly: one process that has everything imported, and forks for each life.

    python -m tests.support.nursery

A start of Python with all its imports takes most of a second of processor time, and a sweep has hundreds of
starts. Each life is a process of its own all the same, with nothing in common but what was imported. One line
of JSON comes in for each `Birth`, one goes out for each `Born` and each `Died`. When its input ends, all that
lives here is killed.
"""

import importlib
import os
import pkgutil
import runpy
import selectors
import signal
import sys
from pathlib import Path
from typing import BinaryIO, Union

import msgspec

from nano.saga import callee as saga_callee
from nano.shelf import folder as shelf_folder
from tests.support import doomed


class Birth(msgspec.Struct, frozen=True):
    """A life to begin."""

    service: str
    folder: str
    """Where its doom is read, and what it reaches told."""
    config: str
    log: str
    notify: str
    """Its NOTIFY_SOCKET."""


class Born(msgspec.Struct, frozen=True, tag="born"):
    service: str
    pid: int


class Died(msgspec.Struct, frozen=True, tag="died"):
    """`status` as of subprocess: the exit code, or the negative number of the signal."""

    pid: int
    status: int


News = Union[Born, Died]  # noqa: UP007 - msgspec wants the type itself


class Nursery:
    def __init__(self, orders: BinaryIO, news: BinaryIO) -> None:
        self._orders = orders
        self._news = news
        self._lives: dict[int, int] = {}
        """The pid of each, by its pidfd."""
        self._ready = selectors.DefaultSelector()
        self._ready.register(orders, selectors.EVENT_READ)

    def run(self) -> Birth | None:
        """None at the end of all; a birth, again and again, in the process that is to live it."""
        while True:
            for key, _ in self._ready.select():
                if key.fileobj is self._orders:
                    line = self._orders.readline()
                    if not line:
                        self._close()
                        return None
                    birth = msgspec.json.decode(line, type=Birth)
                    if self._bear(birth):
                        return birth
                else:
                    self._bury(key.fd)

    def _bear(self, birth: Birth) -> bool:
        """Whether this is the child."""
        pid = os.fork()
        if pid == 0:
            self._ready.close()
            for descriptor in self._lives:
                os.close(descriptor)
            return True
        descriptor = os.pidfd_open(pid)
        self._lives[descriptor] = pid
        self._ready.register(descriptor, selectors.EVENT_READ)
        self._tell(Born(birth.service, pid))
        return False

    def _bury(self, descriptor: int) -> None:
        self._ready.unregister(descriptor)
        pid = self._lives.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        self._tell(Died(pid, os.waitstatus_to_exitcode(status)))

    def _tell(self, news: News) -> None:
        self._news.write(msgspec.json.encode(news) + b"\n")
        self._news.flush()

    def _close(self) -> None:
        for descriptor, pid in self._lives.items():
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.waitpid(pid, 0)


def live(birth: Birth) -> None:
    """The service, as `python -m services.NAME --config FILE` runs it, in a process that was just born."""
    log = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ["NOTIFY_SOCKET"] = birth.notify
    sys.argv = [birth.service, "--config", birth.config]
    doomed.Fate.mine = doomed.Fate(Path(birth.folder), birth.service)
    runpy.run_module(f"services.{birth.service}", run_name="__main__", alter_sys=True)


def import_services() -> None:
    """All that any service imports, with the doomed parts in the place of the plain ones."""
    saga_callee.Callee = doomed.DoomedCallee  # type: ignore[misc]
    shelf_folder.Log = doomed.DoomedLog  # type: ignore[misc]
    for service in ("scheduler", "imagestore", "addresspool", "cell"):
        package = importlib.import_module(f"services.{service}")
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("libvirt"):
                importlib.import_module(f"services.{service}.{module.name}")


def main() -> None:
    import_services()
    with open(0, "rb", buffering=0, closefd=False) as orders, open(1, "wb", closefd=False) as news:
        birth = Nursery(orders, news).run()
    if birth is not None:
        live(birth)


if __name__ == "__main__":
    main()
