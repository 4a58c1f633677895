"""`nanoctl`: Nano from a terminal. It speaks the REST surface with its signature, like any other client."""
