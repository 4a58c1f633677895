"""The documented surface, a file for each noun; each has its REST shapes, its handlers and its `ROUTES`."""
