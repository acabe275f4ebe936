"""The pure part against files written by Gramine's own tools: derived values, byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import WrongKey
from strongroom.formats.sealed.geometry import NODE_SIZE, data_node_position, node_count, tree_node_position
from strongroom.formats.sealed.metadata import derive_metadata_key, open_metadata, parse_header, seal_metadata
from strongroom.formats.sealed.nodes import NodeGroup, open_node
from strongroom.formats.sealed.paths import normalise_path


@pytest.fixture(scope="module")
def gramine(testdata: Path) -> Path:
    return testdata / "gramine"


@pytest.fixture(scope="module")
def vectors(gramine: Path) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = json.loads((gramine / "vectors.json").read_text())["files"]
    assert len(files) == 26, "the vector set is complete"
    return files


@pytest.fixture(scope="module")
def wrap_key(gramine: Path) -> bytes:
    return (gramine / "wrap_key").read_bytes()


def stored_node(raw: bytes, position: int) -> bytes:
    return raw[position * NODE_SIZE : (position + 1) * NODE_SIZE]


def test_derived_values_of_every_vector(vectors: list[dict[str, Any]], gramine: Path, wrap_key: bytes) -> None:
    for vector in vectors:
        raw, derived = (gramine / vector["file"]).read_bytes(), vector["derived"]
        header = parse_header(stored_node(raw, 0))
        assert header.version == vector["format_version"]
        assert header.nonce.hex() == derived["metadata_nonce"]
        assert header.tag.hex() == derived["metadata_mac"]
        assert derive_metadata_key(wrap_key, header.nonce).hex() == derived["metadata_key"]
        metadata = open_metadata(header, wrap_key)
        assert metadata.path == vector["path"]
        assert metadata.size == vector["size"]
        assert metadata.root.hex() == derived["root_mht_key"] + derived["root_mht_mac"]
        assert len(raw) == vector["encrypted_size"] == NODE_SIZE * node_count(metadata.size)


def test_first_data_node_of_every_vector(vectors: list[dict[str, Any]], gramine: Path, wrap_key: bytes) -> None:
    seen = 0
    for vector in vectors:
        if "data_node_0_key" not in vector["derived"]:
            continue
        raw = (gramine / vector["file"]).read_bytes()
        root_entry = open_metadata(parse_header(stored_node(raw, 0)), wrap_key).root
        position = tree_node_position(0)
        root = open_node(root_entry, stored_node(raw, position), position)
        entry = root[:32]
        assert entry.hex() == vector["derived"]["data_node_0_key"] + vector["derived"]["data_node_0_mac"]
        group, plain = NodeGroup(), bytearray(NODE_SIZE)
        position = data_node_position(0)
        group.stored[:NODE_SIZE] = stored_node(raw, position)
        group.open(entry, memoryview(plain), position)
        assert plain == open_node(entry, stored_node(raw, position), position)
        seen += 1
    assert seen >= 10


def test_metadata_node_is_rebuilt_byte_for_byte(vectors: list[dict[str, Any]], gramine: Path, wrap_key: bytes) -> None:
    for vector in vectors:
        node = stored_node((gramine / vector["file"]).read_bytes(), 0)
        header = parse_header(node)
        again = seal_metadata(open_metadata(header, wrap_key), wrap_key, header.nonce, header.version)
        assert again == node, vector["file"]


def test_another_key_is_a_wrong_key(vectors: list[dict[str, Any]], gramine: Path) -> None:
    for vector in vectors:
        header = parse_header(stored_node((gramine / vector["file"]).read_bytes(), 0))
        with pytest.raises(WrongKey):
            open_metadata(header, bytes(16))


def test_path_as_given_to_the_real_tool_is_normalised_as_it_did(vectors: list[dict[str, Any]]) -> None:
    given = [vector for vector in vectors if "path_as_given_to_tool" in vector]
    assert given
    for vector in given:
        assert normalise_path(vector["path_as_given_to_tool"]) == vector["path"]
