"""configfs-tsm, against a double of the kernel: a request folder has its attributes, each write counts."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.layout import size_of
from strongroom.formats.quote import TEE_TDX, Quote, QuoteHeader, parse_quote, serialize_quote
from strongroom.formats.report import TD_REPORT_10, parse_td_report
from strongroom.platforms.detect import detect
from strongroom.platforms.simulated import SimulatedPlatform
from strongroom.platforms.tdx import TdxPlatform, answers

REAL_MKDIR = Path.mkdir
REAL_RMDIR = Path.rmdir


@pytest.fixture
def make_quote(platform: SimulatedPlatform) -> Callable[[bytes], bytes]:
    """A TD quote as to form: real layout, no signature anybody would accept."""
    sgx = parse_quote(platform.quote(bytes(64)))

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
        self.foreign_writes = 0
        self.generation: dict[Path, int] = {}

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        REAL_MKDIR(path, mode)
        (path / "provider").write_text(self.provider)
        (path / "generation").write_text("0\n")
        (path / "inblob").touch()
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
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_quote: Callable[[bytes], bytes]) -> Iterator[Kernel]:
    double = Kernel(tmp_path / "report", make_quote)
    double.root.mkdir()
    monkeypatch.setattr(Path, "mkdir", lambda path, mode=0o777: double.mkdir(path, mode))
    monkeypatch.setattr(Path, "rmdir", lambda path: double.rmdir(path))  # noqa: PLW0108  (binds the path)
    monkeypatch.setattr("strongroom.platforms.tdx._system_write", double.write)
    yield double
    assert not list(double.root.iterdir()), "a request folder was left behind"


def test_quote_carries_the_report_data(kernel: Kernel) -> None:
    for data in (bytes(range(64)), b"\xee" * 64):
        quote = parse_quote(TdxPlatform(kernel.root).quote(data))
        assert (quote.tee, quote.body.report_data) == ("tdx", data)


def test_threads_use_requests_of_their_own(kernel: Kernel) -> None:
    results: dict[bytes, bytes] = {}

    def ask(data: bytes) -> None:
        results[data] = parse_quote(TdxPlatform(kernel.root).quote(data)).body.report_data

    threads = [threading.Thread(target=ask, args=(bytes([n]) * 64,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 6
    assert all(data == said for data, said in results.items())


def test_refuses_when_somebody_else_wrote_in_between(kernel: Kernel) -> None:
    kernel.foreign_writes = 1
    with pytest.raises(UnavailableError) as refusal:
        TdxPlatform(kernel.root).quote(bytes(64))
    assert refusal.value.code == "platform.tdx"


def test_refuses_a_quote_about_other_report_data(kernel: Kernel, make_quote: Callable[[bytes], bytes]) -> None:
    kernel.make_quote = lambda _: make_quote(b"\1" * 64)
    with pytest.raises(UnavailableError) as refusal:
        TdxPlatform(kernel.root).quote(bytes(64))
    assert refusal.value.code == "platform.quote"


@pytest.mark.parametrize("provider", ["sev_guest\n", "", "tdx_guest2\n"])
def test_another_providers_machine_is_not_tdx(kernel: Kernel, provider: str) -> None:
    kernel.provider = provider
    assert not answers(kernel.root)
    with pytest.raises(UnavailableError):
        TdxPlatform(kernel.root).quote(bytes(64))


def test_refuses_report_data_of_another_size(kernel: Kernel) -> None:
    with pytest.raises(ConfigurationError):
        TdxPlatform(kernel.root).quote(bytes(65))


def test_refuses_an_endless_outblob(kernel: Kernel) -> None:
    kernel.make_quote = lambda _: bytes(16 * 1024 + 1)
    with pytest.raises(UnavailableError):
        TdxPlatform(kernel.root).quote(bytes(64))


def test_without_configfs_it_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refusal:
        TdxPlatform(tmp_path / "absent").quote(bytes(64))
    assert "configfs" in (refusal.value.hint or "")


def test_found_only_where_the_provider_is_tdx(kernel: Kernel, tmp_path: Path) -> None:
    found = detect(gramine_folder=tmp_path, occlum_device=tmp_path / "no", tdx_root=kernel.root)
    assert found == TdxPlatform(kernel.root)
