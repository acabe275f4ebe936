"""Bytes to objects and back. Pure: no file, socket, clock, environment or randomness."""
