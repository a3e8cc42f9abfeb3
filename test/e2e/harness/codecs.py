"""Body codings of the tests: gzip by Python's zlib; br and zstd by the shared libraries that the
proxy is linked with. Independent of the proxy's own code around them."""

import ctypes
import ctypes.util
import gzip
import zlib


def library(name):
    return ctypes.CDLL(ctypes.util.find_library(name))


class Gzip:
    name, module = "gzip", "gzip"

    @staticmethod
    def compress(data):
        return gzip.compress(data, mtime=0)

    @staticmethod
    def stream():
        """stream is a decompressor that gives out what it can: .decompress(bytes)."""
        return zlib.decompressobj(31)


class Brotli:
    name, module = "br", "brotli"

    @staticmethod
    def compress(data):
        size = ctypes.c_size_t(len(data) + 1024)
        out = ctypes.create_string_buffer(size.value)
        assert library("brotlienc").BrotliEncoderCompress(
            5, 22, 0, ctypes.c_size_t(len(data)), data, ctypes.byref(size), out)
        return out.raw[:size.value]

    class stream:  # noqa: N801
        def __init__(self):
            self.lib = library("brotlidec")
            self.lib.BrotliDecoderCreateInstance.restype = ctypes.c_void_p
            self.state = ctypes.c_void_p(self.lib.BrotliDecoderCreateInstance(None, None, None))

        def decompress(self, data):
            left, source = ctypes.c_size_t(len(data)), ctypes.c_char_p(data)
            out, room = b"", ctypes.create_string_buffer(65536)
            while True:
                space, target = ctypes.c_size_t(65536), ctypes.c_void_p(ctypes.addressof(room))
                result = self.lib.BrotliDecoderDecompressStream(
                    self.state, ctypes.byref(left), ctypes.byref(source), ctypes.byref(space),
                    ctypes.byref(target), None)
                assert result != 0, "not brotli"
                out += room.raw[:65536 - space.value]
                if result != 3:  # BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT
                    self.eof = result == 1
                    return out


class Zstd:
    name, module = "zstd", "zstd"

    @staticmethod
    def compress(data):
        lib = library("zstd")
        lib.ZSTD_compress.restype = ctypes.c_size_t
        room = ctypes.create_string_buffer(len(data) + 1024)
        size = lib.ZSTD_compress(room, ctypes.c_size_t(len(room)), data,
                                 ctypes.c_size_t(len(data)), 3)
        return room.raw[:size]

    class stream:  # noqa: N801
        class Span(ctypes.Structure):
            _fields_ = [("p", ctypes.c_void_p), ("size", ctypes.c_size_t),
                        ("pos", ctypes.c_size_t)]

        def __init__(self):
            self.lib = library("zstd")
            self.lib.ZSTD_createDCtx.restype = ctypes.c_void_p
            self.lib.ZSTD_decompressStream.restype = ctypes.c_size_t
            self.state = ctypes.c_void_p(self.lib.ZSTD_createDCtx())

        def decompress(self, data):
            source = ctypes.create_string_buffer(data, len(data))
            room, out = ctypes.create_string_buffer(65536), b""
            src = self.Span(ctypes.addressof(source), len(data), 0)
            while True:
                dst = self.Span(ctypes.addressof(room), 65536, 0)
                left = self.lib.ZSTD_decompressStream(self.state, ctypes.byref(dst),
                                                      ctypes.byref(src))
                assert not self.lib.ZSTD_isError(ctypes.c_size_t(left)), "not zstd"
                out += room.raw[:dst.pos]
                self.eof = left == 0
                if src.pos == src.size and dst.pos < 65536:
                    return out


ALL = [Gzip, Brotli, Zstd]
