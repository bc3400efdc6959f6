"""Floor 3: what criteria score from, one kind a file; all kinds asked for are filled in one pass over the data."""
