"""Floor 5: allocators turn scores, cost and a budget into a plan; one a file, found by registration."""
