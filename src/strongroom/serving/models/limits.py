"""Limits of one model: plain numbers with units."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """How much of one model may be in use at once.

    Args:
        concurrency: Predictions that run at the same time.
        queue: Requests that wait for their turn; one more is refused.
        timeout_s: How long a request without a deadline of its own may wait for its turn.
    """

    concurrency: int = 2
    queue: int = 256
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class BatchingLimits:
    """Dynamic batching, with TensorFlow Serving's meanings (session_bundle_config.proto, BatchingParameters).

    Args:
        max_batch_size: Rows of one batch; a larger request is refused, or split when `split` is set.
        timeout_us: The oldest request waits at most this long for company.
        max_enqueued_batches: Full batches that may wait; more is refused.
        threads: Batches that run at the same time.
        allowed_sizes: Sizes a batch is padded up to; empty for any size.
        split: Whether a request larger than a batch is split.
    """

    max_batch_size: int = 1000
    timeout_us: int = 0
    max_enqueued_batches: int = 10
    threads: int = 2
    allowed_sizes: tuple[int, ...] = ()
    split: bool = True
