"""How a checked request reaches the engine: directly through a gate, or put together with others."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from strongroom.serving.engines import Engine
from strongroom.serving.models.admission import Gate
from strongroom.serving.models.limits import ModelLimits
from strongroom.serving.tensors.dtypes import Array


class Runner(Protocol):
    """Runs checked requests."""

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None
    ) -> dict[str, Array]:
        """Compute the outputs named.

        Args:
            signature: Name of a signature of the model.
            inputs: Arrays that fit it.
            outputs: Names of wanted outputs.
            deadline: `time.monotonic()` of the caller's deadline, or None.

        Raises:
            Refused: A limit is reached, the deadline passed, or the engine refuses the inputs.
        """

    @property
    def idle(self) -> bool:
        """Whether a request would run at once, without waiting for others."""

    def close(self) -> None:
        """Stop; nothing is under way."""


class DirectRunner:
    """Each request runs by itself.

    Args:
        engine: The loaded model.
        limits: How many at once.
    """

    def __init__(self, engine: Engine, limits: ModelLimits) -> None:
        self._engine = engine
        self._gate = Gate(limits)

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None
    ) -> dict[str, Array]:
        """Run when it is our turn.

        Raises:
            Refused: Not admitted, or the engine refuses the inputs.
        """
        self._gate.enter(deadline)
        try:
            return self._engine.run(signature, inputs, outputs)
        finally:
            self._gate.leave()

    @property
    def idle(self) -> bool:
        """Whether a request would run at once."""
        return self._gate.idle

    def close(self) -> None:
        """Nothing to stop."""
