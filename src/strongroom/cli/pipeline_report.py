"""What is left of a run of the pipeline for people: metrics, ROC curve as a picture, and the report."""

import json
from pathlib import Path
from typing import Any, Final

PICTURE_STYLE: Final = (
    "<style>svg{background:#fff}text{font:12px sans-serif;fill:#1c2430}.frame{fill:none;stroke:#d5dbe3}"
    ".grid{stroke:#d5dbe3;stroke-width:.6}.line{fill:none;stroke:#1f5fbf;stroke-width:2}"
    ".guide{stroke:#5b6675;stroke-dasharray:4 4}</style>"
)


def write_results(out: Path, owner: Path, done: dict[str, Any], log: bytes) -> Path:
    """Write ``metrics.json``, ``roc.svg`` and ``report.html``.

    Args:
        out: Folder for them.
        owner: Folder with the artifacts the owner opened: ``prediction_data.parquet`` and ``model.bundle``.
        done: Metrics and ROC points that the pipeline published.
        log: The broker's log, one JSON record a line.

    Returns:
        The report.

    Raises:
        FormatError: An artifact is malformed.
    """
    from strongroom.cli.demo_report import attested
    from strongroom.loan.bundle import read_bundle
    from strongroom.loan.columns import read_scores
    from strongroom.loan.evaluation import evaluate_scores
    from strongroom.loan.report import render_report
    from strongroom.loan.results import Results, importance

    (out / "metrics.json").write_text(json.dumps(done["metrics"], indent=2) + "\n", encoding="ascii")
    (out / "roc.svg").write_text(roc_picture(done["roc"]), encoding="utf-8")
    with (owner / "prediction_data.parquet").open("rb") as source:
        labels, probabilities = read_scores(source)
    with (owner / "model.bundle").open("rb") as source:
        bundle = read_bundle(source)
    results = Results(bundle.metadata, evaluate_scores(labels, probabilities), importance(bundle))
    report = out / "report.html"
    report.write_text(render_report(results, attested(log)), encoding="utf-8")
    return report


def roc_picture(points: list[tuple[float, float, float]]) -> str:
    """The ROC curve as an SVG file.

    Args:
        points: (false positive rate, recall, threshold).
    """
    from strongroom.loan.plots import curve

    places = [(fall_out, recall) for fall_out, recall, _ in points]
    drawn = curve("ROC curve", places, x="False positive rate", y="True positive rate", diagonal=True)
    opening, end, rest = drawn.partition(">")
    return f"{opening}{end}{PICTURE_STYLE}{rest}"
