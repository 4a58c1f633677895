"""How soon the first page can be used, and what it weighs: Debian's Chromium, an empty cache, this machine.

    ./dev up                                   # in another terminal, wait for the first instance
    python -m bench.pages [--url http://127.0.0.1:5870/] [--rounds 5]

Each round is a new browser profile. "Usable" is when a person can type into the page's first field, counted
from the start of the navigation; bytes are what came over the wire, heads included. Beside it, in the same
run, a bare page of the same server, which is what the browser alone costs.
"""

import argparse
import statistics
from dataclasses import dataclass

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.browser import CHROMIUM, LAUNCH

_WEIGHT = """() => {
    const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    return [all.length, all.reduce((sum, each) => sum + each.transferSize, 0)]
}"""


@dataclass(frozen=True, slots=True)
class Round:
    usable_ms: float
    requests: int
    wire_bytes: int


def load(browser: Browser, url: str) -> Round:
    context = browser.new_context(locale="en-GB")
    page: Page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_function("() => document.activeElement?.tagName === 'INPUT'", polling="raf")
    usable_ms = page.evaluate("() => performance.now()")
    requests, wire_bytes = page.evaluate(_WEIGHT)
    context.close()
    return Round(float(usable_ms), int(requests), int(wire_bytes))


def bare(browser: Browser, url: str) -> float:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{url}nothing/here", wait_until="load")
    taken_ms = float(page.evaluate("() => performance.now()"))
    context.close()
    return taken_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:5870/")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(LAUNCH))
        rounds, empty = [], []
        for _ in range(arguments.rounds):
            rounds.append(load(browser, arguments.url))
            empty.append(bare(browser, arguments.url))
        browser.close()
    usable, nothing = statistics.median(each.usable_ms for each in rounds), statistics.median(empty)
    worst = max(each.usable_ms for each in rounds)
    print(f"first page usable after {usable:.0f} ms (median of {len(rounds)}, worst {worst:.0f})")
    print(f"a bare page of the same server: {nothing:.0f} ms, ratio {usable / nothing:.1f}")
    print(f"{rounds[-1].requests} requests, {rounds[-1].wire_bytes / 1024:.0f} KiB over the wire")


if __name__ == "__main__":
    main()
