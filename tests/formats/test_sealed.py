"""Geometry, paths, metadata node and node cryptography of the sealed-file format."""

from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError, Tampered, WrongKey
from strongroom.formats.sealed import geometry, metadata, nodes, paths

KEY = bytes(range(16))
SIZES = st.one_of(st.integers(0, 200 * 393216), st.sampled_from((0, 1, 3071, 3072, 3073, 7168, 7169, 396288, 396289)))


@pytest.mark.parametrize(
    ("size", "stored_nodes"),
    [(0, 1), (3072, 1), (3073, 3), (7168, 3), (7169, 4), (396288, 98), (396289, 100), (100000, 26), (1000000, 248)],
)
def test_node_count_of_known_sizes(size: int, stored_nodes: int) -> None:
    assert geometry.node_count(size) == stored_nodes


@given(SIZES)
def test_every_stored_node_has_exactly_one_use(size: int) -> None:
    data = [geometry.data_node_position(n) for n in range(geometry.data_node_count(size))]
    tree = [geometry.tree_node_position(n) for n in range(geometry.tree_node_count(size))]
    assert sorted([0, *data, *tree]) == list(range(geometry.node_count(size)))


@given(st.integers(1, 10**6))
def test_parent_and_first_child_agree(tree_node: int) -> None:
    parent, at = geometry.tree_parent(tree_node)
    assert parent < tree_node
    slot, rest = divmod(at - geometry.CHILDREN_OFFSET, geometry.ENTRY_SIZE)
    assert rest == 0
    assert 0 <= slot < geometry.CHILDREN_PER_TREE_NODE
    assert geometry.first_child(parent) + slot == tree_node


def test_metadata_layout_fills_the_node_without_overlap() -> None:
    edges = (0, metadata.SIZE_OFFSET, metadata.ROOT_OFFSET, metadata.HEAD_OFFSET, metadata.ENCRYPTED_SIZE)
    assert [b - a for a, b in pairwise(edges)] == [772, 8, 32, 3072]
    assert all(start + metadata.ENCRYPTED_SIZE <= geometry.NODE_SIZE for start in metadata.VERSIONS.values())


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("a", "a"),
        ("./a", "a"),
        ("a//b/", "a/b"),
        ("a/../b", "b"),
        ("a/b/../../c", "c"),
        ("../a", "../a"),
        ("../../a/..", "../.."),
        ("a/../../b", "../b"),
        ("/../a", "/a"),
        ("/a/./b/..//c", "/a/c"),
        ("//a", "/a"),
        ("/", "/"),
        ("", "."),
        (".", "."),
        ("a/..", "."),
        ("...", "..."),
        ("a..b/.c", "a..b/.c"),
    ],
)
def test_path_is_normalised_as_gramine_does(typed: str, normal: str) -> None:
    assert paths.normalise_path(typed) == normal


@given(st.text("ab./", max_size=30))
def test_normalising_twice_changes_nothing(typed: str) -> None:
    once = paths.normalise_path(typed)
    assert paths.normalise_path(once) == once
    assert once.startswith("/") == typed.startswith("/")


@pytest.mark.parametrize("typed", ["", ".", "/", "..", "a/..", "../..", "a\0b", "x" * 772, "\ud800"])
def test_refuses_a_path_that_no_file_can_be_bound_to(typed: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        paths.file_path(typed)
    assert refusal.value.code == "sealed.path"


def test_longest_path_fits() -> None:
    longest = "x" * 771
    node = metadata.seal_metadata(metadata.Metadata(longest, 0, bytes(32), b""), KEY, bytes(32))
    assert metadata.open_metadata(metadata.parse_header(node), KEY).path == longest


PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=190)


@settings(max_examples=100)
@given(
    path=PATHS,
    size=st.integers(0, metadata.MAX_SIZE),
    root=st.binary(min_size=32, max_size=32),
    head=st.binary(min_size=3072, max_size=3072),
    nonce=st.binary(min_size=32, max_size=32),
    version=st.sampled_from((1, 2)),
)
def test_metadata_round_trip(path: str, size: int, root: bytes, head: bytes, nonce: bytes, version: int) -> None:
    written = metadata.Metadata(path, size, root, head)
    node = metadata.seal_metadata(written, KEY, nonce, version)
    header = metadata.parse_header(node)
    assert len(node) == geometry.NODE_SIZE
    assert (header.version, header.nonce, header.flags) == (version, nonce, 0)
    assert metadata.open_metadata(header, KEY) == written


def test_path_bytes_that_are_not_utf8_survive() -> None:
    path = b"caf\xe9".decode("utf-8", "surrogateescape")
    node = metadata.seal_metadata(metadata.Metadata(path, 0, bytes(32), b""), KEY, bytes(32))
    assert metadata.open_metadata(metadata.parse_header(node), KEY).path == path


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(min_size=4096, max_size=4096),
        st.binary(min_size=4086, max_size=4086).map(lambda rest: b"GRAFS_PF\x01\x00" + rest),
        st.binary(min_size=4087, max_size=4087).map(lambda rest: b"GRAFS_PF\x02" + rest),
    )
)
def test_arbitrary_bytes_give_documented_errors_only(node: bytes) -> None:
    with pytest.raises((FormatError, WrongKey)):
        metadata.open_metadata(metadata.parse_header(node), KEY)


@settings(max_examples=100)
@given(st.binary(min_size=3884, max_size=3884))
def test_arbitrary_authenticated_content_gives_documented_errors_only(plain: bytes) -> None:
    # Whoever has the key may still have written nonsense.
    nonce = bytes(32)
    sealed = AESGCM(metadata.derive_metadata_key(KEY, nonce)).encrypt(nodes.ZERO_IV, plain, None)
    header = metadata.Header(1, nonce, sealed[-16:], 0, sealed[:-16])
    try:
        found = metadata.open_metadata(header, KEY)
    except FormatError as error:
        assert error.code == "sealed.path"
        assert b"\0" not in plain[:772]
    else:
        assert found.head == plain[-3072:]


def test_refuses_unknown_version_and_foreign_file() -> None:
    node = metadata.seal_metadata(metadata.Metadata("p", 0, bytes(32), b""), KEY, bytes(32))
    with pytest.raises(FormatError, match="version 3"):
        metadata.parse_header(node[:8] + b"\x03" + node[9:])
    with pytest.raises(FormatError, match="not a sealed file"):
        metadata.parse_header(b"PAR1" + node[4:])
    with pytest.raises(FormatError, match="not a sealed file"):
        metadata.parse_header(node[:-1])


@pytest.mark.parametrize("length", [0, 15, 17, 24, 32])
def test_refuses_a_key_of_another_length(length: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        metadata.derive_metadata_key(bytes(length), bytes(32))
    assert refusal.value.code == "key.length"


def test_refuses_lengths_that_would_shift_the_layout() -> None:
    for wrong in (metadata.Metadata("p", 0, bytes(31), b""), metadata.Metadata("p", 0, bytes(32), bytes(3073))):
        with pytest.raises(ValueError, match="32 bytes"):
            metadata.seal_metadata(wrong, KEY, bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        metadata.derive_metadata_key(KEY, bytes(31))


def test_secrets_stay_out_of_repr() -> None:
    shown = repr(metadata.Metadata("p", 5, b"K" * 32, b"plaintext"))
    assert "KKKK" not in shown
    assert "plaintext" not in shown


def keys_for(count: int) -> bytes:
    return b"".join(n.to_bytes(16, "big") for n in range(1, count + 1))


@settings(max_examples=30)
@given(st.integers(1, 96))
def test_group_round_trip_and_same_bytes_as_single_nodes(count: int) -> None:
    plain = bytes(range(256)) * (16 * count)
    keys, group = keys_for(count), nodes.NodeGroup()
    entries = group.seal(keys, memoryview(plain))
    stored = bytes(group.stored[: len(plain)])
    for slot in (0, count // 2, count - 1):
        at = slice(slot * 4096, (slot + 1) * 4096)
        one, entry = nodes.seal_node(keys[slot * 16 : slot * 16 + 16], plain[at])
        assert (one, entry) == (stored[at], entries[slot * 32 : slot * 32 + 32])
        assert nodes.open_node(entry, one, 0) == plain[at]
    out = bytearray(len(plain))
    group.open(entries, memoryview(out), 2)
    assert out == plain


@pytest.mark.parametrize("bad", [0, 1, 4])
def test_nothing_of_a_group_is_handed_out_when_one_node_fails(bad: int) -> None:
    group, plain = nodes.NodeGroup(), b"secret! " * 512 * 5
    entries = group.seal(keys_for(5), memoryview(plain))
    group.stored[bad * 4096 + 7] ^= 1
    out = bytearray(b"\xaa" * len(plain))
    with pytest.raises(Tampered, match=f"node {2 + bad} "):
        group.open(entries, memoryview(out), 2)
    assert out == bytes(len(plain))


def test_refuses_nodes_in_another_order_or_under_another_entry() -> None:
    group = nodes.NodeGroup()
    entries = group.seal(keys_for(2), memoryview(bytes(8192)))
    with pytest.raises(Tampered):
        group.open(entries[32:] + entries[:32], memoryview(bytearray(8192)), 2)
    node, entry = nodes.seal_node(KEY, bytes(4096))
    for wrong in (node[::-1], node[:-1], b""):
        with pytest.raises(Tampered):
            nodes.open_node(entry, wrong, 1)


def test_refuses_keys_or_rooms_that_do_not_match_the_nodes() -> None:
    group = nodes.NodeGroup()
    for keys, length in ((keys_for(1), 8192), (keys_for(2), 4096), (keys_for(1), 4095), (keys_for(97), 97 * 4096)):
        with pytest.raises(ValueError, match="one key"):
            group.seal(keys, memoryview(bytes(length)))
    for entries, length in ((bytes(32), 8192), (bytes(64), 4096), (bytes(32 * 97), 97 * 4096)):
        with pytest.raises(ValueError, match="one entry"):
            group.open(entries, memoryview(bytearray(length)), 2)
