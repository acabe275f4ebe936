import hashlib
from pathlib import Path

import pytest

from strongroom.errors import UnavailableError
from strongroom.loan.service.spool import Spool

TELLTALE = b"person_income,MORTGAGE," * 50


def on_disk(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, 1000, 1001, 300_000])
def test_an_upload_reads_back_from_memory_or_disk(tmp_path: Path, size: int) -> None:
    content = (TELLTALE * (size // len(TELLTALE) + 1))[:size]
    spool = Spool(1000, tmp_path)
    incoming = spool.receive()
    for start in range(0, size, 700):
        incoming.write(content[start : start + 700])
    with incoming.finish() as upload:
        assert (upload.size, upload.digest) == (size, hashlib.sha256(content).hexdigest())
        assert upload.file.read() == content
        upload.file.seek(0)
        assert upload.file.read(10) == content[:10]
        assert on_disk(tmp_path) == []
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_disk_meanwhile_is_sealed(tmp_path: Path) -> None:
    spool = Spool(1000, tmp_path)
    incoming = spool.receive()
    for _ in range(1000):
        incoming.write(TELLTALE)
    stored = b"".join(on_disk(tmp_path))
    assert len(stored) > 500_000
    assert b"person_income" not in stored
    assert b"MORTGAGE" not in stored
    incoming.abort()
    assert on_disk(tmp_path) == []
    spool.close()


def test_short_uploads_never_touch_the_disk(tmp_path: Path) -> None:
    spool = Spool(1000, tmp_path)
    incoming = spool.receive()
    assert not incoming.needs_disk(1000)
    incoming.write(b"x" * 1000)
    assert incoming.needs_disk(1)
    assert on_disk(tmp_path) == []
    incoming.finish().close()
    spool.close()


def test_a_full_disk_ends_the_upload_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    spool = Spool(1000, tmp_path)
    incoming = spool.receive()
    with pytest.raises(UnavailableError):
        for _ in range(1000):
            incoming.write(TELLTALE)
    incoming.abort()
    assert on_disk(tmp_path) == []
    spool.close()
