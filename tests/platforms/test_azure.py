"""Azure's confidential VMs, against a double of the TPM, a software TPM where there is one, and of Azure's host."""

import base64
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.attestation.verify import verify_quote
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, UnavailableError
from strongroom.formats import tpm_commands
from strongroom.formats.endorsement_key import HARDWARE_ID
from strongroom.formats.evidence import VtpmEvidence, parse_evidence
from strongroom.formats.hcl import report_data_of
from strongroom.formats.pem import serialize_certificates_pem
from strongroom.formats.snp_report import serialize_snp_report
from strongroom.platforms import azure, azure_metadata, tpm
from strongroom.platforms.azure import ATTESTATION_KEY, HCL_REPORT_INDEX, AzurePlatform, find_azure
from strongroom.platforms.detect import detect

if TYPE_CHECKING:
    from tests.guest_double import AmdDouble, VtpmDouble

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REPORT_DATA = bytes(range(64))
OWNER = 0x40000001
SESSION = bytes.fromhex("00000009" + "40000009" + "0000" + "00" + "0000")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def sized(value: bytes) -> bytes:
    return u16(len(value)) + value


def hcl_report(hardware: bytes, runtime: bytes, kind: int = 2) -> bytes:
    request = (20 + len(runtime), 1, kind, 1, len(runtime))
    header = b"HCLA" + b"".join(n.to_bytes(4, "little") for n in (2, 1236 + len(runtime), 2, 0)) + bytes(12)
    return header + hardware.ljust(1184, b"\0") + b"".join(n.to_bytes(4, "little") for n in request) + runtime


class TpmDouble:
    """Answers the four commands as a TPM does, and can be told to misbehave."""

    def __init__(self, vtpm: "VtpmDouble", content: bytes) -> None:
        self.vtpm = vtpm
        self.content = content
        self.refuse = 0
        self.changes = 0
        self.attributes = 1 << 17
        self.mangle: Callable[[bytes], bytes] = lambda answer: answer

    def exchange(self, descriptor: int, command: bytes) -> bytes:
        assert int.from_bytes(command[2:6], "big") == len(command)
        code = int.from_bytes(command[6:10], "big")
        if self.refuse:
            return u16(0x8001) + u32(10) + u32(self.refuse)
        answers = {0x169: self.nv_public, 0x14E: self.nv_read, 0x17E: self.pcr_read, 0x158: self.quote}
        parameters = answers[code](command[10:])
        if command[:2] == b"\x80\x02":
            parameters = u32(len(parameters)) + parameters + sized(b"") + b"\x01" + sized(b"")
        return self.mangle(command[:2] + u32(10 + len(parameters)) + u32(0) + parameters)

    def nv_public(self, rest: bytes) -> bytes:
        assert rest == u32(HCL_REPORT_INDEX)
        public = rest + u16(0x0B) + u32(self.attributes) + sized(b"") + u16(len(self.content))
        return sized(public) + sized(b"\x00\x0b" + bytes(32))

    def nv_read(self, rest: bytes) -> bytes:
        authority, index, session = rest[:4], rest[4:8], rest[8:21]
        assert (index, session) == (u32(HCL_REPORT_INDEX), SESSION)
        assert authority == (u32(OWNER) if self.attributes & 1 << 17 else index)
        size, offset = int.from_bytes(rest[21:23], "big"), int.from_bytes(rest[23:25], "big")
        return sized(self.content[offset : offset + size])

    def pcr_read(self, rest: bytes) -> bytes:
        first = 0 if rest[7:] == b"\xff\x00\x00" else 8
        return u32(7) + rest + u32(8) + b"".join(sized(value) for value in self.vtpm.pcrs[first : first + 8])

    def quote(self, rest: bytes) -> bytes:
        assert rest[:17] == u32(ATTESTATION_KEY) + SESSION
        size = int.from_bytes(rest[17:19], "big")
        changes = {}
        if self.changes:
            self.changes -= 1
            changes["digest"] = bytes(32)
        attest = self.vtpm.attest(REPORT_DATA, **changes)
        assert rest[19 : 19 + size] in attest
        assert rest[19 + size :] == u16(0x10) + bytes.fromhex("00000001000b03ffff00")
        return sized(attest) + u16(0x14) + u16(0x0B) + sized(self.vtpm.sign(attest))


class Host:
    """Azure's metadata service on a port of its own."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.status = 200
        self.asked: list[tuple[str, bytes]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                assert self.headers["Metadata"] == "true"
                host.asked.append((self.path, self.rfile.read(int(self.headers.get("Content-Length", 0)))))
                body = host.answers.get(self.path, b"{}")
                self.send_response(host.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = answer  # noqa: N815  (the server calls it so)
            do_POST = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", int(self.server.server_address[1]))

    def give_vcek(self, der: bytes) -> None:
        pem = serialize_certificates_pem((der,)).decode()
        answer = {"vcekCert": pem, "tcbm": "DB18000000000004", "certificateChain": "ignored", "cacheControl": "86400"}
        self.answers["/metadata/THIM/amd/certification"] = json.dumps(answer).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def host(amd: "AmdDouble") -> Iterator[Host]:
    double = Host()
    double.give_vcek(amd.leaf())
    yield double
    double.close()
    azure._snp_evidence.cache_clear()
    azure._tdx_evidence.cache_clear()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "tpmrm0"
    path.touch()
    return path


@pytest.fixture
def double(amd: "AmdDouble", vtpm: "VtpmDouble", monkeypatch: pytest.MonkeyPatch) -> TpmDouble:
    runtime = vtpm.runtime_data()
    hardware = serialize_snp_report(amd.report(report_data_of(runtime)))
    double = TpmDouble(vtpm, hcl_report(hardware, runtime) + bytes(100))
    monkeypatch.setattr(tpm, "_exchange", double.exchange)
    return double


@pytest.fixture
def platform(double: TpmDouble, device: Path, host: Host) -> AzurePlatform:
    return AzurePlatform("snp", device, host.address)


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(StrongroomError) as caught:
        attempt()
    assert isinstance(caught.value, UnavailableError)
    return caught.value.code


def test_evidence_is_genuine(platform: AzurePlatform, amd: "AmdDouble", vtpm: "VtpmDouble") -> None:
    claims = verify_quote(platform.quote(REPORT_DATA), amd.collateral(), amd.root, NOW).claims
    assert (platform.name, platform.tee, claims.tee) == ("azure-snp", "az-snp-vtpm", "az-snp-vtpm")
    assert claims.report_data == REPORT_DATA
    assert claims.pcrs == vtpm.pcrs


def test_areas_that_their_own_password_opens_are_read_too(
    platform: AzurePlatform, double: TpmDouble, device: Path
) -> None:
    double.attributes = 1 << 18
    assert parse_evidence(platform.quote(REPORT_DATA)).report_data == REPORT_DATA
    double.attributes = 0
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.tpm"


def test_a_td_quote_comes_from_the_host(
    double: TpmDouble, device: Path, host: Host, make_td_quote: Callable[[bytes], bytes], vtpm: "VtpmDouble"
) -> None:
    runtime = vtpm.runtime_data()
    quote = make_td_quote(report_data_of(runtime))
    double.content = hcl_report(b"\x81" * 1024, runtime, kind=4)
    answer = {"quote": base64.urlsafe_b64encode(quote + bytes(300)).decode()}
    host.answers["/acc/tdquote"] = json.dumps(answer).encode()
    platform = AzurePlatform("tdx", device, host.address)
    evidence = parse_evidence(platform.quote(REPORT_DATA))
    assert (platform.name, evidence.tee) == ("azure-tdx", "az-tdx-vtpm")
    assert isinstance(evidence, VtpmEvidence)
    assert evidence.hardware.raw == quote  # the padding is gone
    sent = json.loads(host.asked[-1][1])["report"]
    assert base64.urlsafe_b64decode(sent + "=" * (-len(sent) % 4)) == b"\x81" * 1024
    asked = len(host.asked)
    platform.quote(REPORT_DATA)
    assert len(host.asked) == asked  # the same report has the same quote for a while
    double.content = hcl_report(b"\x82" * 1024, runtime, kind=4)
    host.answers["/acc/tdquote"] = json.dumps(
        {"quote": base64.urlsafe_b64encode(make_td_quote(bytes(64))).decode()}
    ).encode()
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.azure"


def test_the_host_is_asked_once_for_a_report(platform: AzurePlatform, host: Host) -> None:
    for _ in range(3):
        platform.quote(REPORT_DATA)
    assert len(host.asked) == 1


def test_a_certificate_of_other_firmware_or_another_chip_is_named(
    platform: AzurePlatform, host: Host, amd: "AmdDouble"
) -> None:
    for extensions in (
        amd.extensions(tcb=replace(amd.tcb, microcode=1)),
        amd.extensions() | {HARDWARE_ID: bytes(64)},
        {},
    ):
        host.give_vcek(amd.leaf(extensions=extensions))
        assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.azure"
    host.give_vcek(amd.leaf())
    assert parse_evidence(platform.quote(REPORT_DATA)).report_data == REPORT_DATA


def test_registers_that_change_in_between_are_read_again(platform: AzurePlatform, double: TpmDouble) -> None:
    double.changes = 2
    assert parse_evidence(platform.quote(REPORT_DATA)).report_data == REPORT_DATA
    double.changes = 3
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.tpm"


@pytest.mark.parametrize(
    "mangle",
    [
        lambda answer: answer[:-1],
        lambda answer: answer + b"\0",
        lambda answer: b"",
        lambda answer: b"\x80\x03" + answer[2:],
        lambda answer: answer[:2] + u32(9000) + answer[6:] + bytes(9000),
        lambda answer: answer[:10] + b"\xff\xff" + answer[12:],
    ],
)
def test_refuses_what_no_tpm_would_answer(
    platform: AzurePlatform, double: TpmDouble, device: Path, mangle: Callable[[bytes], bytes]
) -> None:
    double.mangle = mangle
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.tpm"
    assert find_azure(device) is None


def test_a_tpm_that_refuses_is_unavailable(platform: AzurePlatform, double: TpmDouble) -> None:
    double.refuse = 0x18B
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "tpm.refused"


def test_a_quote_about_something_else_is_noticed(platform: AzurePlatform, double: TpmDouble) -> None:
    assert refusal(lambda: AzurePlatform("snp", platform.device / "absent").quote(REPORT_DATA)) == "platform.tpm"
    with pytest.raises(ConfigurationError):
        platform.quote(bytes(63))


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"vcekCert": 1}', b'{"vcekCert": "-----"}', bytes(70000)])
def test_a_host_that_answers_something_else_is_unavailable(platform: AzurePlatform, host: Host, answer: bytes) -> None:
    host.answers["/metadata/THIM/amd/certification"] = answer
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.azure_metadata"


def test_a_host_that_fails_is_unavailable(platform: AzurePlatform, host: Host) -> None:
    host.status = 302
    assert refusal(lambda: platform.quote(REPORT_DATA)) == "platform.azure_metadata"
    with socket.create_server(("127.0.0.1", 0)) as free:
        unused = free.getsockname()[1]
    assert refusal(lambda: azure_metadata.fetch_endorsement_key(("127.0.0.1", unused))) == "platform.azure_metadata"


def test_detection_finds_it_and_nothing_elsewhere(double: TpmDouble, device: Path, tmp_path: Path) -> None:
    nowhere: Any = {
        "gramine_folder": tmp_path / "a",
        "occlum_device": tmp_path / "b",
        "relay_socket": None,
        "configfs_root": tmp_path / "c",
    }
    found = detect(**nowhere, tpm_device=device)
    assert found is not None
    assert found.name == "azure-snp"
    assert detect(**nowhere, tpm_device=tmp_path / "d") is None
    double.content = bytes(100)
    assert detect(**nowhere, tpm_device=device) is None


class SoftwareTpm:
    """swtpm behind a socket, set up as Azure sets its virtual TPM up."""

    def __init__(self, program: str, folder: Path) -> None:
        path = folder / "tpm"
        self.process = subprocess.Popen(
            [
                *(program, "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "startup-clear"),
                *("--server", f"type=unixio,path={path}", "--ctrl", f"type=unixio,path={folder / 'ctrl'}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        for _ in range(3000):
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                assert self.process.poll() is None, "swtpm ended"
                threading.Event().wait(0.01)

    def exchange(self, descriptor: int, command: bytes) -> bytes:
        self.socket.sendall(command)
        answer = self.socket.recv(4096)
        while len(answer) < int.from_bytes(answer[2:6], "big"):
            answer += self.socket.recv(4096)
        return answer

    def command(self, code: int, handles: bytes, parameters: bytes) -> bytes:
        rest = handles + SESSION + parameters
        answer = self.exchange(0, u16(0x8002) + u32(10 + len(rest)) + u32(code) + rest)
        assert answer[6:10] == bytes(4), f"{code:#x}: {answer[6:10].hex()}"
        return answer[10:]

    def make_key(self) -> int:
        """A restricted signing key at Azure's handle; its modulus."""
        public = (
            u16(0x0001) + u16(0x000B) + u32(0x00050472) + sized(b"")
            + u16(0x0010) + u16(0x0014) + u16(0x000B) + u16(2048) + u32(0) + sized(b"")
        )  # fmt: skip
        answer = self.command(0x131, u32(OWNER), sized(u16(0) + u16(0)) + sized(public) + sized(b"") + u32(0))
        handle, made = answer[:4], answer[10 : 10 + int.from_bytes(answer[8:10], "big")]
        self.command(0x120, u32(OWNER) + handle, u32(ATTESTATION_KEY))
        return int.from_bytes(made[-256:], "big")

    def write(self, content: bytes) -> None:
        attributes = 1 << 1 | 1 << 17 | 1 << 25
        public = u32(HCL_REPORT_INDEX) + u16(0x000B) + u32(attributes) + sized(b"") + u16(len(content))
        self.command(0x12A, u32(OWNER), sized(b"") + sized(public))
        for start in range(0, len(content), 512):
            block = content[start : start + 512]
            self.command(0x137, u32(OWNER) + u32(HCL_REPORT_INDEX), sized(block) + u16(start))

    def extend(self, index: int, digest: bytes) -> None:
        self.command(0x182, u32(index), u32(1) + u16(0x000B) + digest)

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)


def test_a_software_tpms_evidence_is_genuine(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    device: Path,
    host: Host,
    amd: "AmdDouble",
    vtpm: "VtpmDouble",
) -> None:
    program = shutil.which("swtpm")
    if program is None:
        pytest.skip("no software TPM here (swtpm)")
    software = SoftwareTpm(program, tmp_path_factory.mktemp("t"))
    try:
        monkeypatch.setattr(tpm, "_exchange", software.exchange)
        modulus = software.make_key().to_bytes(256, "big")
        runtime = vtpm.runtime_data(n=base64.urlsafe_b64encode(modulus).rstrip(b"=").decode())
        software.write(hcl_report(serialize_snp_report(amd.report(report_data_of(runtime))), runtime))
        software.extend(11, b"\x0b" * 32)
        platform = find_azure(device)
        assert platform == AzurePlatform("snp", device)
        raw = AzurePlatform("snp", device, host.address).quote(REPORT_DATA)
        claims = verify_quote(raw, amd.collateral(), amd.root, NOW).claims
        assert claims.report_data == REPORT_DATA
        assert claims.pcrs is not None
        assert claims.pcrs[0] == bytes(32)
        assert claims.pcrs[11] != bytes(32)
        assert refusal(lambda: tpm.read_nv(device, HCL_REPORT_INDEX, 100)) == "platform.tpm"
        assert refusal(lambda: tpm.read_nv(device, 0x01400009, 100)) == "tpm.refused"
        assert refusal(lambda: tpm.make_quote(device, 0x81000009, bytes(32))) == "tpm.refused"
    finally:
        software.close()


def test_parsers_of_answers_are_total(guest_double: ModuleType) -> None:
    for parse in (
        lambda raw: tpm_commands.parse_nv_public(raw, HCL_REPORT_INDEX),
        lambda raw: tpm_commands.parse_nv(raw, 10),
        lambda raw: tpm_commands.parse_pcrs(raw, 0),
        tpm_commands.parse_quote_answer,
    ):
        for size in range(64):
            for body in (bytes(size), u16(0x8001) + u32(size + 10) + bytes(size + 4), b"\xff" * size):
                with pytest.raises((FormatError, UnavailableError)):
                    parse(body)
