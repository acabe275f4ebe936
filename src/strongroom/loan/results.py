"""An evaluation with the facts about its model: what a report is made of."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from strongroom.errors import FormatError
from strongroom.loan.bundle import Bundle
from strongroom.loan.evaluation import Evaluation
from strongroom.loan.fairness import Fairness


@dataclass(frozen=True, slots=True)
class Results:
    """One model's evaluation.

    Args:
        model: The bundle's metadata.
        evaluation: Scores and curves.
        importance: Feature name and its share of the total gain, largest first.
        notes: What a reader must know before believing the scores.
        fairness: Comparisons of groups of rows.
    """

    MAX_BYTES: ClassVar[int] = 16 << 20

    model: dict[str, Any]
    evaluation: Evaluation
    importance: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()
    fairness: tuple[Fairness, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data that `parse` reads back."""
        return {
            "model": self.model,
            "evaluation": self.evaluation.to_json(),
            "importance": [list(item) for item in self.importance],
            "notes": list(self.notes),
            "fairness": [comparison.to_json() for comparison in self.fairness],
        }

    @classmethod
    def parse(cls, raw: bytes) -> "Results":
        """Read the JSON text of `to_json`.

        Raises:
            FormatError: Anything else, code ``loan.results``.
        """
        try:
            data = json.loads(raw) if len(raw) <= cls.MAX_BYTES else None
            data = dict(data or {})
            importances = tuple((str(name), float(share)) for name, share in data["importance"])
            notes = tuple(str(note) for note in data["notes"])
            model = dict(data["model"])
            fairness = tuple(Fairness.from_json(item) for item in data["fairness"])
            return cls(model, Evaluation.from_json(data["evaluation"]), importances, notes, fairness)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            raise FormatError(
                "not the results of an evaluation", code="loan.results", hint="`strongroom loan evaluate` writes them"
            ) from error


def importance(bundle: Bundle) -> tuple[tuple[str, float], ...]:
    """Share of the total gain by feature, largest first; features without a split are left out."""
    gains = cast(dict[str, float], bundle.booster.get_score(importance_type="total_gain"))
    total = sum(gains.values()) or 1.0
    return tuple(sorted(((name, gain / total) for name, gain in gains.items()), key=lambda item: -item[1]))
