"""The official descriptors (PyPI xds-protos), loaded into the default pool."""

import importlib
import os
import pathlib
import site
import sys
import warnings

warnings.filterwarnings("ignore")

from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: E402

ROOTS = ("envoy", "xds", "udpa", "google/rpc", "google/protobuf", "validate")


def site_dir():
    """The directory that holds the official *_pb2 modules."""
    import udpa

    return pathlib.Path(list(udpa.__path__)[0]).parent


def load():
    """Imports every official module and returns the file descriptors, sorted by name."""
    base = site_dir()
    files = {}
    for root in ROOTS:
        for path in sorted((base / root).rglob("*_pb2.py")):
            name = str(path.relative_to(base))[:-3].replace(os.sep, ".")
            if "protobuf.internal" in name or "unittest" in name:
                continue
            try:
                module = importlib.import_module(name)
            except (ImportError, TypeError) as e:
                print(f"official: {name} left out: {e}", file=sys.stderr)
                continue
            files[module.DESCRIPTOR.name] = module.DESCRIPTOR
    return [files[name] for name in sorted(files)]


def pool():
    return descriptor_pool.Default()


# The same with what newer releases of the API have and the package has not: what the tables and
# .proto files are made of.
_complete = descriptor_pool.DescriptorPool()
_added = set()


def load_complete():
    """The descriptors of load(), completed."""
    files = load()
    for file in files:
        _add(file)
    return [_complete.FindFileByName(file.name) for file in files]


def complete_pool():
    if not _added:
        load_complete()
    return _complete


def _add(file):
    if file.name in _added:
        return
    _added.add(file.name)
    for other in file.dependencies:
        _add(other)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    if file.name == "envoy/config/route/v3/route_components.proto":
        _add_cookies(proto)
    _complete.Add(proto)


def _add_cookies(proto):
    """RouteMatch.cookies and CookieMatcher, as Envoy 1.40's own descriptors have them."""
    from validate import validate_pb2

    if any(m.name == "CookieMatcher" for m in proto.message_type):
        return
    field = descriptor_pb2.FieldDescriptorProto
    route_match = next(m for m in proto.message_type if m.name == "RouteMatch")
    route_match.field.add(name="cookies", json_name="cookies", number=17,
                          label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE,
                          type_name=".envoy.config.route.v3.CookieMatcher")
    matcher = proto.message_type.add(name="CookieMatcher")
    name = matcher.field.add(name="name", json_name="name", number=1, label=field.LABEL_OPTIONAL,
                             type=field.TYPE_STRING)
    name.options.Extensions[validate_pb2.rules].string.min_len = 1
    value = matcher.field.add(name="string_match", json_name="stringMatch", number=2,
                              label=field.LABEL_OPTIONAL, type=field.TYPE_MESSAGE,
                              type_name=".envoy.type.matcher.v3.StringMatcher")
    value.options.Extensions[validate_pb2.rules].message.required = True
    matcher.field.add(name="invert_match", json_name="invertMatch", number=3,
                      label=field.LABEL_OPTIONAL, type=field.TYPE_BOOL)


def messages(files):
    """All message descriptors of the files, nested ones included, map entries left out."""
    out = []

    def visit(message):
        if message.GetOptions().map_entry:
            return
        out.append(message)
        for nested in message.nested_types:
            visit(nested)

    for f in files:
        for name in sorted(f.message_types_by_name):
            visit(f.message_types_by_name[name])
    return out


def is_repeated(field):
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == 3


def is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry
