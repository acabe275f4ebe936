"""Fixtures shared by all tests: where the shared test data is."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does: no deadline. CI draws the same examples every time.
settings.register_profile(
    "strongroom", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("strongroom")

if TYPE_CHECKING:
    from tests.guest_double import AmdDouble, VtpmDouble

DEFAULT_TESTDATA = Path(__file__).resolve().parents[2] / "shared" / "testdata"


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder of the shared test data; skips, saying so, where it is absent."""
    folder = Path(os.environ.get("STRONGROOM_TESTDATA", DEFAULT_TESTDATA))
    if not folder.is_dir():
        pytest.skip(f"test data absent: {folder} (set STRONGROOM_TESTDATA)")
    return folder


@pytest.fixture(scope="session")
def guest_double() -> ModuleType:
    """The module with doubles of AMD and Azure; tests are no package, so it is loaded by its path."""
    path = Path(__file__).parent / "guest_double.py"
    spec = importlib.util.spec_from_file_location("guest_double", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def amd(guest_double: ModuleType) -> "AmdDouble":
    """Somebody who signs SEV-SNP reports as AMD does; making the keys takes a moment."""
    double: AmdDouble = guest_double.AmdDouble.create()
    return double


@pytest.fixture(scope="session")
def vtpm(guest_double: ModuleType) -> "VtpmDouble":
    """A virtual TPM."""
    double: VtpmDouble = guest_double.VtpmDouble()
    return double
