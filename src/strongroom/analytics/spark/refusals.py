"""How an executor that may not take part says so: by its exit status, the one thing that reaches the driver.

An executor that was refused has no secret to speak to the driver with, so the cluster carries its exit status. The
cluster can lie about it; nothing but a message to a person depends on it. The whole story is in the broker's log.
"""

from typing import Final

from strongroom.errors import PolicyRejected, StrongroomError
from strongroom.outcome import exit_status
from strongroom.room.client import EXPLANATIONS

_FIRST: Final = 100
_CODES: Final = (*sorted(EXPLANATIONS), "spark.setting")
_OWN: Final = {"spark.setting": "it was started with a setting that the application's owner did not allow"}
_KINDS: Final = {
    2: "its settings or its workload file are wrong",
    3: "something it was given is malformed or not genuine",
    4: "the broker refused it",
    5: "the broker does not answer it",
}


def status_of(error: StrongroomError) -> int:
    """Exit status for an error: 100 and more for the first finding of a refusal, else as commands end."""
    if isinstance(error, PolicyRejected):
        for finding in error.findings:
            if finding.code in _CODES:
                return _FIRST + _CODES.index(finding.code)
    return exit_status(error)


def explain(status: int) -> str | None:
    """What an executor's exit status says, or None if it isn't one of an executor that was refused."""
    if _FIRST <= status < _FIRST + len(_CODES):
        code = _CODES[status - _FIRST]
        return f"{code}: {EXPLANATIONS.get(code) or _OWN[code]}"
    return _KINDS.get(status)
