"""The network: links between peers that prove who they are, gRPC over HTTP/3 on them, and who is where.

Services use `fabric.Fabric`; `docs/fabric.md` is the way into the rest.
"""
