"""`strongroom demo`: the loan-default job, attested end to end, on this machine.

Every step runs the very command a user would type. The report at the end says what was attested and released.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.outcome import REFUSED

if TYPE_CHECKING:
    from strongroom.cli.stage import Stage

EPILOG: Final = """Examples:

\b
  strongroom demo
  strongroom demo --data loans.csv --out /tmp/trial
"""

demo_app = noun_app("")
MARKER: Final = ".strongroom-demo"
JOBS: Final = ("process", "train", "evaluate", "predict")
KEYS: Final = ("book", "processed", "model", "results")
COMMANDS: Final = 21  # for the progress bar
SAMPLE_ROWS: Final = 32_000
APPLICANTS: Final = 1_000
# What loan data looks like in the clear; none of it may be found in the storage.
TELLTALES: Final = (b"person_income", b"loan_status", b"DEBTCONSOLIDATION", b"MORTGAGE", b"PAR1", b"Probability")


@demo_app.command(help="Run the loan-default job end to end on this machine (simulated platform).", epilog=EPILOG)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demonstration makes.")] = Path(
        "demo-room"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own loan book (CSV); without it one is generated.")
    ] = None,
) -> None:
    """Run the loan-default job end to end on this machine (simulated platform).

    Starts a broker, makes keys, seals the loan book, authorizes four workloads, trains and predicts inside the
    (simulated) room, shows that a changed workload is refused and that the host sees only ciphertext, and writes a
    report.

    Raises:
        ConfigurationError: The data can't be opened.
        FormatError: It is no loan book; the earlier demonstration, if any, is still there then.
        WouldOverwrite: The folder holds something that is not an earlier demonstration.
        StrongroomError: A step did not end as it must.
    """
    from strongroom.cli.stage import Stage
    from strongroom.cli.trial import fresh_folder, simulated_broker

    if data is not None:
        _check_book(data)
    out = fresh_folder(out, MARKER)
    stage = Stage(out)
    with stage.commands(COMMANDS), simulated_broker(stage):
        book, applicants = _owner_files(stage, data)
        _make_keys_and_seal(stage, book, applicants)
        _authorize(stage)
        _run_jobs(stage)
        _changed_line_is_refused(stage)
        _host_sees_ciphertext(stage)
        report = _report(stage)
    print(report)  # noqa: T201


def _check_book(data: Path) -> None:
    from strongroom.loan.table import read_csv

    try:
        with data.open("rb") as source:
            read_csv(source)
    except OSError as error:
        raise ConfigurationError(f"cannot read {data}: {error.strerror}", code="demo.data") from None


def _owner_files(stage: "Stage", data: Path | None) -> tuple[Path, Path]:
    stage.title("The owner's files, on the owner's trusted machine")
    owner = stage.out / "owner"
    owner.mkdir(mode=0o700)  # the only plaintext of the demonstration
    book = owner / "loans.csv"
    if data is None:
        stage.run("loan", "sample", "--rows", str(SAMPLE_ROWS), "--out", str(book))
    else:
        shutil.copyfile(data, book)
    applicants = owner / "applicants.csv"
    with book.open("rb") as source, applicants.open("wb") as sink:
        sink.writelines(line for line, _ in zip(source, range(APPLICANTS + 1), strict=False))
    return book, applicants


def _make_keys_and_seal(stage: "Stage", book: Path, applicants: Path) -> None:
    stage.title("The owner makes keys and seals the files; only ciphertext goes to the storage")
    for key in KEYS:
        stage.run("key", "create", f"loan/key/{key}")
    for file in (book, applicants):
        path = f"book/{file.name}"
        stage.run("seal", str(file), str(stage.out / "storage" / path), "--key", "loan/key/book", "--path", path)


def _authorize(stage: "Stage") -> None:
    from strongroom.loan import workloads

    stage.title("The owner authorizes four workloads: each one's measurement, each one's keys")
    shutil.copytree(Path(workloads.__file__).parent, stage.out / "workloads", ignore=shutil.ignore_patterns("__*__*"))
    for job in JOBS:
        _pin_broker(stage, Path(stage.workload(job)))
        stage.run("authorize", stage.workload(job), "--accept-simulated")


def _pin_broker(stage: "Stage", definition: Path) -> None:
    # The broker's CA becomes part of what is measured: the cloud can't point the workload to a broker of its own.
    shutil.copyfile(stage.out / "broker" / "room" / "ca.pem", definition.parent / "ca.pem")
    text = definition.read_text()
    definition.write_text(text.replace("trusted_files = [", 'broker_ca = "ca.pem"\ntrusted_files = ["ca.pem", ', 1))


def _run_jobs(stage: "Stage") -> None:
    stage.title("The cloud runs them: attest, receive keys, open, compute, seal")
    for job in JOBS:
        stage.run("workload", "run", stage.workload(job))


def _changed_line_is_refused(stage: "Stage") -> None:
    stage.title("The cloud changes one line of the training code: the broker refuses the keys")
    changed = stage.out / "workloads" / "train-changed"
    shutil.copytree(stage.out / "workloads" / "train", changed)
    script = changed / "train.py"
    script.write_text(script.read_text() + "\nprint('and now the data goes elsewhere')\n")
    stage.run("workload", "run", str(changed / "workload.toml"), expect=REFUSED)


def _host_sees_ciphertext(stage: "Stage") -> None:
    stage.title("What the host sees in the storage")
    files = sorted(path for path in (stage.out / "storage").rglob("*") if path.is_file())
    for path in files:
        raw = path.read_bytes()
        found = [word.decode() for word in TELLTALES if word in raw]
        if found:
            raise StrongroomError(f"plaintext in the storage: {path.name} holds {found}", code="demo.plaintext")
        stage.say(f"   {path.relative_to(stage.out)!s:<44} {len(raw):>11,} bytes  {raw[64:80].hex()}...")
    stage.say(f"   searched {len(files)} files for {len(TELLTALES)} words of the plaintext: none found")


def _report(stage: "Stage") -> Path:
    from strongroom.cli.demo_report import write_report

    stage.title("The owner opens the results and the broker's log")
    for sealed, opened in (("results/loan.json", "evaluation.json"), ("results/predictions.csv", "predictions.csv")):
        source, target = str(stage.out / "storage" / sealed), str(stage.out / "owner" / opened)
        stage.run("open", source, target, "--key", "loan/key/results", "--path", sealed)
    log = stage.run("broker", "log", str(stage.out / "broker"), "--json", "--verify")
    report = write_report(stage.out, log)
    stage.say(f"\nreport: {report}   (simulated platform: nothing here was proved by hardware)")
    return report
