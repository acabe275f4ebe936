"""The loan application's bundles as an engine of the model server: callers send raw applicant rows."""

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np

from strongroom.errors import ConfigurationError
from strongroom.serving.engines import CLASSIFY, DEFAULT_SIGNATURE, Engine, ModelFiles, Signature, TensorSpec
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.dtypes import FLOAT, STRING, Array

SUFFIX: Final = ".bundle"
PROBABILITY: Final = "probability"


class LoanBundleEngine:
    """One input for each column of a loan file, [rows]: numbers as float32 (NaN: missing), categories as text.

    ``serving_default`` answers ``probability`` of default [rows]; ``classification`` the scores of both classes.

    Args:
        content: The bundle's bytes.

    Raises:
        FormatError: Not a bundle.
    """

    platform = "strongroom_loan"

    def __init__(self, content: bytes) -> None:
        from strongroom.loan.bundle import read_bundle
        from strongroom.loan.schema import CATEGORIES, NUMBERS

        self._bundle = read_bundle(io.BytesIO(content))
        self._bundle.booster.set_param({"nthread": 1})
        self._numbers = NUMBERS
        self._categories = {
            column.name: {value.encode(): code for code, value in enumerate(column.values)} for column in CATEGORIES
        }
        inputs = {
            **{column.name: TensorSpec(column.name, FLOAT, (None,)) for column in NUMBERS},
            **{column.name: TensorSpec(column.name, STRING, (None,)) for column in CATEGORIES},
        }
        self.signatures = MappingProxyType(
            {
                DEFAULT_SIGNATURE: Signature(inputs, {PROBABILITY: TensorSpec(PROBABILITY, FLOAT, (None,))}),
                "classification": Signature(
                    inputs,
                    {
                        "classes": TensorSpec("classes", STRING, (None, 2)),
                        "scores": TensorSpec("scores", FLOAT, (None, 2)),
                    },
                    CLASSIFY,
                ),
            }
        )

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Predict applicants.

        Raises:
            InvalidRequest: A column of another length, a number out of its range, an unknown category.
        """
        del signature
        from strongroom.loan.book import LoanBook
        from strongroom.loan.prediction import predict_book

        sizes = {len(array) for array in inputs.values()}
        if len(sizes) != 1 or sizes == {0}:
            raise InvalidRequest("every column must have the same number of rows, at least one")
        book = LoanBook(
            {column.name: self._number(column.name, inputs[column.name]) for column in self._numbers},
            {name: self._codes(name, inputs[name]) for name in self._categories},
        )
        defaults = predict_book(self._bundle, book)
        scores = np.stack([1 - defaults, defaults], axis=1)
        classes = np.empty(scores.shape, dtype=object)
        classes[:] = [[b"paid", b"default"]]
        values = {PROBABILITY: defaults, "scores": scores, "classes": classes}
        return {name: values[name] for name in outputs}

    def example(self, signature: str) -> Mapping[str, Array]:
        """An applicant with the smallest allowed number and the first value of each category."""
        del signature
        numbers = {column.name: np.array([column.low], dtype=np.float32) for column in self._numbers}
        texts = {name: np.array([next(iter(values))], dtype=object) for name, values in self._categories.items()}
        return {**numbers, **texts}

    def close(self) -> None:
        """Nothing beyond memory is held."""

    def _number(self, name: str, values: Array) -> Array:
        column = next(column for column in self._numbers if column.name == name)
        missing = np.isnan(values)
        if missing.any() and not column.optional:
            raise InvalidRequest(f"{name} is missing in a row")
        present = values[~missing]
        if ((present < column.low) | (present > column.high)).any():
            raise InvalidRequest(f"{name} is outside {column.low:g} to {column.high:g} in a row")
        if column.whole and (present != np.floor(present)).any():
            raise InvalidRequest(f"{name} is not a whole number in a row")
        return values

    def _codes(self, name: str, values: Array) -> Array:
        known = self._categories[name]
        try:
            return np.array([known[value] for value in values.tolist()], dtype=np.int8)
        except KeyError:
            raise InvalidRequest(f"{name} has a value that is none of {', '.join(v.decode() for v in known)}") from None


class LoanBundleMaker:
    """Loads the one ``*.bundle`` of a version, from memory."""

    name = "loan"

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether there is one bundle."""
        return sum(name.endswith(SUFFIX) for name in names) == 1

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        """Load it.

        Raises:
            ConfigurationError: The loan application's libraries are not installed.
            FormatError: Not a bundle.
        """
        del concurrency  # one thread for each prediction
        name = next(name for name in sorted(files.names) if name.endswith(SUFFIX))
        try:
            return LoanBundleEngine(files.read(name))
        except ImportError:
            raise ConfigurationError(
                "the loan application is not installed", code="serving.engine", hint="pip install 'strongroom[loan]'"
            ) from None
