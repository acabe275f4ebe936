"""Reading files of Gramine's own tools, whole and tampered with, and judging as the real tool did."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import FormatError, SealedDataError, Tampered, Truncated, WrongKey, WrongPath
from strongroom.room.files import ANY_PATH, open_sealed, verify_all

NODE = 4096


@pytest.fixture(scope="module")
def gramine(testdata: Path) -> Path:
    return testdata / "gramine"


@pytest.fixture(scope="module")
def vectors(gramine: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((gramine / "vectors.json").read_text())
    assert len(found["files"]) == 26
    assert len(found["tampered"]) == 38
    return found


@pytest.fixture(scope="module")
def wrap_key(gramine: Path) -> bytes:
    return (gramine / "wrap_key").read_bytes()


def test_reads_every_file_of_the_real_tools(vectors: dict[str, Any], gramine: Path, wrap_key: bytes) -> None:
    for vector in vectors["files"]:
        with open_sealed(gramine / vector["file"], wrap_key, sealed_path=vector["path"]) as reader:
            plain = reader.read()
            assert reader.version == vector["format_version"]
            assert reader.sealed_path == vector["path"]
            assert reader.size == len(plain) == vector["size"]
            assert hashlib.sha256(plain).hexdigest() == vector["plaintext_sha256"], vector["file"]


def tamper(raw: bytes, change: dict[str, Any], gramine: Path) -> bytes:
    data = bytearray(raw)
    match change["op"]:
        case "xor":
            data[change["offset"]] ^= change["value"]
        case "truncate":
            del data[change["length"] :]
        case "append_zeros":
            data += bytes(change["count"])
        case "swap_nodes":
            a, b = (slice(n * NODE, (n + 1) * NODE) for n in change["nodes"])
            data[a], data[b] = data[b], data[a]
        case "replace_node_from":
            at = slice(change["node"] * NODE, (change["node"] + 1) * NODE)
            data[at] = (gramine / change["from"]).read_bytes()[at]
        case "key" | "path":
            pass
        case other:
            raise AssertionError(other)
    return bytes(data)


def expected_error(change: dict[str, Any]) -> type[Exception]:
    """Which of our errors says what happened; the real tool is less exact."""
    if change["op"] == "truncate":
        return Truncated if change["length"] else FormatError
    if change["op"] == "append_zeros":
        return Truncated
    if change["what"].startswith(("file id", "major version")):
        return FormatError
    if change["op"] in {"path", "replace_node_from"}:
        return WrongPath
    if change["op"] == "key" or (change["op"] == "xor" and change["offset"] < NODE):
        return WrongKey
    return Tampered


def test_judges_every_tampered_file_as_the_real_tool(
    vectors: dict[str, Any], gramine: Path, wrap_key: bytes, tmp_path: Path
) -> None:
    seen = {"accepted": 0, "rejected": 0}
    for change in vectors["tampered"]:
        (tmp_path / "file.pf").write_bytes(tamper((gramine / change["file"]).read_bytes(), change, gramine))
        key = bytes.fromhex(change["wrap_key_hex"]) if change["op"] == "key" else wrap_key
        path = change.get("path", change["file"]) if change.get("check_path", True) else ANY_PATH
        if change["real_tool"] == "accepted":
            verify_all(tmp_path / "file.pf", key, sealed_path=path)
        else:
            with pytest.raises((SealedDataError, FormatError)) as refusal:
                verify_all(tmp_path / "file.pf", key, sealed_path=path)
            assert refusal.type is expected_error(change), change["what"]
        seen[change["real_tool"]] += 1
    assert seen["accepted"] >= 7
    assert seen["rejected"] >= 30


def test_metadata_of_a_longer_file_over_the_nodes_of_a_shorter_one(
    gramine: Path, wrap_key: bytes, tmp_path: Path
) -> None:
    short, long = ((gramine / f"v2/size_{n}.pf").read_bytes() for n in (100000, 1000000))
    (tmp_path / "file.pf").write_bytes(long[:NODE] + short[NODE:])
    with pytest.raises(Truncated):
        open_sealed(tmp_path / "file.pf", wrap_key, sealed_path=ANY_PATH)
    (tmp_path / "file.pf").write_bytes(short[:NODE] + long[NODE:])
    with pytest.raises(Tampered):
        open_sealed(tmp_path / "file.pf", wrap_key, sealed_path=ANY_PATH)


def test_every_single_flipped_bit_position_in_the_plain_header_is_judged(
    gramine: Path, wrap_key: bytes, tmp_path: Path
) -> None:
    raw = (gramine / "v1/size_100.pf").read_bytes()
    unauthenticated = {9}  # the minor version

    def refused(at: int, mask: int) -> bool:
        changed = bytearray(raw)
        changed[at] ^= mask
        (tmp_path / "file.pf").write_bytes(changed)
        try:
            verify_all(tmp_path / "file.pf", wrap_key, sealed_path="v1/size_100.pf")
        except (WrongKey, FormatError):
            return True
        return False

    accepted = {at for at in range(58) if not all(refused(at, 1 << bit) for bit in range(8))}
    assert accepted == unauthenticated
