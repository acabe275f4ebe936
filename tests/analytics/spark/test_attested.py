"""Keys that are renewed by attesting again: revocation, an absent broker, secrets that show nothing."""

import pytest

from strongroom.analytics.spark.attested import Attested, AttestedKms
from strongroom.analytics.spark.evidence import Attester
from strongroom.errors import Finding, KeyReleaseError, PolicyRejected, StrongroomError, UnavailableError

KEY = "taxi/key/trips"
NOBODY = Attester(lambda report_data: b"", "simulated", "trips")


def released(**masters: bytes) -> Attested:
    keys = {KEY: b"m" * 32} | {f"taxi/key/{name}": key for name, key in masters.items()}
    return Attested(keys, "hush", None, None, NOBODY)


class Broker:
    """Answers with what is put into it, and counts."""

    def __init__(self) -> None:
        self.answers: list[Attested | StrongroomError] = []
        self.asked = 0

    def attest(self) -> Attested:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else released()
        if isinstance(answer, StrongroomError):
            raise answer
        return answer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def kms(broker: Broker, clock: Clock, pauses: list[float] | None = None) -> AttestedKms:
    pause = (pauses if pauses is not None else []).append
    return AttestedKms(broker.attest, released(), lifetime_s=300, clock=clock, pause=pause)


def test_attests_again_after_the_lifetime_only() -> None:
    broker, clock = Broker(), Clock()
    keys = kms(broker, clock)
    wrapped = keys.wrap(KEY, b"k" * 32)
    clock.now = 299
    assert keys.unwrap(KEY, wrapped) == b"k" * 32
    assert broker.asked == 0
    clock.now = 300
    assert keys.unwrap(KEY, wrapped) == b"k" * 32
    assert broker.asked == 1


def test_a_revoked_key_counts_after_the_lifetime() -> None:
    broker, clock = Broker(), Clock()
    keys = kms(broker, clock)
    wrapped = keys.wrap(KEY, b"k" * 32)
    broker.answers = [Attested({}, None, None, None, NOBODY)]
    clock.now = 301
    with pytest.raises(KeyReleaseError):
        keys.unwrap(KEY, wrapped)


def test_a_revoked_grant_ends_everything_and_is_asked_anew_each_time() -> None:
    broker, clock = Broker(), Clock()
    keys = kms(broker, clock)
    clock.now = 301
    broker.answers = [PolicyRejected([Finding("grant.none", "gone")])] * 2
    for _ in range(2):
        with pytest.raises(PolicyRejected):
            keys.wrap(KEY, b"k")
    assert broker.asked == 2


def test_a_lost_broker_is_asked_four_times_then_nothing_is_unwrapped() -> None:
    broker, clock = Broker(), Clock()
    pauses: list[float] = []
    keys = kms(broker, clock, pauses)
    clock.now = 301
    broker.answers = [UnavailableError("gone")] * 4
    with pytest.raises(UnavailableError):
        keys.wrap(KEY, b"k")
    assert broker.asked == 4
    assert pauses == [0.5, 1.0, 2.0]


def test_a_broker_that_comes_back_is_enough() -> None:
    broker, clock = Broker(), Clock()
    keys = kms(broker, clock)
    clock.now = 301
    broker.answers = [UnavailableError("gone")] * 3
    assert keys.wrap(KEY, b"k")


def test_shows_no_secret() -> None:
    assert "hush" not in repr(released())
    assert repr(b"m" * 32) not in repr(released())
