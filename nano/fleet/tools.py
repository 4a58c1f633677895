"""Running the programs of the host: to their end, with their own words when they fail."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from nano.model.errors import Unsupported

Progress = Callable[[str], None]
"""Takes one line that tells a person what is being done."""

SEARCH_PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
"""Debian keeps `ip`, `mke2fs` and the like where a plain user's PATH does not look."""


def run_tool(*command: str, folder: Path | None = None) -> str:
    """Run `command` to its end and return what it printed; one that is missing or fails is `Unsupported`."""
    program = shutil.which(command[0], path=SEARCH_PATH)
    if program is None:
        raise Unsupported(
            f"{command[0]} is not installed; `./dev up` and `./dev test` install what they need"
        )
    environment = {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C"}
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-800:]
        raise Unsupported(f"`{' '.join(command)}` failed with status {done.returncode}: {said}")
    return done.stdout


def tool_succeeds(*command: str) -> bool:
    """Whether `command` exists and ends with status 0; for questions, where "no" is an answer."""
    program = shutil.which(command[0], path=SEARCH_PATH)
    if program is None:
        return False
    environment = {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C"}
    return (
        subprocess.run([program, *command[1:]], env=environment, capture_output=True, check=False).returncode
        == 0
    )
