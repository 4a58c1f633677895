"""The keys to the REST API as they lie in a file: the gateway writes it, its clients may read it."""

import msgspec


class Credential(msgspec.Struct, frozen=True):
    """A key to the API, in the documented shape."""

    id: str
    key: str

    def __repr__(self) -> str:
        return f"Credential({self.id!r})"  # a key in a log is a key lost


class CredentialsFile(msgspec.Struct, frozen=True):
    """The documented `config/api.cfg`: `{"port": 5850, "credentials": [{"id": "...", "key": "..."}]}`."""

    credentials: tuple[Credential, ...]
    port: int = 5850
