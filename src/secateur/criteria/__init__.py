"""Floor 4: criteria score units from weights, gradients or activations; one criterion a file, found by registration."""
