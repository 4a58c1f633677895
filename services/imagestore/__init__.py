"""The image store: media (ISO) and disk images, their records and their bytes.

The single writer of image records and of the files behind them. Decides in `catalog.py` and `formats.py`,
keeps bytes in `files.py`, moves them in `transfer.py`, answers in `rpc.py`. It does not touch volumes: those
are a cell's, cloned from bytes that it pulled here.
"""
