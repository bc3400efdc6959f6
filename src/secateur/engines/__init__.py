"""Floor 2.5: engines run a torch model for real on this machine, and say how long it takes; one a file."""
