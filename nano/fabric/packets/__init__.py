"""A packet, from the socket to the bytes of a stream and back: QUIC as the fabric speaks it.

- `udp.py`, `offload.py`, `address.py`: the socket, drained and filled with many datagrams in one system call.
- `quic.py`: aioquic's connection with what a data centre needs. What reaches into the private parts of
  aioquic's QUIC is in this folder, pinned to a version and guarded by a test.
- `fast_path.py`, `sealing.py` (and its compiled twin `_sealing.c`): packets of stream data, many at a time.
- `recovery.py`, `congestion.py`, `path_mtu.py`: what was lost, how fast to send, how large a packet may be.
- `half_open.py`, `settled.py`: before a handshake is confirmed, and what is let go of afterwards.
- `datagrams.py`: what is in a QUIC datagram.
"""
