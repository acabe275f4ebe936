"""What we write, decoded by a second decoder that is written from the format's description alone.

Gramine's tool can't be installed here, so this stands in for it: whole file in memory, recursive, no code shared with
`strongroom.formats.sealed`, and strict where Gramine is lenient (unused bytes must be zero, keys distinct).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import cmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strongroom.room.files import create_sealed

BOUNDARIES = (0, 1, 3071, 3072, 3073, 7168, 7169, 396288, 396289, 1_000_000)
TWO_LEVELS = 3072 + 393216 * 33 + 1
"""The first size with tree node 33, a child of a child of the root."""


def gcm_open(key: bytes, tag: bytes, stored: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.GCM(b"\0" * 12, tag)).decryptor()
    return decryptor.update(stored) + decryptor.finalize()


class WholeFile:
    """Everything of a sealed file, decoded."""

    def __init__(self, raw: bytes, wrap_key: bytes) -> None:
        assert len(raw) % 4096 == 0
        self.nodes = [raw[i : i + 4096] for i in range(0, len(raw), 4096)]
        self.used = {0}
        self.keys: list[bytes] = []
        first = self.nodes[0]
        magic, major, minor, nonce, tag = struct.unpack_from("<QBB32s16s", first)
        assert (magic, major, minor) == (0x46505F5346415247, 1, 0)
        assert first[3942:] == bytes(154)
        label = b"SGX-PROTECTED-FS-METADATA-KEY" + bytes(35)
        kdf = cmac.CMAC(algorithms.AES(wrap_key))
        kdf.update(struct.pack("<I64s32sI", 1, label, nonce, 128))
        meta = gcm_open(kdf.finalize(), tag, first[58:3942])
        path, self.size, root_key, root_tag, head = struct.unpack("<772sQ16s16s3072s", meta)
        self.path, _, after = path.partition(b"\0")
        assert after == bytes(len(after))
        assert head[self.size :] == bytes(max(0, 3072 - self.size))
        self.blocks: dict[int, bytes] = {}
        self.data_nodes = -(-max(0, self.size - 3072) // 4096)
        if self.data_nodes:
            self.walk(0, root_key, root_tag)
        else:
            assert root_key + root_tag == bytes(32)
        tail = b"".join(self.blocks[d] for d in range(self.data_nodes))
        rest = self.size - 3072
        assert tail[max(0, rest) :] == bytes(len(tail) - max(0, rest))
        self.plain = head[: self.size] + tail[: max(0, rest)]
        assert self.used == set(range(len(self.nodes)))

    def take(self, position: int, key: bytes, tag: bytes) -> bytes:
        assert position not in self.used
        self.used.add(position)
        self.keys.append(key)
        return gcm_open(key, tag, self.nodes[position])

    def walk(self, number: int, key: bytes, tag: bytes) -> None:
        plain = self.take(1 + 97 * number, key, tag)
        entries = [struct.unpack_from("16s16s", plain, 32 * i) for i in range(128)]
        for slot, (entry_key, entry_tag) in enumerate(entries[:96]):
            block = 96 * number + slot
            if block < self.data_nodes:
                self.blocks[block] = self.take(1 + 97 * number + 1 + slot, entry_key, entry_tag)
            else:
                assert entry_key + entry_tag == bytes(32)
        for slot, (entry_key, entry_tag) in enumerate(entries[96:]):
            child = 32 * number + 1 + slot
            if child * 96 < self.data_nodes:
                self.walk(child, entry_key, entry_tag)
            else:
                assert entry_key + entry_tag == bytes(32)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def write(path: Path, key: bytes, plain: bytes, piece: int, name: str = "models/x") -> WholeFile:
    with create_sealed(path, key, sealed_path=name) as writer:
        for part in pieces(plain, piece):
            assert writer.write(part) == len(part)
    return WholeFile(path.read_bytes(), key)


@pytest.mark.parametrize("size", BOUNDARIES)
@pytest.mark.parametrize("piece", [1000, 4096, 393216, 2_000_000])
def test_independent_decoder_reads_what_we_write(tmp_path: Path, size: int, piece: int) -> None:
    key, plain = os.urandom(16), os.urandom(size)
    decoded = write(tmp_path / "f", key, plain, piece)
    assert decoded.plain == plain
    assert decoded.path == b"models/x"
    assert len(set(decoded.keys)) == len(decoded.keys)
    assert bytes(16) not in decoded.keys


def test_independent_decoder_reads_two_levels_of_tree_nodes(tmp_path: Path) -> None:
    key, plain = os.urandom(16), bytes(TWO_LEVELS)
    decoded = write(tmp_path / "f", key, plain, 1 << 20)
    assert decoded.plain == plain
    assert len(set(decoded.keys)) == len(decoded.keys) == 34 + decoded.data_nodes


@pytest.mark.slow
def test_independent_decoder_reads_three_levels_of_tree_nodes(tmp_path: Path) -> None:
    size = 3072 + 393216 * (1 + 32 + 32 * 32) + 1
    key = os.urandom(16)
    with create_sealed(tmp_path / "f", key, sealed_path="x") as writer:
        for piece in pieces(bytes(1 << 24), 1 << 24):
            for _ in range(size >> 24):
                writer.write(piece)
        writer.write(bytes(size & 0xFFFFFF))
    decoded = WholeFile((tmp_path / "f").read_bytes(), key)
    assert decoded.size == size
    assert not any(decoded.plain)
    assert len(set(decoded.keys)) == len(decoded.keys)


def test_writing_the_same_twice_shares_no_stored_node(tmp_path: Path) -> None:
    key, plain = os.urandom(16), bytes(500_000)
    one, two = write(tmp_path / "a", key, plain, 99_999), write(tmp_path / "b", key, plain, 99_999)
    assert not set(one.keys) & set(two.keys)
    assert not set(one.nodes) & set(two.nodes)
    assert len(set(one.nodes)) == len(one.nodes)


def test_a_tree_node_that_is_written_twice_has_two_keys(tmp_path: Path) -> None:
    # With the zero nonce, one key for two contents would give their difference away. The entries of the data nodes
    # are the same in both, so under one key their ciphertext would be the same too.
    with create_sealed(tmp_path / "f", bytes(16), sealed_path="x") as writer:
        writer.write(bytes(3072 + 393216 * 2))
        (temporary,) = tmp_path.iterdir()
        draft = temporary.read_bytes()[4096:8192]
    final = (tmp_path / "f").read_bytes()[4096:8192]
    assert any(draft)
    assert not any(a == b for a, b in zip(pieces(draft, 16), pieces(final, 16), strict=True))


def test_stale_bytes_of_the_buffer_are_not_sealed_into_the_padding(tmp_path: Path) -> None:
    # A full group of ones stays in the writer's buffer when the last, short group of twos is padded.
    plain = b"\1" * (3072 + 393216) + b"\2" * 10
    assert write(tmp_path / "f", bytes(16), plain, 1000).plain == plain
