"""A new file as a Python file object that writers of pyarrow accept."""

import io

from strongroom.room.new_file import NewFile


class FileSink(io.RawIOBase):
    """Appends to a new file; closing the sink leaves the file to its owner.

    Args:
        file: The file to write.
    """

    def __init__(self, file: NewFile) -> None:
        super().__init__()
        self._file = file
        self.size = 0

    def writable(self) -> bool:
        """It can be written."""
        return True

    def write(self, data: object, /) -> int:
        """Append bytes.

        Raises:
            ConfigurationError: The system refuses.
            UnavailableError: The disk is full or fails.
        """
        view = memoryview(data)  # type: ignore[arg-type]  # RawIOBase says "any buffer"
        self._file.write_at(view, self.size)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size
