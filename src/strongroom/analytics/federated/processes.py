"""XGBoost's communicator can't be interrupted, so it runs in processes that can be ended."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait
from typing import Any, Final

from strongroom.errors import ConfigurationError

SPAWN: Final = multiprocessing.get_context("spawn")


def federated_xgboost() -> Any:
    """XGBoost, if it was built with the federated communicator.

    Raises:
        ConfigurationError: It is absent or was built without.
    """
    hint = "pip install 'strongroom[federated]' in an environment without xgboost-cpu"
    try:
        import xgboost
    except ImportError:
        raise ConfigurationError("XGBoost is not installed", code="federate.xgboost", hint=hint) from None
    if not xgboost.build_info().get("USE_FEDERATED"):
        raise ConfigurationError(
            "this XGBoost was built without its federated communicator", code="federate.xgboost", hint=hint
        )
    return xgboost


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
