"""The heart speaks while the loop is held up, and only then."""

import threading
import time

from nano.fabric.heart import Heart

BEAT_S = 0.05


class Peer:
    """Whoever is told; lets the test wait for it."""

    def __init__(self) -> None:
        self.signs = 0
        self.told = threading.Event()

    def sign(self) -> None:
        self.signs += 1
        self.told.set()


async def test_peers_are_told_while_the_loop_is_held_up() -> None:
    heart, peer = Heart(BEAT_S), Peer()
    heart.add(peer, peer.sign)
    with heart.beating():
        assert peer.told.wait(5), "this waits in the loop's own thread: nothing else runs in it"


async def test_nobody_is_told_while_the_loop_runs() -> None:
    heart, peer = Heart(60.0), Peer()
    heart.add(peer, peer.sign)
    with heart.beating():
        now = time.monotonic()
        heart.look(now + 60)
        assert peer.signs == 0
        heart.look(now + 91)
        assert peer.signs == 1


async def test_who_is_gone_is_told_nothing_and_one_that_cannot_be_told_keeps_it_from_nobody() -> None:
    def broken() -> None:
        raise OSError("no route")

    heart, gone, peer = Heart(BEAT_S), Peer(), Peer()
    heart.add("broken", broken)
    heart.add(gone, gone.sign)
    heart.add(peer, peer.sign)
    heart.remove(gone)
    with heart.beating():
        assert peer.told.wait(5)
    assert gone.signs == 0


async def test_it_ends_with_its_context() -> None:
    heart = Heart(60)
    with heart.beating():
        assert any(thread.name == "fabric heart" for thread in threading.enumerate())
    assert all(thread.name != "fabric heart" for thread in threading.enumerate())
