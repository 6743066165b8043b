"""The messages of the gRPC API, made from its definition (`inference.binpb`) when they are first needed, so
that they go with whatever version of protobuf is installed."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "ml.inference.v1"
METHOD = f"/{PACKAGE}.InferenceService/InferStream"
#: The name of each task in `InferStreamRequest`.
FIELDS = {"embeddings": "embed"}
#: What a field of a result is called over REST.
RENAMED = {"TokenizeResult": {"tokens": "tokenization"}}


def _classes() -> Callable[[str], Any]:
    # A pool of our own: a program may have stubs of the same definition.
    pool = descriptor_pool.DescriptorPool()
    found = descriptor_pb2.FileDescriptorSet.FromString(
        files(__package__).joinpath("inference.binpb").read_bytes()
    )
    for file in found.file:
        pool.AddSerializedFile(file.SerializeToString())
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


_class = _classes()
Request = _class("InferStreamRequest")
Response = _class("InferStreamResponse")


def request(task: str, inputs: list[str], options: Mapping[str, Any], number: int, timeout_ms: int) -> Any:
    """A message of the stream. Raises `ValueError` for an option that the task does not have."""
    made = Request(correlation_id=str(number), timeout_ms=timeout_ms)
    call = getattr(made, FIELDS.get(task, task))
    call.inputs.extend(inputs)
    for name, value in options.items():
        field = call.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            raise ValueError(f"{task} takes no {name} over gRPC")
        if field.enum_type is not None:
            # Such as `stride`, which is TRUNCATION_STRIDE there.
            names = {entry.name.lower(): entry.number for entry in field.enum_type.values}
            prefix = field.enum_type.values[0].name.lower().removesuffix("unspecified")
            if prefix + str(value) not in names:
                raise ValueError(f"{name}: {value!r} is not known")
            value = names[prefix + str(value)]
        if isinstance(value, (list, tuple)):
            getattr(call, name).extend(value)
        else:
            setattr(call, name, value)
    return made


def as_json(message: Any) -> dict[str, Any]:
    """A result in the form that it has over REST."""
    kind = message.DESCRIPTOR
    found: dict[str, Any] = {}
    for field in kind.fields:
        value = getattr(message, field.name)
        name = RENAMED.get(kind.name, {}).get(field.name, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[name] = dict(value)
        elif isinstance(value, (str, bytes, bool, int, float)):
            absent = field.has_presence and not message.HasField(field.name)
            found[name] = None if absent else _named(field, value)
        elif field.message_type is None:
            found[name] = list(value)
        elif not hasattr(value, "DESCRIPTOR"):
            found[name] = [as_json(item) for item in value]
        elif field.name == "report":
            found |= as_json(value)
        elif message.HasField(field.name):
            found[name] = as_json(value)
    return found


def _named(field: Any, value: Any) -> Any:
    if field.enum_type is None:
        return value
    prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
    return field.enum_type.values_by_number[value].name.removeprefix(prefix).lower()
