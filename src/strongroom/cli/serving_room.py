"""The room of a model server: entered when the broker answers, entered again when a key has changed."""

import sys
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

from strongroom.errors import UnavailableError, WrongKey

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
RENEW_WAIT_S: Final = 10.0


class OpenRoom(Protocol):
    """What is needed of a room."""

    def open(self, path: str) -> BinaryIO:
        """Open a sealed file."""

    def close(self) -> None:
        """Wipe the keys."""


def enter_when_possible(
    enter: Callable[[], OpenRoom], stop: threading.Event, wait_s: float, monotonic_s: Callable[[], float]
) -> OpenRoom:
    """Enter the room; while the broker does not answer, try again with growing pauses.

    Args:
        enter: Attests and fetches the keys.
        stop: Set when the process is told to end.
        wait_s: How long to try.
        monotonic_s: Clock that never goes back.

    Raises:
        UnavailableError: The broker did not answer in time.
        PolicyRejected: The broker refuses this code: trying again would not help.
        KeyReleaseError: The same.
    """
    until_s, pause_s = monotonic_s() + wait_s, FIRST_WAIT_S
    while True:
        try:
            return enter()
        except UnavailableError as error:
            if monotonic_s() + pause_s > until_s or stop.is_set():
                raise
            print(f"warning: {error.message}; trying again", file=sys.stderr)  # noqa: T201
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, LONGEST_WAIT_S)


class RenewingRoom:
    """Opens sealed files; a wrong key means that it was changed: then the room is entered again, once in a while.

    When the broker does not answer just then, that file does not open now; everything else goes on.

    Args:
        room: The room that was entered.
        enter: Enters it again.
        monotonic_s: Clock that never goes back.
    """

    def __init__(
        self, room: OpenRoom, enter: Callable[[], OpenRoom], monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._room = room
        self._enter = enter
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._entered_s = float("-inf")

    def open(self, path: str) -> BinaryIO:
        """Open a sealed file.

        Raises:
            SealedDataError: It does not open, with the newest keys either.
            WrongKey: So does the key, and the room was entered a moment ago.
            UnavailableError: Its key has changed and the broker does not answer.
        """
        before = self._room
        try:
            return before.open(path)
        except WrongKey:
            if not self._renew(before):
                raise
        return self._room.open(path)

    def _renew(self, before: OpenRoom) -> bool:
        """Whether there are other keys than a moment ago."""
        with self._lock:
            if self._room is not before:
                return True
            if self._monotonic_s() - self._entered_s < RENEW_WAIT_S:
                return False
            self._entered_s = self._monotonic_s()
            fresh = self._enter()
            self._room = fresh
        before.close()
        return True
