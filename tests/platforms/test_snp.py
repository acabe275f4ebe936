"""SEV-SNP through configfs-tsm, against a double of the kernel; the certificates come from the host."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.verify import verify_quote
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, UnavailableError
from strongroom.formats.certificate_table import VCEK, VLEK, parse_certificate_table
from strongroom.formats.evidence import SnpEvidence, parse_evidence
from strongroom.formats.snp_report import serialize_snp_report
from strongroom.platforms.detect import detect
from strongroom.platforms.snp import SnpPlatform, answers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.guest_double import AmdDouble
    from tests.platforms.conftest import Kernel

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REPORT_DATA = bytes(range(64))


def table(*certificates: tuple[Any, bytes]) -> bytes:
    offset = 24 * (len(certificates) + 1)
    entries, content = b"", b""
    for guid, der in certificates:
        entries += guid.bytes + (offset + len(content)).to_bytes(4, "little") + len(der).to_bytes(4, "little")
        content += der
    return entries + bytes(24) + content


@pytest.fixture
def guest(kernel: "Kernel", amd: "AmdDouble") -> "Kernel":
    """A double of the kernel of an SEV-SNP guest."""
    kernel.provider = "sev_guest\n"
    kernel.make_quote = lambda data: serialize_snp_report(amd.report(data))
    kernel.auxiliary = table((VLEK, amd.leaf("vlek")), (VCEK, amd.leaf())) + bytes(500)
    return kernel


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(StrongroomError) as caught:
        attempt()
    assert isinstance(caught.value, UnavailableError)
    return caught.value.code


def test_evidence_is_genuine(guest: "Kernel", amd: "AmdDouble") -> None:
    raw = SnpPlatform(guest.root).quote(REPORT_DATA)
    assert verify_quote(raw, amd.collateral(), amd.root, NOW).claims.report_data == REPORT_DATA


def test_the_report_says_which_certificate_belongs_to_it(guest: "Kernel", amd: "AmdDouble") -> None:
    guest.make_quote = lambda data: serialize_snp_report(amd.report(data, "vlek"))
    evidence = parse_evidence(SnpPlatform(guest.root).quote(REPORT_DATA))
    assert isinstance(evidence, SnpEvidence)
    assert evidence.endorsement_key == parse_certificate_table(guest.auxiliary or b"")[VLEK]


@pytest.mark.parametrize("auxiliary", [None, b"", bytes(24), b"\x01" * 24, b"\x01" * 30])
def test_a_host_without_certificates_is_named(guest: "Kernel", auxiliary: bytes | None) -> None:
    guest.auxiliary = auxiliary
    assert refusal(lambda: SnpPlatform(guest.root).quote(REPORT_DATA)) == "platform.snp"


def test_refuses_a_report_about_other_report_data(guest: "Kernel", amd: "AmdDouble") -> None:
    guest.make_quote = lambda data: serialize_snp_report(amd.report(bytes(64)))
    assert refusal(lambda: SnpPlatform(guest.root).quote(REPORT_DATA)) == "platform.quote"
    with pytest.raises(ConfigurationError):
        SnpPlatform(guest.root).quote(bytes(65))


@pytest.mark.parametrize("report", [b"", bytes(1184), bytes(20000)])
def test_refuses_what_is_no_report(guest: "Kernel", report: bytes) -> None:
    guest.make_quote = lambda data: report
    assert refusal(lambda: SnpPlatform(guest.root).quote(REPORT_DATA)) == "platform.snp"


def test_refuses_when_somebody_else_wrote_in_between(guest: "Kernel") -> None:
    guest.foreign_writes = 1
    assert refusal(lambda: SnpPlatform(guest.root).quote(REPORT_DATA)) == "platform.snp"


def test_another_providers_machine_is_not_snp(guest: "Kernel", tmp_path: "Path") -> None:
    nowhere: Any = {
        "gramine_folder": tmp_path / "a",
        "occlum_device": tmp_path / "b",
        "relay_socket": None,
        "tpm_device": tmp_path / "c",
    }
    found = detect(**nowhere, configfs_root=guest.root)
    assert found == SnpPlatform(guest.root)
    assert (found.name, found.tee, found.simulated) == ("snp", "snp", False)
    guest.provider = "tdx_guest\n"
    assert not answers(guest.root)
    assert refusal(lambda: SnpPlatform(guest.root).quote(REPORT_DATA)) == "platform.snp"


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_table_ends_in_certificates_or_a_format_error(raw: bytes) -> None:
    try:
        found = parse_certificate_table(raw)
    except FormatError:
        return
    assert all(der in raw for der in found.values())


def test_entries_may_not_point_outside() -> None:
    good = table((VCEK, b"der"))
    assert parse_certificate_table(good) == {VCEK: b"der"}
    for raw in (good[:-1], table((VCEK, b"a"), (VCEK, b"b")), good[:16] + bytes(4) + good[20:]):
        with pytest.raises(FormatError):
            parse_certificate_table(raw)
