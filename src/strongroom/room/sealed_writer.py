"""Writing a sealed file front to back, in bounded memory; plaintext never reaches the disk.

A group is sealed and written as soon as its 96 data nodes are there. A tree node carries the keys of its children,
which come later in the file, so a tree node that turns out to have children is read back, completed, and encrypted
again under a fresh key when the file is closed: one tree node in 32. What stays in memory is one 32-byte entry for
each 384 KiB of data. The metadata node comes last.
"""

import io
import os
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from strongroom.formats.sealed.geometry import (
    CHILDREN_OFFSET,
    CHILDREN_PER_TREE_NODE,
    ENTRY_SIZE,
    GROUP_SIZE,
    HEAD_SIZE,
    KEY_SIZE,
    NODE_SIZE,
    first_child,
    tree_node_position,
)
from strongroom.formats.sealed.metadata import NONCE_SIZE, Metadata, seal_metadata
from strongroom.formats.sealed.nodes import NodeGroup, open_node, seal_node
from strongroom.room.new_file import NewFile
from strongroom.room.stored_nodes import pin_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """As typeshed declares io.BufferedWriter."""

else:
    _BinaryFile = io.BufferedIOBase


class SealedWriter(_BinaryFile):
    """A sealed file being written. Made by `strongroom.room.files.create_sealed`.

    Use it as a context manager: the file appears under its name at the end of the block, and not at all when the
    block raises, also when something inside the block (a `TextIOWrapper`, an Arrow writer) closed it earlier. Without
    a block `close` puts the file in place, `abort` gives up, and an object that is forgotten gives up too.

    Args:
        file: Where to write.
        key: The wrap key, exactly 16 bytes.
        sealed_path: Normalised path to bind to.
    """

    def __init__(self, file: NewFile, key: bytes, sealed_path: str) -> None:
        super().__init__()
        self.sealed_path = sealed_path
        """The path that the file is bound to."""
        self.pin = b""
        """SHA-256 of the metadata node, 32 bytes, once closed."""
        self._file = file
        self._key = key
        self._size = 0
        self._head = bytearray()
        self._pending = memoryview(bytearray(GROUP_SIZE))
        self._filled = 0
        self._group = NodeGroup()
        self._tree_entries = bytearray()
        self._in_block = False
        self._given_up = False

    @property
    def name(self) -> str:
        """The file's name on the untrusted disk, as any Python file has it."""
        return str(self._file.path)

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: "ReadableBuffer", /) -> int:
        """Append all of `data`.

        Args:
            data: Any contiguous buffer.

        Returns:
            Its length in bytes.

        Raises:
            ValueError: If the file is closed.
            ConfigurationError: If the system refuses; the file is then given up.
            UnavailableError: If the disk is full or fails; the file is then given up.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        rest = memoryview(data).cast("B")
        written = len(rest)
        try:
            if len(self._head) < HEAD_SIZE:
                room = HEAD_SIZE - len(self._head)
                self._head += rest[:room]
                rest = rest[room:]
            while rest:
                rest = self._take(rest)
        except BaseException:
            self.abort()
            raise
        self._size += written
        return written

    def _take(self, rest: memoryview) -> memoryview:
        if not self._filled and len(rest) >= GROUP_SIZE:
            self._seal_group(rest[:GROUP_SIZE])  # straight from the caller's memory
            return rest[GROUP_SIZE:]
        count = min(len(rest), GROUP_SIZE - self._filled)
        self._pending[self._filled : self._filled + count] = rest[:count]
        self._filled += count
        if self._filled == GROUP_SIZE:
            self._seal_group(self._pending)
            self._filled = 0
        return rest[count:]

    def _seal_group(self, plaintext: memoryview) -> None:
        nodes = len(plaintext) // NODE_SIZE
        keys = os.urandom(KEY_SIZE * (nodes + 1))
        entries = self._group.seal(keys[KEY_SIZE:], plaintext)
        tree_node, entry = seal_node(keys[:KEY_SIZE], entries.ljust(NODE_SIZE, b"\0"))
        position = tree_node_position(len(self._tree_entries) // ENTRY_SIZE)
        self._tree_entries += entry
        self._file.write_at(tree_node, position * NODE_SIZE)
        self._file.write_at(self._group.stored[: len(plaintext)], (position + 1) * NODE_SIZE)

    def _seal_rest(self) -> None:
        if self._filled:
            end = -(-self._filled // NODE_SIZE) * NODE_SIZE
            self._pending[self._filled : end] = bytes(end - self._filled)
            self._seal_group(self._pending[:end])
            self._filled = 0
        self._add_children()
        root = bytes(self._tree_entries[:ENTRY_SIZE]).ljust(ENTRY_SIZE, b"\0")
        metadata = Metadata(self.sealed_path, self._size, root, bytes(self._head))
        node = seal_metadata(metadata, self._key, os.urandom(NONCE_SIZE))
        self._file.write_at(node, 0)
        self.pin = pin_of(node)

    def _add_children(self) -> None:
        """Complete the tree nodes that have children, from the last to the root."""
        entries = self._tree_entries
        last = len(entries) // ENTRY_SIZE - 1
        for number in range((last - 1) // CHILDREN_PER_TREE_NODE, -1, -1):
            start = first_child(number) * ENTRY_SIZE
            children = entries[start : start + CHILDREN_PER_TREE_NODE * ENTRY_SIZE]
            if not children:
                continue
            own = slice(number * ENTRY_SIZE, (number + 1) * ENTRY_SIZE)
            position = tree_node_position(number)
            stored = self._file.read_at(NODE_SIZE, position * NODE_SIZE)
            node = bytearray(open_node(bytes(entries[own]), stored, position))
            node[CHILDREN_OFFSET : CHILDREN_OFFSET + len(children)] = children
            tree_node, entries[own] = seal_node(os.urandom(KEY_SIZE), node)
            self._file.write_at(tree_node, position * NODE_SIZE)

    def close(self) -> None:
        """Write the rest; put the file in place, unless inside a `with` block, whose end does that.

        Raises:
            ConfigurationError: If the system refuses; the file is then given up.
            UnavailableError: If the disk is full or fails; the file is then given up.
            WouldOverwrite: If a file of that name appeared meanwhile and may not be replaced.
            Tampered: If the disk gave back other bytes than were written to it; the file is then given up.
        """
        if self.closed:
            return
        try:
            self._seal_rest()
            self._file.finish()
        except BaseException:
            self.abort()
            raise
        self._forget()
        if not self._in_block:
            self._file.commit()

    def abort(self) -> None:
        """Give up: nothing of this file stays on disk, and an earlier file of that name is untouched."""
        self._given_up = True
        self._file.discard()
        self._forget()

    def _forget(self) -> None:
        self._pending[:] = bytes(len(self._pending))
        self._key = b""
        self._head.clear()
        self._tree_entries.clear()
        # What RawIOBase.close would do: mark as closed, without a call of our own close.
        super().close()

    def __enter__(self) -> "SealedWriter":
        self._in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()
            return
        self.close()
        if not self._given_up:
            self._file.commit()

    def __del__(self) -> None:
        # The interpreter would call close() and so put half a file in place.
        file = getattr(self, "_file", None)
        if file is not None:
            file.discard()
