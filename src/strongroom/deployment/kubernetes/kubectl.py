"""A thin caller of kubectl: argument lists, bounded output, nothing secret on any of them."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.deployment.kubernetes.text import Object, dump
from strongroom.errors import ConfigurationError, UnavailableError

TIMEOUT_S: Final = 120
MAX_COMPLAINT: Final = 400
PRIVILEGED: Final = ("pod-security.kubernetes.io/enforce", "privileged")
_LIBRARY_LOG: Final = re.compile(r"[EWI][0-9]{4} [0-9:.]+ ")
FIELD_MANAGER: Final = "strongroom"
# What kubectl may inherit; credential plugins (kubelogin, az) need HOME and PATH.
INHERITED: Final = ("PATH", "HOME", "KUBECONFIG", "AZURE_CONFIG_DIR", "LANG")
# Data outlives a deployment unless its owner says otherwise.
KEPT: Final = frozenset({"Namespace", "PersistentVolume", "PersistentVolumeClaim"})


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl for one cluster.

    Args:
        context: Name of the context in its configuration; None: the current one.
        program: The program.
    """

    context: str | None = None
    program: str = "kubectl"

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Run one command.

        Args:
            arguments: Behind ``kubectl``.
            stdin: What it reads.

        Returns:
            Its standard output.

        Raises:
            ConfigurationError: kubectl is not installed.
            UnavailableError: It ended with an error, or not in time.
        """
        context = ["--context", self.context] if self.context else []
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        try:
            done = subprocess.run(
                [self.program, *context, *arguments],
                input=stdin.encode(),
                env=environment,
                capture_output=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError:
            raise ConfigurationError("kubectl is not installed", code="deploy.kubectl") from None
        except subprocess.TimeoutExpired:
            raise UnavailableError("kubectl did not end in time", code="deploy.kubectl") from None
        if done.returncode:
            raise UnavailableError(f"kubectl: {_complaint(done.stderr)}", code="deploy.kubectl")
        return done.stdout.decode(errors="replace")

    def read(self, *arguments: str) -> dict[str, Any]:
        """Run one command that answers in JSON.

        Raises:
            ConfigurationError: kubectl is not installed.
            UnavailableError: It ended with an error, or did not answer in JSON.
        """
        try:
            answer = json.loads(self.run(*arguments, "--output", "json"))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise UnavailableError("kubectl's answer is not understood", code="deploy.kubectl")
        return answer


def _complaint(stderr: bytes) -> str:
    """What kubectl says at last, for people; what its libraries log on the way is left out."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    said = [line for line in lines if not _LIBRARY_LOG.match(line)] or lines or ["no reason given"]
    return " ".join(said[-3:])[:MAX_COMPLAINT]


def apply(kubectl: Kubectl, objects: Sequence[Object], *, dry_run: bool = False) -> str:
    """Bring objects to a cluster: namespaces first, then all of them if the server would take them all.

    Args:
        kubectl: For the cluster.
        objects: A whole set.
        dry_run: Let the server check and change nothing. Namespaces that are not there yet hide what is in them, so
            only the namespaces are checked then.

    Returns:
        What kubectl said.

    Raises:
        ConfigurationError: kubectl is not installed.
        UnavailableError: The server refused.
    """
    namespaces = [item for item in objects if item["kind"] == "Namespace"]
    said = _apply(kubectl, namespaces, dry_run=dry_run)
    if dry_run and any(not _exists(kubectl, item) for item in namespaces):
        return said
    checked = _apply(kubectl, objects, dry_run=True)
    return checked if dry_run else said + _apply(kubectl, objects)


def _apply(kubectl: Kubectl, objects: Sequence[Object], *, dry_run: bool = False) -> str:
    if not objects:
        return ""
    how = ["--dry-run=server"] if dry_run else []
    manager = f"--field-manager={FIELD_MANAGER}"
    return kubectl.run("apply", "--server-side", manager, *how, "--filename", "-", stdin=dump(objects))


def _exists(kubectl: Kubectl, namespace: Object) -> bool:
    found = kubectl.run(
        "get", "namespace", str(namespace["metadata"]["name"]), "--ignore-not-found", "--output", "name"
    )
    return bool(found.strip())


def delete(kubectl: Kubectl, objects: Sequence[Object], *, data_too: bool = False) -> str:
    """Take objects away from a cluster, last ones first.

    Args:
        kubectl: For the cluster.
        objects: A whole set.
        data_too: Also namespaces, claims and volumes, and so what is stored in them.

    Returns:
        What kubectl said.

    Raises:
        ConfigurationError: kubectl is not installed.
        UnavailableError: The server refused.
    """
    gone = [item for item in reversed(objects) if data_too or item["kind"] not in KEPT or _relaxed(item)]
    return kubectl.run("delete", "--ignore-not-found", "--wait=false", "--filename", "-", stdin=dump(gone))


def _relaxed(item: Object) -> bool:
    """Whether this is a namespace that takes privileged pods: it holds no data, and must not be left open."""
    return item["kind"] == "Namespace" and PRIVILEGED in item["metadata"].get("labels", {}).items()


@dataclass(frozen=True, slots=True)
class State:
    """How one deployment is.

    Args:
        name: Namespace and name.
        wanted: Replicas asked for.
        ready: Replicas that answer.
        why: What the server says about the ones that don't.
    """

    name: str
    wanted: int
    ready: int
    why: str = ""


def status(kubectl: Kubectl, objects: Sequence[Object]) -> list[State]:
    """How the deployments among some objects are.

    Raises:
        ConfigurationError: kubectl is not installed.
        UnavailableError: The server does not answer.
    """
    states = []
    for item in objects:
        if item["kind"] not in {"Deployment", "StatefulSet", "DaemonSet"}:
            continue
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        found = kubectl.read("get", item["kind"].lower(), name, "--namespace", namespace)
        spec, state = found.get("spec") or {}, found.get("status") or {}
        complaints = [
            str(condition.get("message", ""))
            for condition in state.get("conditions") or []
            if condition.get("status") == "False"
        ]
        wanted, ready = int(spec.get("replicas") or 0), int(state.get("readyReplicas") or 0)
        if item["kind"] == "DaemonSet":  # one on every node that it is for
            wanted, ready = (int(state.get(name) or 0) for name in ("desiredNumberScheduled", "numberReady"))
        states.append(State(f"{namespace}/{name}", wanted, ready, "; ".join(complaints)))
    return states
