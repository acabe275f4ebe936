"""What is wrong with a template, as far as that can be said without Azure: names, references, order, secrets."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from strongroom.deployment.azure.expressions import resolve
from strongroom.deployment.azure.template import ROLES, SCHEMA, VERSIONS
from strongroom.errors import Finding, FormatError

_RESOURCE_ID: Final = re.compile(r"(?<!subscription)(?<!subscriptionR)resourceId\(([^()]*)\)")
_QUOTED: Final = re.compile(r"'([^']*)'")
_SECRET: Final = re.compile(r"(?i)(listKeys|password|connectionString|accountKey|BEGIN [A-Z ]*PRIVATE KEY)")
_ROLE: Final = re.compile(r"roleDefinitions', '([0-9a-f-]{36})'")
_PARAMETER: Final = re.compile(r"parameters\('([A-Za-z0-9]+)'\)")
_POOL: Final = re.compile(r"[a-z][a-z0-9]{0,11}", re.ASCII)


def check_template(template: dict[str, Any]) -> list[Finding]:
    """Every finding.

    Args:
        template: A parsed ARM template.
    """
    return list(_findings(template))


def _findings(template: dict[str, Any]) -> Iterator[Finding]:
    parameters = template.get("parameters", {})
    yield from _parameters(template, parameters)
    try:
        template = resolve(template, {name: found.get("defaultValue", "") for name, found in parameters.items()})
    except FormatError as error:
        yield Finding(error.code, error.message)
        return
    resources = [item for item in template.get("resources", []) if isinstance(item, dict)]
    if template.get("$schema") != SCHEMA or not resources:
        yield Finding("azure.schema", "not a template of a resource group")
    names = Counter((item.get("type"), item.get("name")) for item in resources)
    for (kind, name), times in names.items():
        if times > 1:
            yield Finding("azure.duplicate", f"{kind} {name} is there {times} times")
    known = {(str(kind), *str(name).split("/")) for kind, name in names}
    for item in resources:
        yield from _resource(item, known)
    for text in _texts(template):
        if _SECRET.search(text):
            yield Finding("azure.secret", f"a secret, or a call for one: {text[:60]}")
    for text in _texts(template.get("outputs", {})):
        yield from _references("outputs", text, known)


def _parameters(template: dict[str, Any], parameters: dict[str, Any]) -> Iterator[Finding]:
    used = {name for text in _texts(template) for name in _PARAMETER.findall(text)}
    for name in sorted(parameters.keys() - used):
        yield Finding("azure.parameter", f"nothing uses the parameter {name}")
    for name, found in parameters.items():
        default = found.get("defaultValue")
        if not isinstance(default, {"string": str, "int": int}.get(str(found.get("type")), ())):
            yield Finding("azure.parameter", f"{name}: the default is no {found.get('type')}")
        elif isinstance(default, str) and not _fits(len(default), found, "Length"):
            yield Finding("azure.parameter", f"{name}: the default is too short or too long")
        elif isinstance(default, int) and not _fits(default, found, "Value"):
            yield Finding("azure.parameter", f"{name}: the default is out of range")
        if default not in found.get("allowedValues", [default]):
            yield Finding("azure.parameter", f"{name}: the default is not allowed")


def _fits(number: int, bounds: dict[str, Any], what: str) -> bool:
    return bool(bounds.get(f"min{what}", number) <= number <= bounds.get(f"max{what}", number))


def _resource(item: dict[str, Any], known: set[tuple[str, ...]]) -> Iterator[Finding]:
    kind, name = str(item.get("type")), str(item.get("name"))
    if VERSIONS.get(kind) != item.get("apiVersion"):
        yield Finding("azure.type", f"{kind} {item.get('apiVersion')} is not one that is known here")
    if not name.startswith("[") and kind.count("/") != name.count("/") + 1:
        yield Finding("azure.name", f"{kind} needs a name of {kind.count('/')} parts: {name}")
    for text in _texts(item):
        yield from _references(name, text, known)
        for role in _ROLE.findall(text):
            if role not in ROLES.values():
                yield Finding("azure.role", f"{name}: unknown role {role}")
    yield from _order(item, known)
    for pool in item.get("properties", {}).get("agentPoolProfiles", []):
        if not _POOL.fullmatch(str(pool.get("name"))):
            yield Finding("azure.pool", f"pool name {pool.get('name')!r}: at most 12 of a-z and 0-9")
        if not 1 <= pool.get("minCount", 0) <= pool.get("count", 0) <= pool.get("maxCount", 0):
            yield Finding("azure.pool", f"pool {pool.get('name')}: minCount, count, maxCount")


def _references(name: str, text: str, known: set[tuple[str, ...]]) -> Iterator[Finding]:
    for target in _targets(text):
        if target not in known:
            yield Finding("azure.reference", f"{name} refers to {' '.join(target)}, which is not in the template")


def _order(item: dict[str, Any], known: set[tuple[str, ...]]) -> Iterator[Finding]:
    """A resource that looks at another one must wait for it."""
    needs = {target for text in item.get("dependsOn", []) for target in _targets(str(text))}
    own = (str(item.get("type")), *str(item.get("name")).split("/"))
    used = {target for text in _texts(item.get("properties", {})) for target in _targets(text)}
    used |= set(_targets(str(item.get("scope", ""))))
    for target in sorted((used & known) - needs - {own}):
        yield Finding("azure.order", f"{item.get('name')} does not wait for {' '.join(target)}")


def _targets(text: str) -> list[tuple[str, ...]]:
    return [tuple(_QUOTED.findall(found)) for found in _RESOURCE_ID.findall(text)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
