"""Floor 4: edits on models: mask, cut, fold, verify, save and load."""
