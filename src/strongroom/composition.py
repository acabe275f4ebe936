"""Reads settings once and wires the parts. The only module that may name the simulated platform."""


def enter() -> None:
    """Enter the room (being built)."""
