"""What a person sees meanwhile: one line for each thing done, with the seconds since the start."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stages:
    """Times the stages of a story. `began_s` is of `time.monotonic`, so that processes can share one."""

    began_s: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self.began_s:7.1f} s  {line}", flush=True)

    @contextlib.contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        """Time what is inside under `name`, saying first what is being done."""
        self.say(doing)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)
