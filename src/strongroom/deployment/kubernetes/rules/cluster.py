"""A set of objects as the rules look at it: pods with their owners, and who is there by name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding

WORKLOAD_KINDS: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, or the template of pods.

    Args:
        owner: The object it stands in.
        namespace: Where it runs.
        labels: Of the pod.
        spec: Of the pod.
        copies: How many there are, where neither its owner's `replicas` nor an autoscaler says so.
    """

    owner: Object
    namespace: str
    labels: Object
    spec: Object
    copies: int | None = None

    @property
    def where(self) -> str:
        """Name for messages."""
        return where(self.owner)

    def containers(self, *, all_of_them: bool = True) -> Iterator[Object]:
        """Its containers, first the ones that set up."""
        lists = ("initContainers", "containers") if all_of_them else ("containers",)
        for name in lists:
            yield from mappings(self.spec.get(name))


@dataclass(frozen=True)
class Cluster:
    """All objects.

    Args:
        objects: As rendered or read.
        epc_mib: Protected memory of one node, MiB; 0: none.
        nodes: Most nodes that have it.
    """

    objects: Sequence[Object]
    epc_mib: int = 0
    nodes: int = 0

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """Every pod and template of pods."""
        return tuple(pod for item in self.objects for pod in _pods_of(item))

    def of(self, *kinds: str) -> Iterator[Object]:
        """The objects of some kinds."""
        return (item for item in self.objects if kind_of(item) in kinds)

    def has(self, kind: str, name: object, namespace: str) -> bool:
        """Whether there is an object of this name."""
        return any(name_of(item) == name and namespace_of(item) == namespace for item in self.of(kind))

    def claim_names(self, pod: Pod) -> set[str]:
        """Volumes that the pod's owner makes a claim for."""
        return {name_of(claim) for claim in mappings(spec_of(pod.owner).get("volumeClaimTemplates"))}


def _pods_of(item: Object) -> list[Pod]:
    if kind_of(item) == "Pod":
        return [Pod(item, namespace_of(item), mapping(metadata_of(item).get("labels")), spec_of(item))]
    if kind_of(item) in WORKLOAD_KINDS:
        return [_pod_of(item, mapping(spec_of(item).get("template")))]
    if kind_of(item) == "SparkApplication":
        settings = mapping(spec_of(item).get("sparkConf"))
        copies = {"driverSpec": 1, "executorSpec": _number(settings.get("spark.executor.instances"))}
        return [
            _pod_of(item, mapping(mapping(spec_of(item).get(role)).get("podTemplateSpec")), number)
            for role, number in copies.items()
        ]
    return []


def _pod_of(item: Object, template: Object, copies: int | None = None) -> Pod:
    labels = mapping(metadata_of(template).get("labels"))
    return Pod(item, namespace_of(item), labels, spec_of(template), copies)


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 6 else 1


def mapping(value: object) -> Object:
    """The value if it is a mapping, or an empty one: malformed parts are another rule's finding."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Object]:
    """The mappings in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def listed(value: object) -> list[Any]:
    """The value if it is a list, or an empty one."""
    return value if isinstance(value, list) else []


def metadata_of(item: Object) -> Object:
    """Metadata of an object or template."""
    return mapping(item.get("metadata"))


def spec_of(item: Object) -> Object:
    """Specification of an object or template."""
    return mapping(item.get("spec"))


def kind_of(item: Object) -> str:
    """Kind of an object."""
    return str(item.get("kind", ""))


def name_of(item: Object) -> str:
    """Name of an object."""
    return str(metadata_of(item).get("name", ""))


def namespace_of(item: Object) -> str:
    """Namespace of an object."""
    return str(metadata_of(item).get("namespace", ""))


def where(item: Object) -> str:
    """An object's kind and name for messages."""
    return f"{kind_of(item)} {name_of(item)}"


def finding(code: str, place: str, what: str) -> Finding:
    """A finding of the validation."""
    return Finding(f"deploy.{code}", f"{place}: {what}")


def fits(selector: object, labels: Object) -> bool:
    """Whether labels are what ``matchLabels``, or a service's selector, asks for; an empty one fits everything."""
    wanted = mapping(selector)
    return all(labels.get(name) == value for name, value in wanted.items())
