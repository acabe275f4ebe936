"""What trials share."""

import random
import socket
from collections.abc import Sequence

import pytest

from strongroom.cli.trial import free_port
from strongroom.errors import UnavailableError


def test_a_port_that_somebody_has_is_not_taken_for_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        drawn: Sequence[int] = [taken.getsockname()[1], free]
        monkeypatch.setattr(random.SystemRandom, "sample", lambda *_: drawn)
        assert free_port() == free
        drawn = drawn[:1]
        with pytest.raises(UnavailableError):
            free_port()


def test_a_port_is_none_that_the_system_gives_to_whoever_asks() -> None:
    assert all(20_000 <= free_port() < 30_000 for _ in range(20))
