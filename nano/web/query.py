"""The query of a request."""

from nano import signature
from nano.model.errors import Invalid

_DIGITS = 15
_FLAGS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
"""REST document, `GET /guest_search/`."""


class Query:
    """The query of a request, read exactly as it was signed."""

    def __init__(self, query: bytes) -> None:
        self.pairs = [
            (name.decode(errors="replace"), value.decode(errors="replace"))
            for name, value in signature.query_pairs(query)
        ]
        """Names and values in their order."""
        self._values: dict[str, list[str]] = {}
        for name, value in self.pairs:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """Its first value; empty when it is not there."""
        return self._values.get(name, [""])[0]

    def texts(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def number(self, name: str, default: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS:
            raise Invalid(name, f"{name} {text!r:.40} is not a number")
        return int(text)

    def flag(self, name: str) -> bool | None:
        """In the documented spellings; None when it is not there."""
        text = self.text(name)
        if not text:
            return None
        if text not in _FLAGS:
            raise Invalid(name, f"{name} {text!r:.40} is neither true nor false")
        return _FLAGS[text]
