"""The words of Nano as frozen values. Nothing here knows of files, sockets, clocks or event loops."""
