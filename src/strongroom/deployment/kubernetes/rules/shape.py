"""Names, labels, types and fields of single objects."""

import re
from collections.abc import Iterator
from typing import Final

from strongroom.deployment.kubernetes.rules import fields
from strongroom.deployment.kubernetes.rules.cluster import (
    Cluster,
    finding,
    kind_of,
    mapping,
    mappings,
    metadata_of,
    name_of,
    namespace_of,
    spec_of,
    where,
)
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding

_DNS_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_KEY: Final = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_SECRET_NAME: Final = re.compile(r"(?i)(password|passwd|secret|token|api_?key|private_?key|connection_?string)")


def known_fields(cluster: Cluster) -> Iterator[Finding]:
    """``unknown_field``: a field that no such object has."""
    for item in cluster.objects:
        if "." not in str(item.get("apiVersion", "")).partition("/")[0].replace(".k8s.io", ""):
            yield from _unknown(where(item), set(item) - fields.TOP)
        allowed = fields.SPEC.get(kind_of(item))
        if allowed is not None:
            yield from _unknown(f"{where(item)} spec", set(spec_of(item)) - allowed)
    for pod in cluster.pods:
        yield from _unknown(f"{pod.where} pod", set(pod.spec) - fields.POD)
        for container in pod.containers():
            yield from _unknown(f"{pod.where} container", set(container) - fields.CONTAINER)
            for name in fields.PROBES:
                yield from _unknown(f"{pod.where} {name}", set(mapping(container.get(name))) - fields.PROBE)


def _unknown(place: str, names: set[str]) -> Iterator[Finding]:
    for name in sorted(map(str, names)):
        yield finding("unknown_field", place, f"there is no field {name!r}")


def identity(cluster: Cluster) -> Iterator[Finding]:
    """``name``, ``namespace``, ``duplicate``: every object has one valid place of its own."""
    seen: set[tuple[str, str, str]] = set()
    for item in cluster.objects:
        name, kind = name_of(item), kind_of(item)
        if not item.get("apiVersion") or not item.get("kind") or not _DNS_NAME.fullmatch(name):
            yield finding("name", where(item), "needs apiVersion, kind and a DNS name")
        if (kind in fields.CLUSTER_WIDE) == bool(namespace_of(item)):
            wanted = "has no namespace" if kind in fields.CLUSTER_WIDE else "needs a namespace"
            yield finding("namespace", where(item), wanted)
        place = (kind, namespace_of(item), name)
        if place in seen:
            yield finding("duplicate", where(item), "is there twice")
        seen.add(place)
    for pod in cluster.pods:
        for container in pod.containers():
            if not _DNS_LABEL.fullmatch(str(container.get("name", ""))):
                yield finding("name", pod.where, "a container's name is a DNS label")


def labels(cluster: Cluster) -> Iterator[Finding]:
    """``label``: labels have keys and values of the allowed form."""
    for item in cluster.objects:
        yield from _labels(where(item), mapping(metadata_of(item).get("labels")))
    for pod in cluster.pods:
        yield from _labels(pod.where, {**pod.labels, **mapping(pod.spec.get("nodeSelector"))})


def _labels(place: str, found: Object) -> Iterator[Finding]:
    for key, value in found.items():
        if not (isinstance(value, str) and _LABEL_VALUE.fullmatch(value) and _LABEL_KEY.fullmatch(str(key))):
            yield finding("label", place, f"label {key!s:.70} is not a label with a text")


def texts(cluster: Cluster) -> Iterator[Finding]:
    """``not_text``: what must be text is text, not a number or a truth value that YAML made of it."""
    for item in cluster.objects:
        kept = {"ConfigMap": item.get("data"), "SecretProviderClass": spec_of(item).get("parameters")}
        values = {**mapping(kept.get(kind_of(item))), **mapping(metadata_of(item).get("annotations"))}
        yield from _quoted(where(item), values)
    for place, entry in _environment(cluster):
        yield from _quoted(place, {str(entry.get("name")): entry.get("value", "")})


def _quoted(place: str, values: Object) -> Iterator[Finding]:
    for name, value in values.items():
        if not isinstance(value, str):
            yield finding("not_text", place, f"{name} is not text: quote it")


def _environment(cluster: Cluster) -> Iterator[tuple[str, Object]]:
    """Every variable of every container, with the place for messages."""
    for pod in cluster.pods:
        for container in pod.containers():
            for entry in mappings(container.get("env")):
                yield pod.where, entry


def no_secrets(cluster: Cluster) -> Iterator[Finding]:
    """``secret``: no secret stands in a manifest."""
    for item in cluster.of("Secret"):
        if item.get("data") or item.get("stringData"):
            yield finding("secret", where(item), "holds values; store them with kubectl create secret, or a key vault")
    for item in cluster.of("ConfigMap"):
        if any("PRIVATE KEY" in str(value) for value in mapping(item.get("data")).values()):
            yield finding("secret", where(item), "holds a private key")
    for place, entry in _environment(cluster):
        name, value = str(entry.get("name")), str(entry.get("value", ""))
        # SECRET_PROVISION_* are Gramine's addresses and paths.
        if value and _SECRET_NAME.search(name) and not name.startswith("SECRET_PROVISION_"):
            yield finding("secret", place, f"variable {name} looks like a secret")
