"""The life of a model: where versions are found, which are wanted, how they are loaded, leased, drained and dropped."""
