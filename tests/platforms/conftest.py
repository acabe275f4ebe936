"""A simulated machine and dcap-qvl as the judge of what it makes."""

import datetime as dt
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dcap_qvl
import pytest

from strongroom.formats.layout import size_of
from strongroom.formats.quote import TEE_TDX, Quote, QuoteHeader, parse_quote, serialize_quote
from strongroom.formats.report import TD_REPORT_10, parse_td_report
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform

REAL_MKDIR = Path.mkdir
REAL_RMDIR = Path.rmdir
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


@pytest.fixture
def make_td_quote(machine: SimulatedMachine) -> Callable[[bytes], bytes]:
    """A TD quote as to form: real layout, no signature anybody would accept."""
    sgx = parse_quote(machine.platform(mr_enclave=bytes(32), isv_prod_id=0, isv_svn=0).quote(bytes(64)))

    def make(report_data: bytes) -> bytes:
        body = parse_td_report(bytes(size_of(TD_REPORT_10) - 64) + report_data)
        return serialize_quote(
            Quote(
                QuoteHeader(version=4, tee_type=TEE_TDX),
                body,
                sgx.signature,
                sgx.attestation_key,
                sgx.qe_report,
                sgx.qe_report_signature,
                sgx.qe_auth_data,
                sgx.certification,
            )
        )

    return make


class Kernel:
    """Gives a new request folder its attributes and makes the report when `outblob` is opened."""

    def __init__(self, root: Path, make_quote: Callable[[bytes], bytes]) -> None:
        self.root = root
        self.make_quote = make_quote
        self.provider = "tdx_guest\n"
        self.auxiliary: bytes | None = None
        self.foreign_writes = 0
        self.generation: dict[Path, int] = {}

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        REAL_MKDIR(path, mode)
        (path / "provider").write_text(self.provider)
        (path / "generation").write_text("0\n")
        (path / "inblob").touch()
        if self.auxiliary is not None:
            (path / "auxblob").write_bytes(self.auxiliary)
        self.generation[path] = 0

    def rmdir(self, path: Path) -> None:
        for attribute in list(path.iterdir()):
            attribute.unlink()
        REAL_RMDIR(path)

    def write(self, descriptor: int, content: bytes) -> int:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        assert path.name == "inblob"
        written = os.pwrite(descriptor, content, 0)
        self.generation[path.parent] += 1 + self.foreign_writes
        (path.parent / "generation").write_text(f"{self.generation[path.parent]}\n")
        (path.parent / "outblob").write_bytes(self.make_quote(content))
        return written


@pytest.fixture
def kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_td_quote: Callable[[bytes], bytes]
) -> Iterator[Kernel]:
    double = Kernel(tmp_path / "report", make_td_quote)
    double.root.mkdir()
    monkeypatch.setattr(Path, "mkdir", lambda path, mode=0o777: double.mkdir(path, mode))
    monkeypatch.setattr(Path, "rmdir", lambda path: double.rmdir(path))  # noqa: PLW0108  (binds the path)
    monkeypatch.setattr("strongroom.platforms.configfs._system_write", double.write)
    yield double
    assert not list(double.root.iterdir()), "a request folder was left behind"
