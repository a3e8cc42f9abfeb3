"""The official descriptors (PyPI xds-protos), loaded into the default pool."""

import importlib
import os
import pathlib
import site
import sys
import warnings

warnings.filterwarnings("ignore")

from google.protobuf import descriptor_pool  # noqa: E402

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
