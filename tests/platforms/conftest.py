"""A simulated machine and dcap-qvl as the judge of what it makes."""

import datetime as dt
import json
from collections.abc import Callable

import dcap_qvl
import pytest

from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)

Judge = Callable[..., dict[str, object]]


@pytest.fixture(scope="session")
def now() -> dt.datetime:
    return NOW


@pytest.fixture(scope="session")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW)


@pytest.fixture(scope="session")
def platform(machine: SimulatedMachine) -> SimulatedPlatform:
    return machine.platform(mr_enclave=b"\x11" * 32, mr_signer=b"\x22" * 32, isv_prod_id=3, isv_svn=4)


@pytest.fixture(scope="session")
def judge(machine: SimulatedMachine) -> Judge:
    """Claims of a quote as dcap-qvl sees them; ValueError when it refuses."""

    def verify(
        quote: bytes,
        *,
        collateral: str | None = None,
        root: bytes | None = None,
        at: dt.datetime = NOW,
        intel_root: bool = False,
    ) -> dict[str, object]:
        parts = dcap_qvl.QuoteCollateralV3.from_json(machine.collateral() if collateral is None else collateral)
        verifier = dcap_qvl.QuoteVerifier() if intel_root else dcap_qvl.QuoteVerifier(root or machine.root_der)
        seconds = int(at.timestamp())
        claims = verifier.verify_with_policy(quote, parts, seconds, dcap_qvl.QuotePolicy.claims_only(seconds))
        value: dict[str, object] = json.loads(claims.to_json())
        return value

    return verify
