"""Floor 4: what a model costs at given widths, as closed forms, and what may be left of it."""
