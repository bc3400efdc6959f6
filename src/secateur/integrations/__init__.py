"""Floor 10: files and tools of others, and what goes to them; one a file."""
