"""Key hierarchy and wrapping; holders of the root key."""
