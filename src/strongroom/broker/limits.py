"""Bounds on what strangers can make the broker do: request rate of one address, verifications at once."""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from strongroom.errors import UnavailableError

MAX_ADDRESSES: Final = 100_000
IPV6_PREFIX_BITS: Final = 64


class TooManyRequests(UnavailableError):
    """One client address asks too often."""

    default_code = "limit.rate"


class Busy(UnavailableError):
    """A bound on all clients together is reached."""

    default_code = "limit.busy"


class RateLimit:
    """A token bucket for every client address.

    Args:
        per_s: Sustained requests a second.
        burst: Requests that may come at once.
        monotonic_s: Clock that never goes back.
    """

    def __init__(self, per_s: float, burst: int, monotonic_s: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = burst
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Count one request.

        Args:
            address: The client's IP address; an IPv6 client counts by its /64 network, which is one customer's.

        Raises:
            TooManyRequests: The bucket is empty.
        """
        network = _network(address)
        now_s = self._monotonic_s()
        with self._lock:
            tokens, then_s = self._buckets.pop(network, (float(self._burst), now_s))
            tokens = min(float(self._burst), tokens + (now_s - then_s) * self._per_s)
            allowed = tokens >= 1
            self._buckets[network] = (tokens - 1 if allowed else tokens, now_s)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests("too many requests from this address")


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX_BITS), strict=False))
    return address


class Gate:
    """Lets a bounded number in at once and turns away the rest without waiting.

    Args:
        places: How many.
    """

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place during the block.

        Raises:
            Busy: No place is free.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("too many verifications at once")
        try:
            yield
        finally:
            self._places.release()
