"""Every task that changes more than one book: one file, one story, each step with its way back."""
