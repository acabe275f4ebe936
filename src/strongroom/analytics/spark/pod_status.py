"""How an executor's pod ended, asked of Kubernetes' API server: the one thing that a refused executor can leave.

The cluster may lie about it; nothing but a message to a person depends on it.

Source: Kubernetes API, Pod v1 (status.containerStatuses[].state.terminated.exitCode); Kubernetes documentation,
"Accessing the Kubernetes API from a Pod" (the service account's files).
"""

import json
import re
import ssl
import urllib.request
from pathlib import Path
from typing import Any, Final

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_ANSWER_BYTES: Final = 1024 * 1024
TIMEOUT_S: Final = 10.0
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def pod_exit_status(master: str, namespace: str, pod: str, *, account: Path = ACCOUNT) -> int | None:
    """The exit status of a pod's container.

    Args:
        master: ``k8s://https://HOST:PORT``.
        namespace: Of the pod.
        pod: Its name.
        account: Folder of the service account: token and authority of the API server.

    Returns:
        The status; None if nobody says it.
    """
    if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(pod):
        return None
    url = f"{master.removeprefix('k8s://')}/api/v1/namespaces/{namespace}/pods/{pod}"
    try:
        secure = url.startswith("https://")
        context = ssl.create_default_context(cafile=str(account / "ca.crt")) if secure else None
        headers = {"Authorization": f"Bearer {(account / 'token').read_text('ascii').strip()}"} if secure else {}
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # of `strongroom.analytics.spark.traffic`
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as answer:  # noqa: S310
            return _exit_status(json.loads(answer.read(MAX_ANSWER_BYTES)))
    except (OSError, ValueError, RecursionError):
        return None


def _exit_status(pod: Any) -> int | None:
    try:
        statuses = [item["state"]["terminated"]["exitCode"] for item in pod["status"]["containerStatuses"]]
    except (KeyError, TypeError):
        return None
    found = [status for status in statuses if isinstance(status, int) and status]
    return found[0] if found else None
