"""Floor 2: what a model does to each axis of each tensor, read once from one forward on fake tensors."""
