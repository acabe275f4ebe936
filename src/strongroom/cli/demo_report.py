"""The report of the demonstration: the model's scores beside what the broker's log says was attested and released."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from strongroom.loan.report import Attested

MAX_ROWS: Final = 60


def write_report(out: Path, log: bytes) -> Path:
    """Write ``report.html``.

    Args:
        out: Folder of the demonstration, with ``owner/evaluation.json`` opened.
        log: The broker's log, one JSON record a line.

    Returns:
        The file.

    Raises:
        FormatError: The results are malformed.
    """
    from strongroom.loan.report import render_report
    from strongroom.loan.results import Results

    results = Results.parse((out / "owner" / "evaluation.json").read_bytes())
    report = out / "report.html"
    report.write_text(render_report(results, attested(log)), encoding="utf-8")
    return report


def attested(log: bytes) -> "Attested":
    """What the report says was attested and released.

    Args:
        log: The broker's log, one JSON record a line.
    """
    from strongroom.loan.report import Attested

    records = [json.loads(line) for line in log.splitlines() if line.strip()]
    rows = [_row(record) for record in records if record["event"] in {"attest", "release", "grant.create"}]
    simulated = any(record.get("who", {}).get("simulated") for record in records)
    return Attested(rows[:MAX_ROWS], simulated)


def _row(record: dict[str, Any]) -> tuple[str, str]:
    what = f"{record['seq']:>3} {record['event']} {record['decision']}"
    parts = [record.get("name"), record.get("path"), _measurement(record.get("who", {}))]
    parts += [finding["code"] for finding in record.get("findings", [])]
    return what, "  ".join(part for part in parts if part)


def _measurement(who: dict[str, Any]) -> str | None:
    if not who:
        return None
    kind = "simulated" if who["simulated"] else str(who["tee"])
    return f"{kind} {str(who.get('mr_enclave') or who.get('mr_td'))[:16]}... {who['tcb_status']}"
