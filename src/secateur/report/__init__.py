"""Floor 10: a study's rows as a summary, a table for the terminal, JSON, and one self-contained HTML page."""
