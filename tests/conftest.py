"""Fixtures shared by all tests: where the shared test data is."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does: no deadline. CI draws the same examples every time.
settings.register_profile(
    "strongroom", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("strongroom")

DEFAULT_TESTDATA = Path(__file__).resolve().parents[2] / "shared" / "testdata"


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder of the shared test data; skips, saying so, where it is absent."""
    folder = Path(os.environ.get("STRONGROOM_TESTDATA", DEFAULT_TESTDATA))
    if not folder.is_dir():
        pytest.skip(f"test data absent: {folder} (set STRONGROOM_TESTDATA)")
    return folder
