"""What runs inside the TEE: enter, open, create, and the broker's client."""
