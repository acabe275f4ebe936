"""Where evidence comes from: one module per kind of TEE."""
