"""Floor 5: pruning of single weights: what a pattern of zeros is, which weights go, masks that stay, what they buy."""
