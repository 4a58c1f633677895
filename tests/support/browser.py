"""Debian's Chromium, driven by Playwright: a person at the portal's pages."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
LAUNCH = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
PATIENCE_MS = 30_000
"""For what a page shows when a service has done something; a busy machine is slow."""
PICTURES = "NANO_PICTURES"
"""Names a folder for the pictures that the tests take; without it none are kept."""
URL = "http://127.0.0.1:5870/"
PASSWORD = "Correct1horse"

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Person:
    """One browser with its own cookies, and what its console has said."""

    context: BrowserContext
    page: Page
    said: list[str] = field(default_factory=list)

    def picture(self, name: str) -> None:
        folder = os.environ.get(PICTURES, "")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder, f"{name}.png")))

    def first_start(self, code: str, user: str = "admin") -> None:
        """Sets the portal up; the pages log in by themselves."""
        self.page.goto(URL)
        self.page.get_by_label("First-start code").fill(code)
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Create the account").click()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()

    def open_console(self, instance: str) -> None:
        """Of an instance in the list, by its name."""
        self.page.goto(f"{URL}#/instances")
        self.page.get_by_role("button", name=f"Console of {instance}").click()
        expect(self.page.get_by_text("Connected", exact=True)).to_be_visible()

    def log_in(self, user: str = "admin", password: str = PASSWORD) -> None:
        self.page.get_by_label("User").fill(user)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Log in").click()

    @property
    def complaints(self) -> list[str]:
        """What the browser's console says of violated policies and uncaught errors."""
        return [each for each in self.said if re.search("Content Security|Refused|Uncaught", each)]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(LAUNCH))
        yield browser
        browser.close()


@contextmanager
def person(
    browser: Browser, *, locale: str = "en-GB", width: int = 1440, height: int = 900, dark: bool = False
) -> Iterator[Person]:
    """Somebody new, with a window of that size and these habits."""
    context = browser.new_context(
        locale=locale,
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    somebody = Person(context, context.new_page())

    def hear(message: ConsoleMessage) -> None:
        somebody.said.append(message.text)

    somebody.page.on("console", hear)
    somebody.page.on("pageerror", lambda error: somebody.said.append(f"Uncaught {error}"))
    yield somebody
    context.close()
