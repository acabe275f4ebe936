"""The report a person reads: one HTML file with its plots inside, nothing fetched, nothing executed."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.loan import plots
from strongroom.loan.evaluation import REPORT_COLUMNS, REPORT_ROWS
from strongroom.loan.fairness import RATES, Fairness
from strongroom.loan.results import Results

SHOWN_FEATURES: Final = 15
SCORE_NAMES: Final = {
    "auc": "AUC",
    "pr_auc": "PR-AUC",
    "ks": "KS",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
    "default_rate": "Default rate",
    "mean_probability": "Mean probability",
}
MODEL_FACTS: Final = {
    "name": "Model",
    "version": "Version",
    "created_at": "Published",
    "note": "Made by",
    "preset": "Preset",
    "rounds": "Trees",
    "train_rows": "Training rows",
}

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d5dbe3; --back: #fff; --accent: #1f5fbf; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #36404d; --back: #14181e; --accent: #6ea8ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.sub { color: var(--soft); margin-top: 0; } .banner { border: 2px solid #b45309; background: #fef3c7; color: #78350f;
  padding: 0.7rem 1rem; border-radius: 6px; font-weight: 600; margin: 1rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 0.7rem; }
.tile { border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.8rem; }
.tile b { display: block; font-size: 1.3rem; } .tile span { color: var(--soft); font-size: 0.85rem; }
table { border-collapse: collapse; width: 100%; } th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.6rem;
  text-align: left; vertical-align: top; overflow-wrap: anywhere; } td.n, th.n { text-align: right;
  overflow-wrap: normal; white-space: nowrap; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } figcaption { color: var(--soft); }
svg { max-width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--ink); }
svg .frame { fill: none; stroke: var(--line); } svg .grid { stroke: var(--line); stroke-width: 0.6; }
svg .line { fill: none; stroke: var(--accent); stroke-width: 2; } svg .dot, svg .bar { fill: var(--accent); }
svg .guide { stroke: var(--soft); stroke-dasharray: 4 4; } code { font-size: 0.88em; }
"""


@dataclass(frozen=True, slots=True)
class Attested:
    """What was proved and released, as plain text to show.

    Args:
        rows: (what, value), e.g. ("measurement of loan-train", "3f..."), in order.
        simulated: The platform was simulated: a banner says so.
    """

    rows: Sequence[tuple[str, str]]
    simulated: bool


def render_report(results: Results, attested: Attested | None = None) -> str:
    """The report as one HTML document.

    Args:
        results: An evaluation; every text in it is escaped.
        attested: Adds the section about attestation and key release.
    """
    evaluation = results.evaluation
    name = str(results.model.get("name", "loan model"))
    sections = [
        f"<h1>Loan-default model: {_text(name)}</h1>",
        f'<p class="sub">{evaluation.rows:,} held-out rows, threshold {evaluation.threshold:g}</p>',
        *(
            [_banner("Simulated platform: nothing here was proved by hardware.")]
            if attested and attested.simulated
            else []
        ),
        *(_banner(note) for note in results.notes),
        "<h2>Scores</h2>",
        _tiles(evaluation.scores),
        "<h2>By class</h2>",
        _class_table(evaluation.report),
        "<h2>Curves</h2>",
        _curves(results),
        "<h2>Importance (share of the total gain)</h2>",
        plots.bars("Feature importance", results.importance[:SHOWN_FEATURES]),
        "<h2>Model</h2>",
        _facts([(label, str(results.model.get(key, ""))) for key, label in MODEL_FACTS.items()]),
        *(_fairness(comparison) for comparison in results.fairness),
        *(["<h2>What was attested and released</h2>", _facts(attested.rows)] if attested else []),
    ]
    return _document(f"Loan-default model: {name}", sections)


def _document(title: str, sections: Sequence[str]) -> str:
    # The policy forbids scripts and every fetch, whatever text might slip in.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _banner(text: str) -> str:
    return f'<div class="banner">{_text(text)}</div>'


def _tiles(scores: dict[str, float]) -> str:
    tiles = [
        f'<div class="tile"><b>{scores[key]:.4f}</b><span>{label}</span></div>'
        for key, label in SCORE_NAMES.items()
        if key in scores
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _class_table(report: dict[str, dict[str, float]]) -> str:
    head = "".join(f'<th class="n">{column}</th>' for column in REPORT_COLUMNS)
    body = []
    for row in REPORT_ROWS:
        cells = [
            f'<td class="n">{report[c][row]:,.0f}</td>'
            if c == "support" and row != "accuracy"
            else f'<td class="n">{report[c][row]:.4f}</td>'
            for c in REPORT_COLUMNS
        ]
        body.append(f"<tr><td>{row}</td>{''.join(cells)}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{_text(what)}</th><td><code>{_text(value)}</code></td></tr>" for what, value in rows)
    return f"<table><tbody>{body}</tbody></table>"


def _fairness(comparison: Fairness) -> str:
    """Rates of both groups and their ratios, as a table."""
    head = "".join(f'<th class="n">{name}</th>' for name in ("privileged", "others", "ratio"))
    body = []
    for rate in RATES:
        values = [group.rates[rate] for group in comparison.groups] + [comparison.ratios[rate]]
        cells = "".join(f'<td class="n">{"no case" if v is None else f"{v:.4f}"}</td>' for v in values)
        body.append(f"<tr><td>{rate}</td>{cells}</tr>")
    rows = f"{comparison.groups[0].rows:,} and {comparison.groups[1].rows:,} rows; a ratio of 1 is parity"
    return (
        f"<h2>Fairness by {_text(comparison.column)}</h2>"
        f"<p>Privileged: {_text(comparison.privileged)}; {rows}.</p>"
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _curves(results: Results) -> str:
    evaluation = results.evaluation
    roc = [(x, y) for x, y, _ in evaluation.roc]
    pr = [(x, y) for x, y, _ in evaluation.pr]
    bins = [(b.predicted, b.observed) for b in evaluation.calibration]
    figures = [
        ("ROC", plots.curve("ROC curve", roc, x="False positive rate", y="True positive rate", diagonal=True)),
        ("Precision and recall", plots.curve("Precision-recall curve", pr, x="Recall", y="Precision")),
        (
            "Calibration",
            plots.curve("Calibration", bins, x="Predicted", y="Observed share of defaults", diagonal=True, dots=True),
        ),
    ]
    inner = "".join(f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" for caption, svg in figures)
    return f'<div class="plots">{inner}</div>'
