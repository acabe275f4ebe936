"""Gramine's pseudo-files, against a double that does at each system call what Gramine's documentation says."""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.quote import parse_quote
from strongroom.platforms.detect import detect
from strongroom.platforms.gramine import GraminePlatform, attestation_type, find_gramine
from strongroom.platforms.simulated import SimulatedPlatform

ROOT = Path("/dev/attestation")
SEALING = {"_sgx_mrenclave": b"E" * 16, "_sgx_mrsigner": b"S" * 16}


@dataclass
class Open:
    name: str
    content: bytes
    position: int = 0


@dataclass
class GramineTree:
    """`/dev/attestation` of one process, behind the four system calls.

    A write replaces the whole value, padded or cut to the file's size. The quote is made when `quote` is opened. Keys
    take exactly 16 bytes in one write; only keys of the manifest exist.
    """

    make_quote: Callable[[bytes], bytes]
    kind: bytes = b"dcap"
    keys: dict[str, bytes] = field(default_factory=lambda: {"default": b""})
    report_data: bytes = bytes(64)
    quotes: int = 0
    handles: dict[int, Open] = field(default_factory=dict)
    writes: list[tuple[str, int]] = field(default_factory=list)
    before_quote: Callable[[], None] = lambda: None
    _next: int = 1000

    def open(self, path: Path, flags: int) -> int:
        name = str(Path(path).relative_to(ROOT))
        content = self._content(name, writing=bool(flags & os.O_WRONLY))
        self._next += 1
        self.handles[self._next] = Open(name, content)
        return self._next

    def _content(self, name: str, *, writing: bool) -> bytes:
        files = {"attestation_type": self.kind, "user_report_data": self.report_data}
        files |= {f"keys/{key}": value for key, value in (self.keys | SEALING).items()}
        if name == "quote" and self.kind != b"none":
            self.before_quote()
            self.quotes += 1
            return self.make_quote(self.report_data)
        if name not in files:
            raise OSError(errno.ENOENT, name)
        if writing and name not in {"user_report_data", *(f"keys/{key}" for key in self.keys)}:
            raise OSError(errno.EACCES, name)
        return files[name]

    def write(self, descriptor: int, content: bytes) -> int:
        name = self.handles[descriptor].name
        self.writes.append((name, len(content)))
        if name == "user_report_data":
            self.report_data = content[:64].ljust(64, b"\0")
        elif len(content) != 16:
            raise OSError(errno.EACCES, name)
        else:
            self.keys[name.removeprefix("keys/")] = bytes(content)
        return len(content)

    def read(self, descriptor: int, size: int) -> bytes:
        file = self.handles[descriptor]
        chunk = file.content[file.position : file.position + min(size, 1000)]  # short reads are allowed
        file.position += len(chunk)
        return chunk

    def close(self, descriptor: int) -> None:
        del self.handles[descriptor]


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch, platform: SimulatedPlatform) -> GramineTree:
    double = GramineTree(platform.quote)
    calls = {name: getattr(double, name) for name in ("open", "read", "write", "close")}
    flags = {name: getattr(os, name) for name in ("O_RDONLY", "O_WRONLY", "O_CLOEXEC", "strerror")}
    monkeypatch.setattr("strongroom.platforms.gramine.os", SimpleNamespace(**calls, **flags))
    return double


def test_quote_carries_the_report_data_and_is_fresh_each_time(tree: GramineTree) -> None:
    for data in (bytes(range(64)), b"\xff" * 64, bytes(range(64))):
        assert parse_quote(GraminePlatform().quote(data)).body.report_data == data
    assert tree.quotes == 3
    assert not tree.handles


def test_report_data_goes_in_exactly_one_write_of_64_bytes(tree: GramineTree) -> None:
    GraminePlatform().quote(bytes(range(64)))
    assert tree.writes == [("user_report_data", 64)]


def test_threads_never_get_the_quote_of_another(tree: GramineTree) -> None:
    # Every quote gives the other threads time to overwrite the report data first; only the lock keeps them away.
    def dawdle() -> None:
        threading.Event().wait(0.01)

    tree.before_quote = dawdle
    started = threading.Barrier(8)
    results: dict[bytes, bytes] = {}

    def ask(data: bytes) -> None:
        started.wait(10)
        results[data] = parse_quote(GraminePlatform().quote(data)).body.report_data

    threads = [threading.Thread(target=ask, args=(bytes([n]) * 64,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 8
    assert all(data == said for data, said in results.items())


def test_refuses_a_quote_about_other_report_data(tree: GramineTree) -> None:
    def overwrite() -> None:
        tree.report_data = b"other" + bytes(59)

    tree.before_quote = overwrite  # another program of the enclave, without our lock
    with pytest.raises(UnavailableError) as refusal:
        GraminePlatform().quote(bytes(range(64)))
    assert refusal.value.code == "platform.quote"


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_refuses_report_data_gramine_would_pad_or_cut(tree: GramineTree, size: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        GraminePlatform().quote(bytes(size))
    assert refusal.value.code == "platform.report_data"
    assert not tree.writes


def test_attestation_switched_off_says_what_to_write_in_the_manifest(tree: GramineTree) -> None:
    tree.kind = b"none"
    with pytest.raises(ConfigurationError) as refusal:
        GraminePlatform().quote(bytes(64))
    assert "sgx.remote_attestation" in (refusal.value.hint or "")


def test_a_failing_quoting_enclave_is_unavailable_and_leaves_nothing_open(tree: GramineTree) -> None:
    def fail() -> None:
        raise OSError(errno.EPERM, "AESM")

    tree.before_quote = fail
    with pytest.raises(UnavailableError) as refusal:
        GraminePlatform().quote(bytes(64))
    assert refusal.value.code == "platform.gramine"
    assert not tree.handles


@pytest.mark.parametrize("content", [b"", bytes(8193), b"not a quote"])
def test_refuses_an_impossible_quote(tree: GramineTree, content: bytes) -> None:
    tree.make_quote = lambda _: content
    with pytest.raises(UnavailableError):
        GraminePlatform().quote(bytes(64))


def test_a_write_that_takes_only_a_part_is_not_continued(tree: GramineTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.platforms.gramine.os.write", lambda _descriptor, content: len(content) - 1)
    with pytest.raises(UnavailableError):
        GraminePlatform().quote(bytes(64))
    assert tree.quotes == 0


def test_sealing_keys(tree: GramineTree) -> None:
    assert GraminePlatform().sealing_key("mrenclave") == b"E" * 16
    assert GraminePlatform().sealing_key("mrsigner") == b"S" * 16


def test_provisioned_key_is_absent_until_it_is_set(tree: GramineTree) -> None:
    enclave = GraminePlatform()
    assert enclave.provisioned_key("default") is None
    enclave.provide_key("default", bytes(range(16)))
    assert enclave.provisioned_key("default") == bytes(range(16))
    assert tree.writes == [("keys/default", 16)]


@pytest.mark.parametrize("name", ["other", "_sgx_mrenclave", "../quote", "", "a/b", "x" * 65])
def test_refuses_a_key_the_manifest_does_not_name(tree: GramineTree, name: str) -> None:
    enclave = GraminePlatform()
    with pytest.raises(ConfigurationError) as reading:
        enclave.provisioned_key(name)
    with pytest.raises(ConfigurationError) as writing:
        enclave.provide_key(name, bytes(16))
    assert reading.value.code == writing.value.code == "platform.key_name"
    assert not tree.writes


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_refuses_a_key_that_is_not_16_bytes(tree: GramineTree, size: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        GraminePlatform().provide_key("default", bytes(size))
    assert refusal.value.code == "platform.key"
    assert not tree.writes


def test_found_only_where_it_can_attest(tree: GramineTree, tmp_path: Path) -> None:
    assert find_gramine() == GraminePlatform()
    assert detect(occlum_device=tmp_path / "no", configfs_root=tmp_path / "no") == GraminePlatform()
    tree.kind = b"none"
    assert attestation_type() == b"none"
    assert find_gramine() is None


def test_not_found_outside_of_gramine(tmp_path: Path) -> None:
    assert attestation_type(tmp_path) is None
    assert detect(gramine_folder=tmp_path, occlum_device=tmp_path / "no", configfs_root=tmp_path / "no") is None


def test_real_system_calls_reach_the_files(tmp_path: Path, platform: SimulatedPlatform) -> None:
    """The double replaces the system calls; here are the real ones, on a folder whose quote was made beforehand."""
    (tmp_path / "attestation_type").write_bytes(b"dcap")
    (tmp_path / "user_report_data").write_bytes(b"")
    (tmp_path / "quote").write_bytes(platform.quote(bytes(range(64))))
    quote = GraminePlatform(tmp_path).quote(bytes(range(64)))
    assert parse_quote(quote).body.report_data == (tmp_path / "user_report_data").read_bytes()
