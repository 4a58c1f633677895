"""axe-core, the accessibility checker, run inside a page."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_SOURCE = Path(__file__).parents[2] / "services/portal/web/node_modules/axe-core/axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def findings(page: Page) -> list[str]:
    """What axe finds: rule, and the first element that breaks it. The page's own policy stays in force."""
    page.evaluate(_SOURCE.read_text() + "; 0")
    found: dict[str, Any] = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})",
        _RULES,
    )
    return [
        f"{violation['id']}: {violation['help']} at {violation['nodes'][0]['html'][:160]}"
        for violation in found["violations"]
    ]
