"""The model card: what a model is for, what it was made of, how good it is, where it fails; as Markdown.

Source of the headings: Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from collections.abc import Iterable
from typing import Any, Final

from strongroom.loan.fairness import RATES, Fairness
from strongroom.loan.results import Results

SHOWN_FEATURES: Final = 10
SPECIAL: Final = "\\`*_{}[]()<>#+-.!|&~"

INTENDED_USE: Final = (
    "Estimates the probability that a loan defaults, to support a person who decides on it. "
    "Not meant to decide alone, nor for other products or countries than those of its training rows."
)
CALIBRATION_LIMIT: Final = (
    "Probabilities are calibrated for the default rate of the training rows; a class weight or another population "
    "shifts them."
)
RARE_LIMIT: Final = "A category that was rare in training (for instance home ownership OTHER) is scored from few cases."
PUBLIC_DATA_LIMIT: Final = (
    "In the public Credit Risk Dataset, 429 of 32,581 rows state a loan_percent_income that contradicts amount and "
    "income, and all of them are defaults: an artefact of that file which any model with these columns can use, so "
    "its scores there are better than they would be elsewhere."
)
LIMITS: Final = (CALIBRATION_LIMIT, RARE_LIMIT, PUBLIC_DATA_LIMIT)


def render_model_card(results: Results) -> str:
    """The card as Markdown text.

    Args:
        results: The model's evaluation.
    """
    model, evaluation = results.model, results.evaluation
    lines = [f"# Model card: {_text(model.get('name', 'loan'))}, version {_text(model.get('version', '?'))}", ""]
    lines += _section("Model", [f"{label}: {_text(_plain(model.get(key, '?')))}" for key, label in _FACTS.items()])
    lines += _section("Intended use", [INTENDED_USE])
    lines += _section("Training data", _data_lines(model))
    lines += _section("Evaluation", [f"Held-out rows: {evaluation.rows:,}", f"Threshold: {evaluation.threshold:g}"])
    lines += [*_table(("score", "value"), [(name, f"{value:.4f}") for name, value in evaluation.scores.items()]), ""]
    lines += _section("What it looks at most", [f"{_text(n)}: {s:.1%}" for n, s in results.importance[:SHOWN_FEATURES]])
    for comparison in results.fairness:
        lines += _fairness_lines(comparison)
    lines += _section("Limits", [*(_text(note) for note in results.notes), *LIMITS])
    return "\n".join(lines)


_FACTS: Final = {
    "created_at": "Published",
    "note": "Made by",
    "preset": "Preset",
    "rounds": "Trees",
    "parameters": "Parameters",
}


def _data_lines(model: dict[str, Any]) -> list[str]:
    digests = model.get("data_digests")
    sources = [f"SHA-256 of the source file: {_text(d)}" for d in digests] if isinstance(digests, list) else []
    return [f"Rows: {_text(model.get('train_rows', '?'))}", *sources]


def _fairness_lines(fairness: Fairness) -> list[str]:
    privileged, other = fairness.groups
    rows = [
        (name, _rate(privileged.rates[name]), _rate(other.rates[name]), _rate(fairness.ratios[name])) for name in RATES
    ]
    return [
        f"## Fairness by {_text(fairness.column)}",
        "",
        f"Privileged: {_text(fairness.privileged)} ({privileged.rows:,} rows); others: {other.rows:,}. 1 is parity.",
        "",
        *_table(("rate", "privileged", "others", "ratio"), rows),
        "",
    ]


def _rate(value: float | None) -> str:
    return "no case" if value is None else f"{value:.4f}"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = ["| " + " | ".join(row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


def _plain(value: object) -> object:
    return ", ".join(f"{name} = {part}" for name, part in value.items()) if isinstance(value, dict) else value


def _text(value: object) -> str:
    """The value with Markdown's characters escaped, on one line."""
    return "".join("\\" + c if c in SPECIAL else c for c in str(value) if c.isprintable())
