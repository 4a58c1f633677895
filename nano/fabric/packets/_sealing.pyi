from nano.fabric.packets.sealing import Opened

class Keys:
    def __init__(self, key: bytes, iv: bytes, header_key: bytes) -> None: ...
    def seal(
        self,
        first_byte: int,
        connection_id: bytes,
        number: int,
        stream_id: int,
        offset: int,
        data: bytes | bytearray,
        start: int,
        stop: int,
        fin: bool,
        datagram_bytes: int,
        limit: int,
        /,
    ) -> list[tuple[bytes, int]]: ...
    def open(
        self,
        train: bytes | memoryview,
        segment_bytes: int,
        connection_id: bytes,
        expected: int,
        largest: int,
        phase: int,
        /,
    ) -> list[Opened]: ...
