"""Where a byte of the plaintext lies in a sealed file, and which tree node holds its key.

The first 3072 bytes of the data lie inside the metadata node. The rest is cut into data nodes of 4096 bytes. Each run
of 96 data nodes is preceded by its tree node (MHT, Merkle hash tree). The tree nodes form a 32-ary tree in
breadth-first order, and data hangs off every one of them, not only off the leaves.

Source: Gramine `common/src/protected_files/protected_files_format.h`.
"""

from typing import Final

NODE_SIZE: Final = 4096
"""Bytes of every stored node and of a data node's plaintext."""
HEAD_SIZE: Final = 3072
"""Bytes of plaintext inside the metadata node."""
KEY_SIZE: Final = 16
TAG_SIZE: Final = 16
ENTRY_SIZE: Final = KEY_SIZE + TAG_SIZE
"""A node's entry in its parent: AES-128 key, then GCM tag."""
DATA_PER_TREE_NODE: Final = 96
CHILDREN_PER_TREE_NODE: Final = 32
CHILDREN_OFFSET: Final = DATA_PER_TREE_NODE * ENTRY_SIZE
"""Where the entries of the child tree nodes start inside a tree node."""
GROUP_NODES: Final = 1 + DATA_PER_TREE_NODE
"""Stored nodes of a full group: a tree node and its data nodes."""
GROUP_SIZE: Final = DATA_PER_TREE_NODE * NODE_SIZE
"""Bytes of plaintext of a full group: 393216."""


def data_node_count(size: int) -> int:
    """Number of data nodes of a plaintext of `size` bytes; 0 up to 3072 bytes."""
    return max(0, -(-(size - HEAD_SIZE) // NODE_SIZE))


def tree_node_count(size: int) -> int:
    """Number of tree nodes of a plaintext of `size` bytes; 0 up to 3072 bytes."""
    return -(-data_node_count(size) // DATA_PER_TREE_NODE)


def node_count(size: int) -> int:
    """Number of stored nodes of a plaintext of `size` bytes, the metadata node included; at least 1."""
    return 1 + data_node_count(size) + tree_node_count(size)


def data_node_position(data_node: int) -> int:
    """Number of the stored node that holds data node `data_node` (from 0)."""
    return 2 + data_node + data_node // DATA_PER_TREE_NODE


def tree_node_position(tree_node: int) -> int:
    """Number of the stored node that holds tree node `tree_node` (0 is the root)."""
    return 1 + GROUP_NODES * tree_node


def tree_parent(tree_node: int) -> tuple[int, int]:
    """Parent of a tree node that is not the root.

    Args:
        tree_node: Number of the tree node, at least 1.

    Returns:
        The parent's number, and the offset of the child's 32-byte entry inside the parent.
    """
    parent, slot = divmod(tree_node - 1, CHILDREN_PER_TREE_NODE)
    return parent, CHILDREN_OFFSET + slot * ENTRY_SIZE


def first_child(tree_node: int) -> int:
    """Number of the first of up to 32 consecutive children of a tree node (which may not exist)."""
    return tree_node * CHILDREN_PER_TREE_NODE + 1
