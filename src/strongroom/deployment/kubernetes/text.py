"""Manifests as YAML: every text quoted, the order of keys kept, nothing a parser could take for something else.

YAML 1.1 readers take ``n``, ``0o17`` or ``1e3`` for a boolean or a number unless they are quoted.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from strongroom.errors import ConfigurationError, FormatError

Object = dict[str, Any]

MAX_YAML_BYTES: Final = 8 << 20
MAX_OBJECTS: Final = 10_000
_PLAIN_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
# Readers take the other line breaks of Unicode for line feeds in a block.
_LINES: Final = re.compile("[^\r\x85\u2028\u2029]*\n[^\r\x85\u2028\u2029]*")
_TAKEN: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def dump(objects: Sequence[Object]) -> str:
    """Write objects, one YAML document each.

    Args:
        objects: In the order of the documents.
    """
    yaml = _yaml()
    documents = [yaml.dump(item, Dumper=_dumper(), sort_keys=False, width=1000, allow_unicode=True) for item in objects]
    return "---\n".join(documents)


def load(text: str) -> list[Object]:
    """Read objects.

    Args:
        text: YAML documents; empty ones are left out. No aliases, no key twice.

    Raises:
        FormatError: Not such a text, code ``deploy.yaml``.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_YAML_BYTES:
        raise FormatError("the manifests are too long", code="deploy.yaml")
    yaml = _yaml()
    try:
        found = [item for item in yaml.load_all(text, Loader=_loader()) if item is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise FormatError(f"not YAML{where}", code="deploy.yaml") from None
    except (RecursionError, ValueError, TypeError, AttributeError):
        raise FormatError("not YAML", code="deploy.yaml") from None
    if len(found) > MAX_OBJECTS or not all(isinstance(item, dict) for item in found):
        raise FormatError("not a list of Kubernetes objects", code="deploy.yaml")
    return found


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(
            "PyYAML is not installed", code="deploy.yaml", hint="pip install 'strongroom[deployment]'"
        ) from None
    return yaml


def _dumper() -> Any:
    import yaml

    class Quoting(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
        def ignore_aliases(self, data: object) -> bool:
            del data
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            del indentless
            super().increase_indent(flow, False)

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if _LINES.fullmatch(value) else '"')

    def mapping(dumper: Any, value: Object) -> Any:
        node = dumper.represent_mapping("tag:yaml.org,2002:map", value.items())
        for key, _ in node.value:
            if _PLAIN_KEY.fullmatch(key.value) and key.value.lower() not in _TAKEN:
                key.style = None
        return node

    Quoting.add_representer(str, text)
    Quoting.add_representer(dict, mapping)
    return Quoting


def _loader() -> Any:
    import yaml

    class Strict(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not read")
            return super().compose_node(parent, index)

    def mapping(loader: Any, node: Any) -> Object:
        loader.flatten_mapping(node)
        pairs = [(loader.construct_object(key, deep=True), loader.construct_object(value, deep=True))
                 for key, value in node.value]  # fmt: skip
        if len({key for key, _ in pairs}) != len(pairs):
            raise yaml.YAMLError("a key is there twice")
        return dict(pairs)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    return Strict
