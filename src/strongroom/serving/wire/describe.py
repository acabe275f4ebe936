"""From a compact table to protobuf message classes: no compiler, no generated files.

A table says for each message its fields: ``"2 map string tensorflow.TensorProto"``, ``"3 repeated string"``,
``"4 string in version_choice"`` (a oneof), ``"1 Int64Value"``. A dotted message name nests: ``"Policy.Latest"``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_FieldProto = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    name: getattr(_FieldProto, "TYPE_" + name.upper())
    for name in ("double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")
}
_WELL_KNOWN: Final = {
    "Any": "google.protobuf.Any",
    "Int64Value": "google.protobuf.Int64Value",
    "BoolValue": "google.protobuf.BoolValue",
    "StringValue": "google.protobuf.StringValue",
}
POOL: Final = descriptor_pool.DescriptorPool()
for _module in (any_pb2, wrappers_pb2):
    POOL.AddSerializedFile(_module.DESCRIPTOR.serialized_pb)


@dataclass(frozen=True)
class Description:
    """One protobuf file as a table.

    Args:
        file: Its name, as the public file is called.
        package: Its protobuf package.
        messages: Message name to field name to field text.
        enums: Enum name to value name to number; the first value is the default.
        services: Service name to method name to (request, response, streams): full message names and whether
            "none", "response" or "both" sides stream.
        imports: Other files that are named here.
    """

    file: str
    package: str
    messages: Mapping[str, Mapping[str, str]]
    enums: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, tuple[str, str, str]]] = field(default_factory=dict)
    imports: tuple[str, ...] = ()


def register(description: Description) -> dict[str, Any]:
    """Put a file into our pool.

    Returns:
        Message name, as in the table, to message class.
    """
    POOL.Add(_file(description))
    return {
        name: message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{description.package}.{name}"))
        for name in description.messages
    }


def _file(description: Description) -> descriptor_pb2.FileDescriptorProto:
    proto = descriptor_pb2.FileDescriptorProto(name=description.file, package=description.package, syntax="proto3")
    proto.dependency.extend(("google/protobuf/any.proto", "google/protobuf/wrappers.proto", *description.imports))
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in description.messages.items():
        parent, _, own = name.rpartition(".")
        message = made[parent].nested_type.add(name=own) if parent else proto.message_type.add(name=own)
        made[name] = message
        for field_name, text in fields.items():
            _add_field(message, f".{description.package}.{name}", description, field_name, text)
    for name, values in description.enums.items():
        parent, _, own = name.rpartition(".")
        enum = made[parent].enum_type.add(name=own) if parent else proto.enum_type.add(name=own)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, methods in description.services.items():
        service = proto.service.add(name=name)
        for method, (request, response, streams) in methods.items():
            service.method.add(
                name=method,
                input_type=f".{description.package}.{request}",
                output_type=f".{description.package}.{response}",
                client_streaming=streams == "both",
                server_streaming=streams in {"both", "response"},
            )
    return proto


def _add_field(
    message: descriptor_pb2.DescriptorProto, scope: str, description: Description, name: str, text: str
) -> None:
    number, *words = text.split()
    made = message.field.add(name=name, number=int(number), json_name=name, label=_FieldProto.LABEL_OPTIONAL)
    if words[0] == "map":
        entry = _map_entry(message, description, name, words[1:])
        made.label, made.type, made.type_name = _FieldProto.LABEL_REPEATED, _FieldProto.TYPE_MESSAGE, f"{scope}.{entry}"
        return
    if words[0] == "repeated":
        made.label = _FieldProto.LABEL_REPEATED
        words = words[1:]
    _set_type(made, description, words[0])
    if words[1:]:
        made.oneof_index = _oneof(message, words[2])


def _map_entry(message: descriptor_pb2.DescriptorProto, description: Description, name: str, types: list[str]) -> str:
    entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
    entry = message.nested_type.add(name=entry_name)
    entry.options.map_entry = True
    for number, (part, kind) in enumerate(zip(("key", "value"), types, strict=True), start=1):
        _set_type(entry.field.add(name=part, number=number, label=_FieldProto.LABEL_OPTIONAL), description, kind)
    return entry_name


def _set_type(made: descriptor_pb2.FieldDescriptorProto, description: Description, kind: str) -> None:
    if kind in _SCALARS:
        made.type = _SCALARS[kind]
        return
    if kind.startswith("enum:"):
        made.type, kind = _FieldProto.TYPE_ENUM, kind.removeprefix("enum:")
    else:
        made.type = _FieldProto.TYPE_MESSAGE
    kind = _WELL_KNOWN.get(kind, kind)
    local = kind in description.messages or kind in description.enums
    made.type_name = f".{description.package}.{kind}" if local else f".{kind}"


def _oneof(message: descriptor_pb2.DescriptorProto, name: str) -> int:
    names = [declared.name for declared in message.oneof_decl]
    if name not in names:
        message.oneof_decl.add(name=name)
        return len(names)
    return names.index(name)
