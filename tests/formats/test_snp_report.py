"""SEV-SNP reports and Azure's HCL reports: whatever parses serializes back; anything else is a FormatError."""

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.certificate import parse_certificate
from strongroom.formats.evidence import MAGIC, parse_evidence, serialize_evidence
from strongroom.formats.hcl import attestation_key_of, parse_hcl_report
from strongroom.formats.snp_report import SnpTcb, parse_snp_report, serialize_snp_report
from strongroom.formats.tpm_quote import parse_tpm_quote

if TYPE_CHECKING:
    from pathlib import Path

    from tests.guest_double import AmdDouble, VtpmDouble

SNP_REPORT_SIZE = 1184


@pytest.fixture(scope="session")
def raw(amd: "AmdDouble") -> bytes:
    return serialize_snp_report(amd.report())


@pytest.mark.parametrize("name", ["test-report.bin", "test-vlek-report.bin"])
def test_real_reports_round_trip(testdata: "Path", name: str) -> None:
    raw = (testdata / "attestation" / "snp" / name).read_bytes()
    report = parse_snp_report(raw)
    assert serialize_snp_report(report) == raw
    assert report.signed == raw[:0x2A0]
    assert not report.debug


def test_a_real_report_says_what_its_machine_was(testdata: "Path") -> None:
    report = parse_snp_report((testdata / "attestation" / "snp" / "test-vlek-report.bin").read_bytes())
    assert (report.version, report.product, report.signing_key, report.vmpl) == (3, "milan", "vlek", 1)
    assert report.reported_tcb == SnpTcb(bootloader=4, tee=0, snp=24, microcode=217)


def test_turins_versions_stand_elsewhere(amd: "AmdDouble") -> None:
    from dataclasses import replace

    turin = replace(amd, product="turin").report()
    raw = serialize_snp_report(turin)
    assert raw[0x180:0x188] == bytes((3, 4, 1, 24, 0, 0, 0, 219))
    assert parse_snp_report(raw) == turin


@pytest.mark.parametrize(
    ("offset", "value", "code"),
    [
        (0x000, b"\x04", "snp_report.version"),
        (0x000, b"\x06", "snp_report.version"),
        (0x008 + 2, b"\x00", "snp_report.field"),  # the policy bit that is always one
        (0x008 + 7, b"\x80", "snp_report.field"),
        (0x030, b"\x04", "snp_report.field"),
        (0x030, b"\xff\xff\xff\xff", "snp_report.field"),  # the host asked for it
        (0x034, b"\x02", "snp_report.field"),
        (0x040, b"\x40", "snp_report.field"),
        (0x048, b"\x1c", "snp_report.field"),  # not signed
        (0x048, b"\x08", "snp_report.field"),
        (0x04C, b"\x01", "snp_report.reserved"),
        (0x182, b"\x01", "snp_report.reserved"),
        (0x188, b"\x17", "snp_report.field"),
        (0x18B, b"\x01", "snp_report.reserved"),
        (0x1EB, b"\x01", "snp_report.reserved"),
        (0x1F8, b"\x01", "snp_report.reserved"),  # mitigations, before version 5
        (0x330, b"\x01", "snp_report.reserved"),
        (0x49F, b"\x01", "snp_report.reserved"),
    ],
)
def test_refuses_what_amd_does_not_write(raw: bytes, offset: int, value: bytes, code: str) -> None:
    mutant = raw[:offset] + value + raw[offset + len(value) :]
    with pytest.raises(FormatError) as caught:
        parse_snp_report(mutant)
    assert caught.value.code == code


@pytest.mark.parametrize("size", [0, 1183, 1185, 4000])
def test_refuses_other_lengths(size: int) -> None:
    with pytest.raises(FormatError) as caught:
        parse_snp_report(bytes(size))
    assert caught.value.code == "snp_report.length"


@settings(max_examples=200)
@given(data=st.data())
def test_whatever_parses_serializes_back(raw: bytes, data: st.DataObject) -> None:
    mutant = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        mutant[data.draw(st.integers(0, SNP_REPORT_SIZE - 1))] = data.draw(st.integers(0, 255))
    try:
        report = parse_snp_report(bytes(mutant))
    except FormatError:
        return
    assert serialize_snp_report(report) == bytes(mutant)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_format_error(raw: bytes) -> None:
    for parse in (parse_tpm_quote, parse_hcl_report, attestation_key_of, lambda r: parse_certificate(r, code="c")):
        with pytest.raises(FormatError):
            parse(raw)
    for evidence in (raw, MAGIC + raw, MAGIC + b"\x01\x00" + raw):
        with pytest.raises(FormatError):
            parse_evidence(evidence)


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_parses_as_evidence_serializes_back(amd: "AmdDouble", vtpm: "VtpmDouble", data: st.DataObject) -> None:
    raw = bytearray(serialize_evidence(vtpm.parts(amd.parts(), bytes(64))))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        evidence = parse_evidence(bytes(raw))
    except FormatError:
        return
    assert serialize_evidence(evidence) == bytes(raw)


class TestHcl:
    def report(self, hardware: bytes, runtime: bytes, **changes: int) -> bytes:
        kind = changes.get("kind", 2)
        request = (20 + len(runtime), changes.get("version", 1), kind, changes.get("hash", 1), len(runtime))
        size = changes.get("size", 32 + 1184 + 20 + len(runtime))
        header = b"HCLA" + b"".join(n.to_bytes(4, "little") for n in (2, size, 2, changes.get("status", 0))) + bytes(12)
        body = hardware.ljust(1184, b"\0") + b"".join(n.to_bytes(4, "little") for n in request) + runtime
        return header + body + bytes(64)

    def test_both_kinds_are_read(self, raw: bytes, vtpm: "VtpmDouble") -> None:
        runtime = vtpm.runtime_data()
        snp = parse_hcl_report(self.report(raw, runtime))
        assert (snp.kind, snp.hardware_report, snp.runtime_data) == ("snp", raw, runtime)
        tdx = parse_hcl_report(self.report(b"\x81" * 1024, runtime, kind=4))
        assert (tdx.kind, tdx.hardware_report) == ("tdx", b"\x81" * 1024)
        assert attestation_key_of(runtime).public_numbers() == vtpm.key.public_key().public_numbers()

    @pytest.mark.parametrize(
        "changes", [{"kind": 3}, {"hash": 2}, {"version": 2}, {"status": 1}, {"size": 1300}, {"size": 0}]
    )
    def test_refuses_other_headers(self, raw: bytes, changes: dict[str, Any]) -> None:
        with pytest.raises(FormatError):
            parse_hcl_report(self.report(raw, b"{}", **changes))

    def test_refuses_data_after_the_report(self, raw: bytes) -> None:
        report = self.report(raw, b"{}")
        with pytest.raises(FormatError) as caught:
            parse_hcl_report(report[:-1] + b"\x01")
        assert caught.value.code == "hcl.trailing"
        with pytest.raises(FormatError):
            parse_hcl_report(self.report(b"\x01" * 1184, b"{}", kind=4))
