"""A link: one QUIC connection to one peer, and how it is made, watched and given up.

- `link.py`: the link itself; `liveness.py`: when a silent peer is asked, doubted and lost. No I/O.
- `ends.py`: the sockets of both ends; `dialled.py`: the links that this process dials; `turns.py`: a few
  at once.
- `reasons.py`: why a link is over, in words; `sparing.py`: log lines that a stranger can cause.
"""
