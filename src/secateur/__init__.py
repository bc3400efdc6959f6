"""Prune any PyTorch model by any published method, to an exact budget, and prove that nothing else changed."""
