"""`nano.fleet` as `./dev` runs it, for tests that want the real processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nano.fleet.guest_image import built_image, cache_folder


def fleet(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nano.fleet", *arguments]


@contextmanager
def guest_image_at_hand() -> Iterator[None]:
    """The guest image, built where packages can be fetched: a network of one's own leads nowhere."""
    cache = cache_folder(Path("var"))
    cache.mkdir(parents=True, exist_ok=True)
    built_image(cache, print)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANO_CACHE", str(cache))
        yield


@contextmanager
def up_until_told(
    root: Path, *more: str, hear: Callable[[str], None] = lambda _: None
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`up`, run until it has told its story; its process, and what it said."""
    with subprocess.Popen(fleet("--root", str(root), "up", *more), stdout=subprocess.PIPE, text=True) as up:
        said = ""
        while not said.splitlines()[-1:] or not said.splitlines()[-1].startswith("Ctrl-C stops"):
            assert up.stdout is not None
            line = up.stdout.readline()
            assert line, f"up ended with {up.wait()}: {said}"
            said += line
            hear(line)
        try:
            yield up, said
        finally:
            if up.poll() is None:  # the test failed: else it has ended the fleet itself
                up.send_signal(signal.SIGINT)
                up.communicate()


def rest_of(up: "subprocess.Popen[str]") -> str:
    """What it still says until it ends well."""
    assert up.stdout is not None
    said = up.stdout.read()
    assert up.wait() == 0
    return said


def told(said: str, word: str) -> str:
    return next(line.split(None, 1)[1] for line in said.splitlines() if line.split()[:1] == [word])
