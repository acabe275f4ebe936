"""The verifier: roots and collateral it may use, and processes that die or hang."""

import importlib
import json
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import DER_cert_to_PEM_cert

import pytest

from strongroom.attestation.claims import Claims
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker.collateral import collateral_name, find_collateral, install_collateral
from strongroom.broker.pcs import platform_of_quote
from strongroom.broker.verifier import Trust, VerifierPool, trust, verify_with
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, UnavailableError, VerificationError
from strongroom.formats.quote import parse_quote, serialize_quote
from strongroom.platforms.simulated import SimulatedMachine

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW)


@pytest.fixture(scope="module")
def quote(machine: SimulatedMachine) -> bytes:
    return machine.platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1).quote(bytes(64))


@pytest.fixture
def trusted(machine: SimulatedMachine, tmp_path: Path) -> Trust:
    install_collateral(tmp_path, "simulated", machine.collateral().encode())
    return Trust((INTEL_ROOT, TrustRoot("simulated", machine.root_der)), tmp_path)


class TestTrust:
    def test_simulated_quote_is_genuine_under_the_simulated_root_only(self, trusted: Trust, quote: bytes) -> None:
        assert verify_with(trusted, quote, NOW).simulated is True
        with pytest.raises(VerificationError) as refusal:
            verify_with(Trust((INTEL_ROOT,), trusted.collateral), quote, NOW)
        assert refusal.value.code == "collateral.none"

    def test_collateral_of_the_simulated_machine_under_intel_does_not_help(
        self, trusted: Trust, quote: bytes, machine: SimulatedMachine
    ) -> None:
        install_collateral(trusted.collateral, "intel", machine.collateral().encode())
        with pytest.raises(VerificationError):
            verify_with(Trust((INTEL_ROOT,), trusted.collateral), quote, NOW)
        assert verify_with(trusted, quote, NOW).simulated is True

    def test_settings_decide_which_roots_are_trusted(self, machine: SimulatedMachine, tmp_path: Path) -> None:
        (tmp_path / "root.der").write_bytes(machine.root_der)
        assert [root.kind for root in trust(tmp_path, None).roots] == ["intel"]
        assert [root.kind for root in trust(tmp_path, tmp_path / "root.der").roots] == ["intel", "simulated"]
        with pytest.raises(UnavailableError):
            trust(tmp_path, tmp_path / "absent.der")
        (tmp_path / "garbage.der").write_bytes(b"garbage")
        with pytest.raises(ConfigurationError):
            trust(tmp_path, tmp_path / "garbage.der")
        (tmp_path / "intel.der").write_bytes(INTEL_ROOT.certificate_der)
        with pytest.raises(ConfigurationError):
            trust(tmp_path, tmp_path / "intel.der")

    def test_expired_collateral_is_refused(self, trusted: Trust, quote: bytes) -> None:
        with pytest.raises(VerificationError):
            verify_with(trusted, quote, NOW + timedelta(days=800))

    def test_renewed_collateral_counts_at_once(self, trusted: Trust, quote: bytes, machine: SimulatedMachine) -> None:
        name = collateral_name(machine.collateral().encode())
        (trusted.collateral / "simulated" / name).write_text("{}")
        with pytest.raises(FormatError):
            verify_with(trusted, quote, NOW)
        install_collateral(trusted.collateral, "simulated", machine.collateral().encode())
        verify_with(trusted, quote, NOW)

    @pytest.mark.parametrize("name", ["sgx_v3_azure_icelake_swhardening", "tdx_v4_uptodate"])
    def test_quote_of_real_hardware_under_intels_root(self, testdata: Path, tmp_path: Path, name: str) -> None:
        folder = testdata / "attestation"
        cases = json.loads((folder / "index.json").read_text())["cases"]
        (case,) = [case for case in cases if case["id"] == name]
        install_collateral(tmp_path, "intel", (folder / case["collateral"]).read_bytes())
        now = datetime.fromtimestamp(case["verification_time"], UTC)
        claims = verify_with(Trust((INTEL_ROOT,), tmp_path), (folder / case["quote"]).read_bytes(), now)
        assert (claims.simulated, claims.tcb_status) == (False, case["tcb_status"])

    @pytest.mark.parametrize("garbage", [b"", b"x", bytes(48), bytes(5000)])
    def test_refuses_what_is_no_quote(self, trusted: Trust, garbage: bytes) -> None:
        with pytest.raises(FormatError):
            verify_with(trusted, garbage, NOW)

    @pytest.mark.parametrize("version", [1, 4])
    def test_refuses_a_pck_certificate_of_a_version_nobody_issues(
        self, trusted: Trust, quote: bytes, version: int
    ) -> None:
        parsed = parse_quote(quote)
        leaf = parsed.certification.chain_der[0]
        strange = leaf.replace(bytes.fromhex("a003020102"), bytes.fromhex("a0030201") + bytes((version,)), 1)
        old, new = (DER_cert_to_PEM_cert(der).encode() for der in (leaf, strange))
        assert old in parsed.certification.data
        data = parsed.certification.data.replace(old, new)
        raw = serialize_quote(replace(parsed, certification=replace(parsed.certification, data=data)))
        for attempt in (lambda: verify_with(trusted, raw, NOW), lambda: platform_of_quote(raw)):
            with pytest.raises(FormatError) as refusal:
                attempt()
            assert refusal.value.code == "quote.pem"


class TestCollateral:
    def test_file_is_named_by_what_it_is_about(self, machine: SimulatedMachine, tmp_path: Path) -> None:
        path = install_collateral(tmp_path, "intel", machine.collateral().encode())
        assert path.name == f"sgx-{machine.facts.fmspc.hex()}.json"
        assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written stays
        assert find_collateral(tmp_path, "intel", "sgx", machine.facts.fmspc) == machine.collateral().encode()

    def test_absent(self, tmp_path: Path) -> None:
        assert find_collateral(tmp_path, "intel", "sgx", bytes(6)) is None

    def test_shared_files_of_real_platforms(self, testdata: Path, tmp_path: Path) -> None:
        files = sorted((testdata / "attestation" / "collateral").glob("fmspc_*.json"))
        assert files
        for file in files:
            name = install_collateral(tmp_path, "intel", file.read_bytes()).name
            assert re.fullmatch(r"(sgx|tdx)-[0-9a-f]{12}\.json", name)

    @pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"x" * 3_000_000, b'{"tcb_info":"{}"}'])
    def test_refuses_what_is_no_collateral(self, tmp_path: Path, text: bytes) -> None:
        with pytest.raises(FormatError):
            install_collateral(tmp_path, "intel", text)

    def test_unreadable_and_unwritable(self, machine: SimulatedMachine, tmp_path: Path) -> None:
        path = install_collateral(tmp_path, "intel", machine.collateral().encode())
        path.unlink()
        path.mkdir()
        with pytest.raises(UnavailableError):
            find_collateral(tmp_path, "intel", "sgx", machine.facts.fmspc)
        (tmp_path / "simulated").write_text("a file")
        with pytest.raises(ConfigurationError):
            install_collateral(tmp_path, "simulated", machine.collateral().encode())


# Work for the pool's processes, which import it by name. The "quote" says what to do.
SCRIPTED = """
import os, time
from strongroom.errors import VerificationError

def scripted(trusted, quote, now):
    if quote == b"die":
        os._exit(3)
    if quote == b"hang":
        time.sleep(600)
    raise VerificationError(f"ran in {os.getpid()}", code="test.ran", hint="a hint")
"""


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Claims]]:
    (tmp_path / "scripted_work.py").write_text(SCRIPTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    work: Callable[..., Claims] = importlib.import_module("scripted_work").scripted
    yield work
    del sys.modules["scripted_work"]


MakePool = Callable[..., VerifierPool]


@pytest.fixture
def pool(trusted: Trust) -> Iterator[MakePool]:
    with ExitStack() as stack:

        def make(**changes: object) -> VerifierPool:
            pool = VerifierPool(trusted, **({"processes": 1, "timeout_s": 30.0} | changes))  # type: ignore[arg-type]  # a test's options
            stack.callback(pool.close)
            return pool

        yield make


class TestPool:
    def test_verifies_in_another_process(self, pool: MakePool, quote: bytes) -> None:
        verifier = pool()
        verifier.warm_up()
        claims = verifier.verify(quote, NOW)
        assert claims.simulated is True
        assert claims == verifier.verify(quote, NOW)
        with pytest.raises(FormatError):
            verifier.verify(b"garbage", NOW)

    def test_a_process_that_dies_is_an_error_not_a_hang(self, pool: MakePool, scripted: Callable[..., Claims]) -> None:
        verifier = pool(work=scripted)
        with pytest.raises(UnavailableError) as refusal:
            verifier.verify(b"die", NOW)
        assert refusal.value.code == "verifier.died"
        with pytest.raises(VerificationError):  # the next one is served again
            verifier.verify(b"next", NOW)

    def test_a_process_that_hangs_is_given_up(self, pool: MakePool, scripted: Callable[..., Claims]) -> None:
        verifier = pool(work=scripted, timeout_s=1.5)
        verifier.warm_up()
        started_s = time.monotonic()
        with pytest.raises(UnavailableError) as refusal:
            verifier.verify(b"hang", NOW)
        assert refusal.value.code == "verifier.timeout"
        assert time.monotonic() - started_s < 10

    def test_those_who_waited_behind_a_dead_process_get_an_error(
        self, pool: MakePool, scripted: Callable[..., Claims]
    ) -> None:
        verifier = pool(work=scripted)
        verifier.warm_up()

        def ask(quote: bytes) -> str:
            try:
                verifier.verify(quote, NOW)
            except StrongroomError as error:
                return error.code
            return "no error"

        with ThreadPoolExecutor(6) as threads:
            codes = list(threads.map(ask, [b"die", b"a", b"b", b"c", b"die", b"d"]))
        assert set(codes) <= {"verifier.died", "test.ran"}
        assert "verifier.died" in codes

    def test_errors_cross_the_process_boundary_whole(self, pool: MakePool, scripted: Callable[..., Claims]) -> None:
        verifier = pool(work=scripted)
        with pytest.raises(VerificationError) as refusal:
            verifier.verify(b"x", NOW)
        assert (refusal.value.code, refusal.value.hint) == ("test.ran", "a hint")
        assert str(os.getpid()) != refusal.value.message.rsplit(" ", 1)[1]

    def test_claims_cross_the_process_boundary_whole(self, trusted: Trust, quote: bytes) -> None:
        claims = verify_with(trusted, quote, NOW)
        assert pickle.loads(pickle.dumps(claims)) == claims
