"""The pages' own words, so that a test finds a button in whatever language it is shown."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[2] / "services" / "portal" / "web" / "src" / "i18n"
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}
"""Of the pages, with the locale of a browser that gets them."""


class Words:
    """`words("verbOf.console", name="web")` is `Console of web` in English."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.locale = LANGUAGES[language]

    def __call__(self, key: str, **values: object) -> str:
        found: Any = _all(self.language)
        for part in key.split("."):
            found = found[part]
        assert isinstance(found, str), key
        return re.sub(r"\{\{(\w+)\}\}", lambda named: str(values[named[1]]), found)


@cache
def _all(language: str) -> Any:
    return json.loads((_FOLDER / f"{language}.json").read_text())
