"""`strongroom seal` and `strongroom open`: files into and out of Gramine's encrypted format."""

import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Owner
from strongroom.cli.seal_jobs import Job, plan, progress, say
from strongroom.cli.sealing_key import KeyFile, KeyName, sealing_key
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.room.files import AnyPath
    from strongroom.room.sealed_reader import SealedReader

STANDARD_STREAM: Final = "-"
CHUNK: Final = 2**20
TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f")

SEAL_EXAMPLES: Final = """Examples:

\b
  strongroom key generate wrap_key
  strongroom seal loans.csv data/loans.csv --key-file wrap_key
  strongroom seal plain/ models/ --key loan/key/model
  pg_dump loans | strongroom seal - data/loans.sql --key-file wrap_key

A file is bound to the path that a Gramine manifest names: uri = "file:data/loans.csv" opens what is bound to
data/loans.csv. Where the output has another name than in the deployment, give that one with --path.
"""
OPEN_EXAMPLES: Final = """Examples:

\b
  strongroom open data/loans.csv loans.csv --key-file wrap_key
  strongroom open data/loans.csv - --key-file wrap_key | head
  strongroom open backup/loans.csv loans.csv --path data/loans.csv --key-file wrap_key
  strongroom open data/ plain/ --key loan/key/book

Nothing appears under the output's name, or on standard output, before the whole file is verified.
"""

seal_app = noun_app("")
open_app = noun_app("")


@seal_app.command(help="Encrypt files in Gramine's format, each bound to its path.", epilog=SEAL_EXAMPLES)
def seal(
    source: Annotated[str, typer.Argument(metavar="IN", help="A file, a folder, or - for standard input.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The sealed file, or the folder of sealed files.")],
    key_file: KeyFile = None,
    key_name: KeyName = None,
    owner: Owner = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="P", help="Path to bind to, instead of OUT as typed.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
) -> None:
    """Encrypt files in Gramine's format, each bound to its path.

    Raises:
        ConfigurationError: If an argument is wrong.
    """
    if target == STANDARD_STREAM:
        raise ConfigurationError(
            "a sealed file can't go to standard output: its first node is written last", code="output.not_a_file"
        )
    key = sealing_key(key_file, key_name, owner)
    _clean_up_when_terminated()
    if source == STANDARD_STREAM:
        jobs, total = [Job(Path("/dev/stdin"), Path(target), "", 0)], None
    else:
        jobs = plan(source, target, force=force)
        total = sum(job.size for job in jobs)
    with progress("seal", total) as advance:
        for job in jobs:
            from_stream = sys.stdin.buffer if source == STANDARD_STREAM else None
            _seal_one(job, key, job.under(path or target), force, advance, from_stream)


def _seal_one(job: Job, key: bytes, name: str, force: bool, advance: Callable[[int], None], stream: Any | None) -> None:
    from strongroom.room.file_errors import file_errors, make_folders
    from strongroom.room.files import create_sealed

    make_folders(job.target.parent)
    with file_errors(job.source):
        source = nullcontext(stream) if stream is not None else job.source.open("rb", buffering=0)
    buffer = memoryview(bytearray(CHUNK))
    with source as plain, create_sealed(job.target, key, sealed_path=name, overwrite=force) as out:
        while True:
            with file_errors(job.source):
                count = plain.readinto(buffer)
            if not count:
                break
            out.write(buffer[:count])
            advance(count)
    say(f"sealed {job.target}: {out.tell()} bytes, bound to {out.sealed_path}")


@open_app.command(name="open", help="Decrypt sealed files, verified as a whole.", epilog=OPEN_EXAMPLES)
def open_(
    source: Annotated[str, typer.Argument(metavar="IN", help="A sealed file, or a folder of them.")],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="The file or folder to write, or - for standard output.")
    ],
    key_file: KeyFile = None,
    key_name: KeyName = None,
    owner: Owner = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="P", help="Path it must be bound to, instead of IN as typed.")
    ] = None,
    any_path: Annotated[
        bool, typer.Option("--any-path", help="Accept any path: the storage may have exchanged files.")
    ] = False,
    pin: Annotated[
        str | None, typer.Option("--pin", metavar="HEX", help="Pin of the one version to accept (see inspect).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace outputs that exist; write binary data to a terminal.")
    ] = False,
) -> None:
    """Decrypt sealed files, verified as a whole.

    Raises:
        ConfigurationError: If an argument is wrong.
    """
    from strongroom.room.files import ANY_PATH

    if path is not None and any_path:
        raise ConfigurationError("--path and --any-path exclude each other", code="arguments.conflict")
    if source == STANDARD_STREAM:
        raise ConfigurationError("a sealed file can't come from standard input: name it", code="input.not_a_file")
    wanted_pin = parse_pin(pin)
    key = sealing_key(key_file, key_name, owner)
    _clean_up_when_terminated()
    # What it is compared with is never an existing output.
    jobs = plan(source, target, force=force or target == STANDARD_STREAM)
    if wanted_pin is not None and (len(jobs) != 1 or jobs[0].below):
        raise ConfigurationError("--pin is for one file", code="arguments.conflict")
    if target == STANDARD_STREAM and any(job.below for job in jobs):
        raise ConfigurationError("a folder can't go to standard output", code="output.not_a_file")
    with progress("open", sum(job.size for job in jobs)) as advance:
        for job in jobs:
            name = ANY_PATH if any_path else job.under(path or source)
            _open_one(job, key, name, wanted_pin, force, advance, to_stdout=target == STANDARD_STREAM)


def _open_one(
    job: Job,
    key: bytes,
    name: "str | AnyPath",
    pin: bytes | None,
    force: bool,
    advance: Callable[[int], None],
    *,
    to_stdout: bool,
) -> None:
    from strongroom.room.file_errors import make_folders
    from strongroom.room.files import open_sealed
    from strongroom.room.new_file import NewFile

    with open_sealed(job.source, key, sealed_path=name, pin=pin) as reader:
        if to_stdout:
            _to_stdout(reader, force, advance)
            return
        make_folders(job.target.parent, mode=0o700)
        with NewFile(job.target, overwrite=force) as out:
            _copy(reader, out.write_at, advance)
    say(f"opened {job.target}: {reader.size} bytes")


def _to_stdout(reader: "SealedReader", force: bool, advance: Callable[[int], None]) -> None:
    reader.verify(advance)
    if sys.stdout.isatty() and not force and _looks_binary(reader.read(2**16)):
        raise ConfigurationError(
            "refused to write binary data to the terminal",
            code="output.terminal",
            hint="name a file, or insist with --force",
        )
    reader.seek(0)
    _copy(reader, lambda piece, _offset: sys.stdout.buffer.write(piece), lambda _count: None)
    sys.stdout.buffer.flush()


def _copy(reader: "SealedReader", write: Callable[[memoryview, int], Any], advance: Callable[[int], None]) -> None:
    buffer = memoryview(bytearray(CHUNK))
    offset = 0
    while count := reader.readinto(buffer):
        write(buffer[:count], offset)
        offset += count
        advance(count)


def _looks_binary(start: bytes) -> bool:
    if any(byte < 32 and byte not in TEXT_CONTROLS for byte in start):
        return True
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start < len(start) - 3  # a character cut at the end is fine
    return False


def parse_pin(text: str | None) -> bytes | None:
    """The pin of an option: 64 hex digits.

    Raises:
        ConfigurationError: If it is not 64 hex digits.
    """
    if text is None:
        return None
    try:
        pin = bytes.fromhex(text)
    except ValueError:
        pin = b""
    if len(pin) != 32 or len(text) != 64:
        raise ConfigurationError(
            "--pin takes 64 hex digits", code="sealed.pin", hint="`strongroom inspect FILE` prints it"
        )
    return pin


def _clean_up_when_terminated() -> None:
    # The default action would leave a temporary file behind; an exception removes it on its way.
    def end(_signal: int, _frame: object) -> NoReturn:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, end)
