"""Random messages of the official types."""

import random
import string

import official

SPECIAL_NUMBERS = [0, 1, -1, 127, 128, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1,
                   2**53 + 1]
RANGES = {3: (-(2**63), 2**63 - 1), 4: (0, 2**64 - 1), 5: (-(2**31), 2**31 - 1), 6: (0, 2**64 - 1),
          7: (0, 2**32 - 1), 13: (0, 2**32 - 1), 15: (-(2**31), 2**31 - 1),
          16: (-(2**63), 2**63 - 1), 17: (-(2**31), 2**31 - 1), 18: (-(2**63), 2**63 - 1)}
TEXT = string.ascii_letters + string.digits + " \"\\/\n\t<>&'\u00e9\u20ac\U0001f600\x7f\x01"


class Generator:
    def __init__(self, seed, pool, wanted):
        """wanted(field) says whether a field may be set."""
        self.random = random.Random(seed)
        self.pool = pool
        self.wanted = wanted

    def number(self, kind):
        low, high = RANGES[kind]
        n = self.random.choice(SPECIAL_NUMBERS + [self.random.randint(low, high)])
        return n if low <= n <= high else self.random.randint(low, high)

    def floating(self, kind):
        import struct

        x = self.random.choice([0.0, 0.1, 1.5, -1e10, 3.0, 1e-7, self.random.random()])
        return struct.unpack("f", struct.pack("f", x))[0] if kind == 2 else x

    def text(self):
        return "".join(self.random.choice(TEXT) for _ in range(self.random.randint(0, 12)))

    def scalar(self, field):
        if field.type in RANGES:
            return self.number(field.type)
        if field.type in (1, 2):
            return self.floating(field.type)
        if field.type == 8:
            return self.random.random() < 0.5
        if field.type == 9:
            return self.text()
        if field.type == 12:
            return self.random.randbytes(self.random.randint(0, 9))
        if field.type == 14:
            return self.random.choice(field.enum_type.values).number
        raise AssertionError(field.type)

    def special(self, message, depth):
        """Well-known types; True if it was one."""
        name = message.DESCRIPTOR.full_name
        if name in ("google.protobuf.Duration", "google.protobuf.Timestamp"):
            message.seconds = self.random.randint(0, 2**33)
            message.nanos = self.random.choice([0, 1, 250000000, 1000, 999999999])
            if name.endswith("Duration") and self.random.random() < 0.3:
                message.seconds, message.nanos = -message.seconds, -message.nanos
        elif name == "google.protobuf.FieldMask":
            message.paths.extend(["a.b_c", "some_field"][: self.random.randint(0, 2)])
        elif name == "google.protobuf.Value":
            self.value(message, depth)
        elif name == "google.protobuf.Any":
            self.any(message, depth)
        else:
            return False
        return True

    def value(self, message, depth):
        kind = self.random.choice("nbsdlS" if depth > 0 else "nbsd")
        if kind == "n":
            message.null_value = 0
        elif kind == "b":
            message.bool_value = self.random.random() < 0.5
        elif kind == "s":
            message.string_value = self.text()
        elif kind == "d":
            message.number_value = self.floating(1)
        elif kind == "l":
            message.list_value.SetInParent()
            for _ in range(self.random.randint(0, 2)):
                self.value(message.list_value.values.add(), depth - 1)
        else:
            message.struct_value.SetInParent()
            self.fill(message.struct_value, depth - 1)

    def any(self, message, depth):
        from google.protobuf import message_factory

        names = ["envoy.config.core.v3.Node", "google.protobuf.Duration", "envoy.config.core.v3.Address",
                 "google.protobuf.Struct", "google.protobuf.StringValue", "google.protobuf.Empty"]
        if self.random.random() < 0.2:
            return
        descriptor = self.pool.FindMessageTypeByName(self.random.choice(names))
        inner = message_factory.GetMessageClass(descriptor)()
        self.fill(inner, depth - 1)
        message.Pack(inner, deterministic=True)

    def fill(self, message, depth):
        if self.special(message, depth):
            return
        done = set()
        for field in message.DESCRIPTOR.fields:
            if not self.wanted(field) or self.random.random() < 0.35:
                continue
            oneof = field.containing_oneof
            if oneof is not None:
                if oneof.name in done:
                    continue
                done.add(oneof.name)
            self.field(message, field, depth)

    def field(self, message, field, depth):
        if field.message_type is not None and depth <= 0:
            return
        count = self.random.randint(1, 3)
        if official.is_map(field):
            key, value = (field.message_type.fields_by_name[n] for n in ("key", "value"))
            target = getattr(message, field.name)
            for _ in range(count):
                if value.message_type is not None:
                    self.fill(target[self.scalar(key)], depth - 1)
                else:
                    target[self.scalar(key)] = self.scalar(value)
        elif official.is_repeated(field):
            target = getattr(message, field.name)
            for _ in range(count):
                if field.message_type is not None:
                    self.fill(target.add(), depth - 1)
                else:
                    target.append(self.scalar(field))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            self.fill(getattr(message, field.name), depth - 1)
        else:
            setattr(message, field.name, self.scalar(field))
