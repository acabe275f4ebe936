"""Real quotes and certificates for the parsers."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def quotes(testdata: Path) -> dict[str, bytes]:
    """Every real quote of the test data by its file's stem."""
    found = {path.stem: path.read_bytes() for path in sorted((testdata / "attestation" / "quotes").glob("*.bin"))}
    assert len(found) >= 14
    return found


@pytest.fixture(scope="session")
def azure_quote(quotes: dict[str, bytes]) -> bytes:
    """A real SGX v3 quote with a PCK chain."""
    return quotes["sgx_v3_azure_icelake_swhardening"]
