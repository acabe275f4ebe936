import os
from pathlib import Path

import pytest

from strongroom.room.files import create_sealed, open_sealed

KEY = b"SIXTEEN-BYTE-KEY"


@pytest.mark.parametrize(("durable", "synced"), [(True, 2), (False, 0)])
def test_only_a_durable_file_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, synced: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with create_sealed(tmp_path / "a", KEY, sealed_path="a", durable=durable) as file:
        file.write(b"content")
    assert len(calls) == synced
    with open_sealed(tmp_path / "a", KEY, sealed_path="a") as file:
        assert file.read() == b"content"


def test_a_file_that_is_not_durable_still_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with create_sealed(tmp_path / "a", KEY, sealed_path="a") as file:
        file.write(b"earlier")
    later = create_sealed(tmp_path / "a", KEY, sealed_path="a", overwrite=True, durable=False)
    with pytest.raises(RuntimeError), later as file:
        file.write(b"later")
        raise RuntimeError
    with open_sealed(tmp_path / "a", KEY, sealed_path="a") as file:
        assert file.read() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
