"""Reading a sealed file at any place, in bounded memory; every node is verified before a byte of it is handed out."""

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from strongroom.errors import SealedDataError, Truncated
from strongroom.formats.sealed.geometry import (
    DATA_PER_TREE_NODE,
    ENTRY_SIZE,
    GROUP_SIZE,
    HEAD_SIZE,
    NODE_SIZE,
    data_node_count,
    data_node_position,
    node_count,
    tree_node_position,
    tree_parent,
)
from strongroom.formats.sealed.metadata import Header, Metadata
from strongroom.formats.sealed.nodes import NodeGroup, open_node
from strongroom.room.stored_nodes import StoredNodes, pin_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_CACHED_TREE_NODES: Final = 1024
"""4 MiB of tree nodes, which cover 384 MiB of data."""


class SealedNodes(io.RawIOBase):
    """The plaintext as a raw, seekable, read-only stream. Not for use by two threads at once; `SealedReader` is.

    Args:
        stored: The nodes on disk; closed with the stream.
        metadata: The authenticated metadata.

    Raises:
        Truncated: If the file on disk is shorter than the metadata says.
        Tampered: If the root of the hash tree is not the one that was sealed.
    """

    def __init__(self, stored: StoredNodes, metadata: Metadata) -> None:
        super().__init__()
        self.size = metadata.size
        self.sealed_path = metadata.path
        self.host_size = stored.host_size
        self.pin = pin_of(stored.first)
        self._stored = stored
        self._metadata = metadata
        self._position = 0
        self._group: NodeGroup | None = None
        self._tree_nodes: dict[int, bytes] = {}
        self._last = -1, b""
        needed = node_count(self.size) * NODE_SIZE
        if stored.host_size < needed:
            raise Truncated(
                f"{stored.path} is cut: {stored.host_size} bytes on disk, {needed} needed",
                hint="fetch the file again from a good copy",
            )
        if data_node_count(self.size):
            self._tree_node(0)

    @property
    def name(self) -> str:
        """The file's name on the untrusted disk, as any Python file has it."""
        return self._stored.path

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position in the plaintext, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, which may lie after the end.

        Args:
            offset: In bytes.
            whence: `os.SEEK_SET`, `os.SEEK_CUR` or `os.SEEK_END`.

        Returns:
            The new position.

        Raises:
            ValueError: If the position is negative or `whence` unknown.
        """
        self._refuse_closed()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}
        if whence not in bases or bases[whence] + offset < 0:
            raise ValueError(f"can't seek to {offset} from {whence}")
        self._position = bases[whence] + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill the buffer from the current position; short only at the end of the data or before an altered node.

        Args:
            buffer: Any writable contiguous buffer.

        Returns:
            Number of bytes.

        Raises:
            ValueError: If the stream is closed.
            SealedDataError: `Tampered` if a node is not the one that was sealed, `Truncated` if the file became
                shorter since it was opened.
        """
        self._refuse_closed()
        out = memoryview(buffer).cast("B")
        out = out[: max(0, self.size - self._position)]
        done = 0
        try:
            while done < len(out):
                done += self._read_some(self._position + done, out[done:])
        except SealedDataError:
            # As read(2) does: first what is there, and the error when it is reached again.
            if not done:
                raise
        self._position += done
        return done

    def _read_some(self, offset: int, out: memoryview) -> int:
        if offset < HEAD_SIZE:
            count = min(len(out), HEAD_SIZE - offset)
            out[:count] = self._metadata.head[offset : offset + count]
            return count
        node, start = divmod(offset - HEAD_SIZE, NODE_SIZE)
        if start == 0 and len(out) >= NODE_SIZE:
            nodes = min(len(out) // NODE_SIZE, DATA_PER_TREE_NODE - node % DATA_PER_TREE_NODE)
            self._open_run(node, out[: nodes * NODE_SIZE])
            return nodes * NODE_SIZE
        count = min(len(out), NODE_SIZE - start)
        out[:count] = memoryview(self._data_node(node))[start : start + count]
        return count

    def _open_run(self, node: int, out: memoryview) -> None:
        if self._group is None:
            self._group = NodeGroup()
        tree_node, slot = divmod(node, DATA_PER_TREE_NODE)
        entries = self._tree_node(tree_node)[slot * ENTRY_SIZE : slot * ENTRY_SIZE + len(out) // NODE_SIZE * ENTRY_SIZE]
        position = data_node_position(node)
        self._stored.read_into(self._group.stored[: len(out)], position)
        self._group.open(entries, out, position)

    def _data_node(self, node: int) -> bytes:
        # Reads smaller than a node mostly follow one another: the last node is kept.
        if self._last[0] != node:
            tree_node, slot = divmod(node, DATA_PER_TREE_NODE)
            entry = self._tree_node(tree_node)[slot * ENTRY_SIZE : (slot + 1) * ENTRY_SIZE]
            self._last = node, self._open_one(entry, data_node_position(node))
        return self._last[1]

    def _tree_node(self, number: int) -> bytes:
        found = self._tree_nodes.pop(number, b"")
        if not found:
            found = self._open_one(self._tree_entry(number), tree_node_position(number))
        self._tree_nodes[number] = found
        if len(self._tree_nodes) > MAX_CACHED_TREE_NODES:
            self._tree_nodes.pop(next(iter(self._tree_nodes)))  # the one unused for longest
        return found

    def _tree_entry(self, number: int) -> bytes:
        if number == 0:
            return self._metadata.root
        parent, at = tree_parent(number)
        return self._tree_node(parent)[at : at + ENTRY_SIZE]

    def _open_one(self, entry: bytes, position: int) -> bytes:
        stored = bytearray(NODE_SIZE)
        self._stored.read_into(memoryview(stored), position)
        return open_node(entry, bytes(stored), position)

    def verify(self, progress: Callable[[int], Any] | None) -> None:
        """Check every node; the position does not move.

        Args:
            progress: Called with the number of bytes of plaintext just checked.

        Raises:
            SealedDataError: As `readinto`.
        """
        here = self._position
        scratch = memoryview(bytearray(GROUP_SIZE))
        try:
            self._position = 0
            # After the head the reads lie on the boundaries of the groups.
            count = self.readinto(scratch[:HEAD_SIZE])
            while count:
                if progress is not None:
                    progress(count)
                count = self.readinto(scratch)
        finally:
            self._position = here

    def close(self) -> None:
        """Close the file and forget its keys; harmless when repeated."""
        if not self.closed:
            self._tree_nodes.clear()
            self._last = -1, b""
            self._group = None
            self._stored.close()
        super().close()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class SealedReader(io.BufferedReader):
    """The plaintext of a sealed file as an ordinary binary file: read, readinto, seek, tell, lines.

    Reads of any size are good: large ones are decrypted straight into the result, and the buffer of one node serves
    lines and small reads. Made by `strongroom.room.files.open_sealed`.

    Args:
        nodes: The plaintext as a raw stream; closed with the reader.
        header: The file's plain header.
    """

    def __init__(self, nodes: SealedNodes, header: Header) -> None:
        super().__init__(nodes, NODE_SIZE)
        self._nodes = nodes
        self.size = nodes.size
        """Bytes of plaintext, authenticated."""
        self.sealed_path = nodes.sealed_path
        """The path that the file is bound to, authenticated."""
        self.version = header.version
        """Format version, 1 or 2."""
        self.pending_write = header.pending_write
        """Gramine's mark of an unfinished write; not authenticated."""
        self.host_size = nodes.host_size
        """Bytes on disk."""
        self.pin = nodes.pin
        """SHA-256 of the metadata node, 32 bytes: pins this very content."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; all the rest when negative or None.

        Returns:
            The bytes, fewer than asked for only at the end of the data.
        """
        if size is None or size < 0:
            size = max(0, self.size - self.tell())  # known, so the result is allocated once
        return super().read(size)

    def verify(self, progress: Callable[[int], Any] | None = None) -> None:
        """Check every node of the file; the position does not move.

        Args:
            progress: Called with the number of bytes of plaintext just checked.

        Raises:
            Tampered: If a node is not the one that was sealed.
            Truncated: If the file became shorter since it was opened.
        """
        self._nodes.verify(progress)
