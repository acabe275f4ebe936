"""The loan application beside the reference's algorithm, on one machine in one run.

    python benchmarks/loan.py [--rows 400000] [--data loans.csv] [--repeats 2] [--no-reference]
                              [--reference-python PYTHON] [--predict-rows 10 1000 100000]

Ours reads and writes sealed files; the reference's algorithm (`benchmarks/loan_reference.py`) reads and writes plain
ones. It needs pandas and daal4py, which need not be in our environment: name an interpreter that has them. Every step
runs in a process of its own, turn and turn about. Without --data the public Credit Risk Dataset is taken from the test
data (STRONGROOM_TESTDATA), or else a generated book; quality figures mean something on the public one only.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULT = HERE / "results" / "loan.json"
PUBLIC = Path("credit_risk") / "credit_risk_dataset.csv"
# Threads that wait must not count as work, on either side.
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive"}


class Side:
    """One side's interpreter, script and folder."""

    def __init__(self, python: str, script: str, folder: Path) -> None:
        self._start = [python, str(HERE / script)]
        self._folder = folder
        folder.mkdir()

    def run(self, step: str, *arguments: object) -> dict[str, Any]:
        """Run one step in a process of its own; its figures."""
        command = [*self._start, step, str(self._folder), *map(str, arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=ENVIRONMENT)
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        shown = {name: round(value, 4) if isinstance(value, float) else value for name, value in facts.items()}
        print(f"{self._start[1].rsplit('_', 1)[-1]:<14} {step:<9} {' '.join(map(str, arguments))[-40:]:<40} {shown}")
        return facts


def book(argument: Path | None, work: Path) -> Path:
    if argument:
        return argument.resolve()
    shared = Path(os.environ.get("STRONGROOM_TESTDATA", HERE.parents[1] / "shared" / "testdata")) / PUBLIC
    if shared.is_file():
        return shared
    generated = work / "generated.csv"
    subprocess.run([sys.executable, "-m", "strongroom", "loan", "sample", "--out", str(generated)], check=True)
    return generated


def write_rows(source: Path, target: Path, rows: int, *, labelled: bool) -> None:
    """Rows of the book as a file of any length, without the outcome where it is to be predicted."""
    from strongroom.loan.augmentation import augment
    from strongroom.loan.book import LoanBook
    from strongroom.loan.table import read_csv
    from strongroom.loan.writing import write_csv

    with source.open("rb") as file:
        whole = read_csv(file)
    grown = augment(whole, max(rows, len(whole)), seed=1)
    parts, left = [], rows
    for chunk in grown:
        part = chunk.book.between(0, min(left, len(chunk)))
        parts.append(part if labelled else LoanBook(part.numbers, part.codes))
        left -= len(part)
        if not left:
            break
    with target.open("wb") as sink:
        write_csv(parts, sink)


def hold_out(source: Path, train: Path, test: Path) -> None:
    """The rows our data step would train on and hold out, as two plain files."""
    from strongroom.loan.split import split_rows
    from strongroom.loan.table import read_csv
    from strongroom.loan.writing import write_csv

    with source.open("rb") as file:
        whole = read_csv(file)
    split = split_rows(whole)
    for path, rows in ((train, split.train), (test, split.test)):
        with path.open("wb") as sink:
            write_csv([whole.take(rows)], sink)


def measure(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    source = book(arguments.data, work)
    seen, unseen = work / "seen.csv", work / "unseen.csv"
    hold_out(source, seen, unseen)
    ours = Side(sys.executable, "loan_ours.py", work / "ours")
    ours.run("put", "data/loans.csv", source)
    reference = None
    if not arguments.no_reference:
        reference = Side(arguments.reference_python, "loan_reference.py", work / "reference")
    result: dict[str, Any] = {"rows": arguments.rows, "ours": {}, "reference": {}}
    mine, theirs = result["ours"], result["reference"]
    if reference:
        theirs["process"] = reference.run("process", seen, arguments.rows)
    mine["process"] = ours.run("process", arguments.rows)
    if reference:
        theirs["train"] = reference.run("train")
        theirs["score"] = reference.run("score", unseen)
    for preset in ("default", "reference"):
        mine[f"train_{preset}"] = ours.run("train", preset)
        mine[f"score_{preset}"] = ours.run("score", preset)
    for rows in arguments.predict_rows:
        file = work / f"applicants_{rows}.csv"
        write_rows(source, file, rows, labelled=False)
        ours.run("put", f"data/{file.name}", file)
        step = "small" if rows <= 1_000 else "predict"
        mine[f"predict_{rows}"] = ours.run(step, "default", f"data/{file.name}")
        if reference and rows <= arguments.reference_predict_rows:
            theirs[f"predict_{rows}"] = reference.run("predict", file)
    if arguments.repeats:
        for preset in ("default", "reference"):
            mine[f"quality_{preset}"] = ours.run("quality", preset, arguments.repeats)
        mine["continue"] = ours.run("continue")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000, help="rows to grow the book to")
    parser.add_argument("--data", type=Path, help="loan book, CSV")
    parser.add_argument("--repeats", type=int, default=2, help="repetitions of the 5-fold cross-validation; 0: none")
    parser.add_argument("--predict-rows", type=int, nargs="*", default=[10, 1_000, 100_000, 1_000_000])
    parser.add_argument("--reference-predict-rows", type=int, default=10_000, help="largest batch the reference scores")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--reference-python", default=sys.executable, help="interpreter with pandas and daal4py")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = measure(arguments, Path(work))
    result["machine"] = {
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
