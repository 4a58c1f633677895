"""The network: links between peers that prove who they are, gRPC over HTTP/3 on them, and who is where.

Services use `fabric.Fabric`, and `presence.py` for what they do with each peer that is there. Below it, each
folder stands on those that follow: `joining`, `bulk`, `calls`, `links`, `http3`, `peers`, `identity` and
`packets`. A packet comes up through `packets`, `http3`, `links` and `calls`. `docs/fabric.md` follows one,
and is the protocol.
"""
