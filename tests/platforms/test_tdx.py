"""configfs-tsm, against a double of the kernel: a request folder has its attributes, each write counts."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.quote import parse_quote
from strongroom.platforms.detect import detect
from strongroom.platforms.tdx import TdxPlatform, answers

if TYPE_CHECKING:
    from tests.platforms.conftest import Kernel


def test_quote_carries_the_report_data(kernel: "Kernel") -> None:
    for data in (bytes(range(64)), b"\xee" * 64):
        quote = parse_quote(TdxPlatform(kernel.root).quote(data))
        assert (quote.tee, quote.body.report_data) == ("tdx", data)


def test_threads_use_requests_of_their_own(kernel: "Kernel") -> None:
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


def test_refuses_when_somebody_else_wrote_in_between(kernel: "Kernel") -> None:
    kernel.foreign_writes = 1
    with pytest.raises(UnavailableError) as refusal:
        TdxPlatform(kernel.root).quote(bytes(64))
    assert refusal.value.code == "platform.tdx"


def test_refuses_a_quote_about_other_report_data(kernel: "Kernel", make_td_quote: Callable[[bytes], bytes]) -> None:
    kernel.make_quote = lambda _: make_td_quote(b"\1" * 64)
    with pytest.raises(UnavailableError) as refusal:
        TdxPlatform(kernel.root).quote(bytes(64))
    assert refusal.value.code == "platform.quote"


@pytest.mark.parametrize("provider", ["sev_guest\n", "", "tdx_guest2\n"])
def test_another_providers_machine_is_not_tdx(kernel: "Kernel", provider: str) -> None:
    kernel.provider = provider
    assert not answers(kernel.root)
    with pytest.raises(UnavailableError):
        TdxPlatform(kernel.root).quote(bytes(64))


def test_refuses_report_data_of_another_size(kernel: "Kernel") -> None:
    with pytest.raises(ConfigurationError):
        TdxPlatform(kernel.root).quote(bytes(65))


def test_refuses_an_endless_outblob(kernel: "Kernel") -> None:
    kernel.make_quote = lambda _: bytes(16 * 1024 + 1)
    with pytest.raises(UnavailableError):
        TdxPlatform(kernel.root).quote(bytes(64))


def test_without_configfs_it_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refusal:
        TdxPlatform(tmp_path / "absent").quote(bytes(64))
    assert "configfs" in (refusal.value.hint or "")


def test_found_only_where_the_provider_is_tdx(kernel: "Kernel", tmp_path: Path) -> None:
    found = detect(gramine_folder=tmp_path, occlum_device=tmp_path / "no", configfs_root=kernel.root)
    assert found == TdxPlatform(kernel.root)
