"""gRPC on a link, as the generated stubs and handlers know it from grpclib.

- `channel.py`: calls out. `server.py`, `answer.py`, `caller.py`: calls in.
- `codec.py`: messages as bytes. `status.py`: the model's errors as statuses and back.
"""
