"""Requests and answers on one link: HTTP/3 on its streams.

- `h3.py`, `whole_frames.py`, `header_blocks.py`: frames and header blocks, read and written.
- `exchanges.py`: all exchanges of a link, with back-pressure both ways.
- `stream.py`, `framing.py`: one of them, as calls and bodies use it, and the messages in it.
"""
