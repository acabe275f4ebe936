"""The data step: read, divide, grow, write. Divided before anything is augmented."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final, Literal

import numpy as np

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.augmentation import GrownRows, augment, augment_as_reference
from strongroom.loan.book import LoanBook, Rows, join
from strongroom.loan.processed import MAX_ROWS, SCHEMA, ProcessedRows, read_processed, write_processed
from strongroom.loan.split import split_rows
from strongroom.loan.storage import Storage
from strongroom.loan.table import read_csv

Progress = Callable[[int, int], None]
"""Called with rows done and rows wanted."""

MAX_KEPT: Final = 16
RESERVED: Final = frozenset(SCHEMA.names)
MAX_MANIFEST_BYTES: Final = 64 << 10
DIGEST_BLOCK_BYTES: Final = 1 << 20
_FILES: Final = ("train.parquet", "test.parquet")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How a loan book becomes training and held-out rows.

    Args:
        size: Rows wanted in both sets together; None, or fewer than the book has: no augmentation.
        test_share: Share of rows held out.
        seed: Of the split and the augmentation.
        protocol: ``strongroom`` divides, then grows both sides from their own rows. ``reference`` grows, then divides
            at random: copies of held-out rows are trained on, and scores look better than they are.
        keep: Further columns of the file, to compare groups of rows by; no input of a model.
    """

    size: int | None = None
    test_share: float = 0.25
    seed: int = 0
    protocol: Literal["strongroom", "reference"] = "strongroom"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= MAX_ROWS:
            raise ConfigurationError(f"the size must lie between 1 and {MAX_ROWS} rows", code="loan.size")
        if not 0 < self.test_share < 1:
            raise ConfigurationError("the held-out share must lie between 0 and 1", code="loan.test_share")
        if not 0 <= self.seed < 1 << 32:
            raise ConfigurationError("the seed must lie between 0 and 2^32 - 1", code="loan.seed")
        if self.protocol not in {"strongroom", "reference"}:
            raise ConfigurationError("the protocol is strongroom or reference", code="loan.protocol")
        if len(self.keep) > MAX_KEPT or any(not 0 < len(name) <= 64 or name in RESERVED for name in self.keep):
            raise ConfigurationError("a kept column needs a name of its own", code="loan.keep")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a data step did; kept beside its files.

    Args:
        settings: As asked for.
        source_digest: SHA-256 of the CSV file, hex.
        source_rows: Rows in it.
        train_rows: Rows written to train.parquet.
        test_rows: Rows written to test.parquet.
        leaky: Held-out rows have copies in the training set.
    """

    settings: ProcessSettings
    source_digest: str
    source_rows: int
    train_rows: int
    test_rows: int
    leaky: bool

    @property
    def digest(self) -> str:
        """SHA-256, hex, that stands for the processed rows: the same file and settings give the same rows."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def process(
    storage: Storage,
    source: str,
    out: str = "processed",
    settings: ProcessSettings | None = None,
    *,
    max_rows: int = MAX_ROWS,
    progress: Progress | None = None,
) -> Manifest:
    """Read a loan book and write `train.parquet`, `test.parquet` and `manifest.json` under a folder.

    Args:
        storage: Where to read and write.
        source: Path of the CSV file.
        out: Folder of the results.
        settings: How to divide and grow.
        max_rows: Longest loan book; seen before it takes memory.
        progress: Called after every chunk.

    Raises:
        FormatError: The file is not a loan book, too small to divide, or too long.
        LoanRowsError: Rows are wrong; lists them.
        FileNotFoundError: There is no such file.
    """
    settings = settings or ProcessSettings()
    with storage.open(source) as file:
        digest, lines = _digest(file)
        if lines > max_rows + 1:
            raise FormatError(
                f"the loan file has more than {max_rows} rows", code="loan.csv", hint="divide it into several"
            )
        book = read_csv(file, extra=settings.keep)
    total = max(len(book), settings.size or 0)
    done = 0

    def counted(chunks: Iterable[GrownRows]) -> Iterator[GrownRows]:
        nonlocal done
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            if progress:
                progress(done, total)

    sides = _sides_as_reference(book, settings) if settings.protocol == "reference" else _sides(book, settings)
    run = run_name(settings, digest)
    # All three are written aside and take their places at the end, the manifest last; a stop between two of these
    # steps is noticed by the name of the run, which each of them holds.
    with ExitStack() as stack:
        manifest_sink, test_sink, train_sink = (
            stack.enter_context(storage.create(f"{out}/{name}")) for name in ("manifest.json", *reversed(_FILES))
        )
        written = [
            write_processed(counted(chunks), sink, run=run)
            for chunks, sink in zip(sides, (train_sink, test_sink), strict=True)
        ]
        manifest = Manifest(settings, digest, len(book), written[0], written[1], settings.protocol == "reference")
        manifest_sink.write(json.dumps(asdict(manifest), indent=1, sort_keys=True).encode())
    return manifest


def run_name(settings: ProcessSettings, source_digest: str) -> str:
    """Name of a data step: SHA-256, hex, over what it was asked and the file it was given."""
    return hashlib.sha256(json.dumps([asdict(settings), source_digest], sort_keys=True).encode()).hexdigest()


def _digest(file: BinaryIO) -> tuple[str, int]:
    """SHA-256, hex, and the number of line ends of whichever kind."""
    digest = hashlib.sha256()
    feeds = returns = 0
    while block := file.read(DIGEST_BLOCK_BYTES):
        digest.update(block)
        feeds += block.count(b"\n")
        returns += block.count(b"\r")
    file.seek(0)
    return digest.hexdigest(), max(feeds, returns)


def _sides(book: LoanBook, settings: ProcessSettings) -> tuple[Iterator[GrownRows], Iterator[GrownRows]]:
    split = split_rows(book, test_share=settings.test_share, seed=settings.seed)
    wanted = settings.size if settings.size and settings.size > len(book) else 0
    test_wanted = round(wanted * settings.test_share)
    return (
        _grown(book, split.train, wanted - test_wanted, settings.seed),
        _grown(book, split.test, test_wanted, settings.seed + 1),
    )


def _grown(book: LoanBook, rows: Rows, wanted: int, seed: int) -> Iterator[GrownRows]:
    """One side's rows grown to a size; `source_row` counts in the whole book."""
    for chunk in augment(book.take(rows), max(wanted, len(rows)), seed=seed):
        yield GrownRows(chunk.book, rows[chunk.source_row].astype(np.int32), chunk.augmented)


def _sides_as_reference(book: LoanBook, settings: ProcessSettings) -> tuple[Iterator[GrownRows], Iterator[GrownRows]]:
    """Grow, then divide at random: scikit-learn's train_test_split(random_state=0), not stratified."""
    if settings.size and settings.size > len(book):
        chunks = list(augment_as_reference(book, settings.size, seed=settings.seed))
    else:
        chunks = list(augment(book, len(book), seed=settings.seed))
    grown = GrownRows(
        join([chunk.book for chunk in chunks]),
        np.concatenate([chunk.source_row for chunk in chunks]),
        np.concatenate([chunk.augmented for chunk in chunks]),
    )
    order = np.random.RandomState(settings.seed).permutation(len(grown))
    held_out = -(-len(grown) * settings.test_share // 1)  # rounded up
    first = int(held_out)
    return _picked(grown, order[first:]), _picked(grown, order[:first])


def _picked(grown: GrownRows, rows: Rows) -> Iterator[GrownRows]:
    for part in np.array_split(rows, max(1, len(rows) // 250_000)):
        yield GrownRows(grown.book.take(part), grown.source_row[part], grown.augmented[part])


def read_rows(storage: Storage, folder: str, side: Literal["train", "test"]) -> ProcessedRows:
    """One side of a processed folder.

    Raises:
        FormatError: It is not a file of processed rows, or of another data step than the folder's manifest
            (``loan.mixed``).
        FileNotFoundError: There is no such file.
    """
    manifest = read_manifest(storage, folder)
    with storage.open(f"{folder}/{side}.parquet") as source:
        return read_processed(source, run=run_name(manifest.settings, manifest.source_digest))


def read_manifest(storage: Storage, folder: str) -> Manifest:
    """The manifest of a processed folder.

    Raises:
        FormatError: It is malformed, code ``loan.manifest``.
        FileNotFoundError: There is none.
    """
    with storage.open(f"{folder}/manifest.json") as source:
        raw = source.read(MAX_MANIFEST_BYTES + 1)
    try:
        data: Any = json.loads(raw) if len(raw) <= MAX_MANIFEST_BYTES else None
        asked = data.pop("settings")
        settings = ProcessSettings(**{**asked, "keep": tuple(asked["keep"])})
        manifest = Manifest(settings=settings, **data)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, ConfigurationError) as error:
        raise FormatError("the manifest of the processed data is malformed", code="loan.manifest") from error
    counts = (manifest.source_rows, manifest.train_rows, manifest.test_rows)
    if not all(type(count) is int and count > 0 for count in counts) or type(manifest.leaky) is not bool:
        raise FormatError("the manifest of the processed data is malformed", code="loan.manifest")
    return manifest


def held_out_rows(rows: ProcessedRows, manifest: Manifest) -> LoanBook:
    """The rows to evaluate on: the real ones, or all of them under the reference's protocol."""
    return rows.book if manifest.leaky else rows.real()


__all__ = ["Manifest", "ProcessSettings", "Progress", "held_out_rows", "process", "read_manifest", "read_rows"]
