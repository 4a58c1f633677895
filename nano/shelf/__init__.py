"""A book on disk: plain JSON, durable before the answer. Start with `shelf.py`."""

from nano.shelf.book import Book, Cursor, Damaged, JournalLost
from nano.shelf.files import Disk, File, Lock, RealDisk
from nano.shelf.shelf import Shelf

__all__ = ["Book", "Cursor", "Damaged", "Disk", "File", "JournalLost", "Lock", "RealDisk", "Shelf"]
