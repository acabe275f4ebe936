"""Bounds: rate of one address, places at the gate, sessions and tokens in memory."""

import threading
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.broker import limits
from strongroom.broker.limits import Busy, Gate, RateLimit, TooManyRequests
from strongroom.broker.sessions import MemorySessions
from strongroom.errors import VerificationError

if TYPE_CHECKING:
    from tests.broker.conftest import Clock


class TestRateLimit:
    def test_refills_with_time_up_to_the_burst(self, clock: "Clock") -> None:
        rate = RateLimit(2.0, 3, clock.monotonic_s)
        for _ in range(3):
            rate.take("10.0.0.1")
        with pytest.raises(TooManyRequests):
            rate.take("10.0.0.1")
        clock.advance(0.5)
        rate.take("10.0.0.1")
        clock.advance(3600)
        for _ in range(3):
            rate.take("10.0.0.1")
        with pytest.raises(TooManyRequests):
            rate.take("10.0.0.1")

    def test_addresses_do_not_disturb_each_other(self, clock: "Clock") -> None:
        rate = RateLimit(0.001, 1, clock.monotonic_s)
        rate.take("10.0.0.1")
        rate.take("10.0.0.2")
        with pytest.raises(TooManyRequests):
            rate.take("10.0.0.1")

    def test_one_customers_ipv6_network_is_one_address(self, clock: "Clock") -> None:
        rate = RateLimit(0.001, 1, clock.monotonic_s)
        rate.take("2001:db8::1")
        with pytest.raises(TooManyRequests):
            rate.take("2001:db8::ffff:2")
        rate.take("2001:db8:0:1::1")

    def test_memory_is_bounded(self, clock: "Clock", monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MAX_ADDRESSES", 10)
        rate = RateLimit(1, 1, clock.monotonic_s)
        for number in range(50):
            rate.take(f"10.0.0.{number}")
        assert len(rate._buckets) == 10
        rate.take("unknown")  # no address at all is one more


class TestGate:
    def test_turns_away_without_waiting_and_frees_the_place(self) -> None:
        gate = Gate(1)
        with gate.enter(), pytest.raises(Busy), gate.enter():
            pass
        with pytest.raises(RuntimeError), gate.enter():
            raise RuntimeError
        with gate.enter():
            pass


class TestSessions:
    def test_only_one_of_many_threads_gets_a_session(self, clock: "Clock") -> None:
        sessions = MemorySessions(90, 100, clock.monotonic_s)
        session = sessions.open("sgx", None)
        taken: list[Any] = []

        def take() -> None:
            try:
                taken.append(sessions.take(session.id))
            except VerificationError:
                pass

        threads = [threading.Thread(target=take) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert taken == [session]

    def test_old_sessions_make_room(self, clock: "Clock") -> None:
        sessions = MemorySessions(90, 2, clock.monotonic_s)
        first = sessions.open("sgx", None)
        clock.advance(60)
        sessions.open("sgx", None)
        with pytest.raises(Busy):
            sessions.open("sgx", None)
        clock.advance(30)
        sessions.open("sgx", None)
        with pytest.raises(VerificationError):
            sessions.take(first.id)

    def test_ids_and_nonces_are_random(self, clock: "Clock") -> None:
        sessions = MemorySessions(90, 1000, clock.monotonic_s)
        opened = [sessions.open("sgx", None) for _ in range(100)]
        assert len({session.id for session in opened}) == len({session.nonce for session in opened}) == 100
