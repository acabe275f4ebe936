"""The owner's memory of the log: what a log that is consistent in itself can't show."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.log_head import LogHead, continuing, read_head, write_head
from strongroom.broker.records import Record
from strongroom.errors import ConfigurationError, FormatError, VerificationError

RECORDS = [Record(seq, b"{}", hashlib.sha256(bytes([seq])).digest()) for seq in range(1, 5)]


def head_of(record: Record) -> LogHead:
    return LogHead(record.seq, record.leaf_hash)


@pytest.mark.parametrize("head", [None, *map(head_of, RECORDS)])
def test_a_log_that_goes_on_is_handed_through(head: LogHead | None) -> None:
    assert list(continuing(RECORDS, head)) == RECORDS


@pytest.mark.parametrize("kept", range(4))
def test_notices_a_log_that_was_cut_off(kept: int) -> None:
    with pytest.raises(VerificationError) as refusal:
        list(continuing(RECORDS[:kept], head_of(RECORDS[-1])))
    assert refusal.value.code == "audit.rolled_back"
    assert refusal.value.hint


@pytest.mark.parametrize("seen", RECORDS)
def test_notices_a_log_that_was_rolled_back_and_went_on(seen: Record) -> None:
    other = LogHead(seen.seq, bytes(32))
    with pytest.raises(VerificationError) as refusal:
        list(continuing(RECORDS, other))
    assert refusal.value.code == "audit.rolled_back"


def test_what_is_written_reads_back_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "log-head.json"
    assert read_head(path) is None
    for record in RECORDS:
        write_head(path, head_of(record))
        assert read_head(path) == head_of(record)
    assert [file.name for file in tmp_path.iterdir()] == ["log-head.json"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"seq":1}',
        '{"seq":0,"leaf_hash":"' + "00" * 32 + '"}',
        '{"seq":true,"leaf_hash":"' + "00" * 32 + '"}',
        '{"seq":1,"leaf_hash":"' + "00" * 31 + '"}',
        '{"seq":1,"leaf_hash":"' + "zz" * 32 + '"}',
        '{"seq":1,"leaf_hash":"' + "00" * 32 + '","more":1}',
        '{"seq":1,"leaf_hash":5}',
        " " * 2000,
    ],
)
def test_refuses_a_memory_that_was_tampered_with_instead_of_forgetting(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log-head.json"
    path.write_text(text)
    with pytest.raises(FormatError):
        read_head(path)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_head_or_the_documented_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("head") / "log-head.json"
    path.write_bytes(raw)
    try:
        read_head(path)
    except FormatError:
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write"):
        write_head(tmp_path / "absent" / "log-head.json", head_of(RECORDS[0]))
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_head(tmp_path)
