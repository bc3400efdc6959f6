"""Floor 7: methods, one paper a file, found by registration."""
