"""The fleet on this one machine: `./dev up`, `./dev down`, `./dev demo`.

It prepares the host (bridge, libvirtd, guest image), keeps Nano's processes running and tells the story of
the first instance. It is a client like any other: it imports no service and asks only over REST.
"""
