"""Occlum's device, against a double of the ioctl that reads and writes the caller's memory as Occlum does."""

import ctypes
import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.occlum import GENERATE_QUOTE, GET_QUOTE_SIZE, parse_buffers
from strongroom.formats.quote import parse_quote
from strongroom.platforms.detect import detect
from strongroom.platforms.occlum import OcclumPlatform, answers
from strongroom.platforms.simulated import SimulatedPlatform


class OcclumDevice:
    def __init__(self, make_quote: Callable[[bytes], bytes]) -> None:
        self.make_quote = make_quote
        self.size = 8192
        self.claimed: int | None = None

    def ioctl(self, _descriptor: int, command: int, argument: bytearray, mutate: bool) -> int:
        assert mutate
        if command == GET_QUOTE_SIZE:
            argument[:] = self.size.to_bytes(4, "little")
        elif command == GENERATE_QUOTE:
            self._generate(bytes(argument))
        else:
            raise OSError(errno.ENOTTY, "unknown command")
        return 0

    def _generate(self, argument: bytes) -> None:
        buffers = parse_buffers(argument)
        quote = self.make_quote(ctypes.string_at(buffers.report_data, 64))
        room = int.from_bytes(ctypes.string_at(buffers.quote_len, 4), "little")
        if len(quote) > room:
            raise OSError(errno.EINVAL, "buffer too small")
        ctypes.memmove(buffers.quote_buf, quote, len(quote))
        ctypes.memmove(buffers.quote_len, (self.claimed or len(quote)).to_bytes(4, "little"), 4)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, platform: SimulatedPlatform) -> OcclumDevice:
    double = OcclumDevice(platform.quote)
    monkeypatch.setattr(fcntl, "ioctl", double.ioctl)
    return double


@pytest.fixture
def enclave(device: OcclumDevice, tmp_path: Path) -> OcclumPlatform:
    (tmp_path / "sgx").touch()
    return OcclumPlatform(tmp_path / "sgx")


def test_quote_carries_the_report_data(enclave: OcclumPlatform) -> None:
    for data in (bytes(range(64)), b"\xee" * 64):
        assert parse_quote(enclave.quote(data)).body.report_data == data


def test_unused_end_of_the_buffer_is_not_part_of_the_quote(enclave: OcclumPlatform, device: OcclumDevice) -> None:
    assert parse_quote(enclave.quote(bytes(64))).padding == 0
    assert len(enclave.quote(bytes(64))) < device.size


def test_refuses_report_data_of_another_size(enclave: OcclumPlatform) -> None:
    with pytest.raises(ConfigurationError):
        enclave.quote(bytes(63))


def test_refuses_a_quote_about_other_report_data(
    enclave: OcclumPlatform, device: OcclumDevice, platform: SimulatedPlatform
) -> None:
    device.make_quote = lambda _: platform.quote(b"\1" * 64)
    with pytest.raises(UnavailableError) as refusal:
        enclave.quote(bytes(64))
    assert refusal.value.code == "platform.quote"


@pytest.mark.parametrize("size", [0, 16 * 1024 + 1, 2**32 - 1])
def test_refuses_an_impossible_buffer_size(enclave: OcclumPlatform, device: OcclumDevice, size: int) -> None:
    device.size = size
    with pytest.raises(UnavailableError):
        enclave.quote(bytes(64))


def test_refuses_a_quote_longer_than_the_buffer(enclave: OcclumPlatform, device: OcclumDevice) -> None:
    device.claimed = device.size + 1
    with pytest.raises(UnavailableError):
        enclave.quote(bytes(64))


def test_a_failing_quoting_enclave_is_unavailable(enclave: OcclumPlatform, device: OcclumDevice) -> None:
    device.size = 16
    with pytest.raises(UnavailableError) as refusal:
        enclave.quote(bytes(64))
    assert refusal.value.code == "platform.occlum"


def test_found_where_the_device_answers(enclave: OcclumPlatform, tmp_path: Path) -> None:
    found = detect(gramine_folder=tmp_path, occlum_device=tmp_path / "sgx", configfs_root=tmp_path / "no")
    assert found == enclave


def test_not_found_where_dev_sgx_is_a_folder_or_another_device(tmp_path: Path) -> None:
    assert not answers(tmp_path)
    assert not answers(Path("/dev/null"))
    assert not answers(tmp_path / "absent")
