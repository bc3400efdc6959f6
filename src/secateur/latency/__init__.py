"""Floor 5.5: measures, on this machine and engine, the tables that predict latency."""
