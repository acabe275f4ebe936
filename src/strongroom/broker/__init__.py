"""The key broker service: protocols, release decision, store and audit log."""
