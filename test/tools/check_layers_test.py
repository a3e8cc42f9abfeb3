"""tools/check-layers finds an upward include, a library out of its place, and an upward symbol."""
import os
import subprocess

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
LAYERS = ["base", "api-protos", "xds", "tls", "cluster", "proxy"]


def run_check(root, *args):
    return subprocess.run([os.path.join(ROOT, "tools/check-layers"), "--root", str(root), *args],
                          capture_output=True, text=True, check=False)


def write(root, path, text):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.mark.parametrize("path,line,what", [
    ("base/a.c", '#include "cluster/pool.h"', "base is below cluster"),
    ("tls/a.c", '#include "proxy/http/stream.h"', "tls is below proxy"),
    ("base/a.c", '#include "envoy/config/core/v3/base.pb-c.h"', "base is below api-protos"),
    ("base/a.c", '#include "test/support/x.h"', "seen by none"),
    ("proxy/a.c", '#include "tools/x.h"', "seen by none"),
    ("proxy/a.c", '#include "stream.h"', "by its path from the root"),
    ("cluster/a.c", "#include <openssl/ssl.h>", "only in tls/"),
    ("tls/a.c", "#include <nghttp2/nghttp2.h>", "only in proxy/http/h2_codec"),
    ("proxy/http/other.c", "#include <nghttp2/nghttp2.h>", "only in proxy/http/h2_codec"),
    ("cluster/pool.c", "#include <ares.h>", "only in cluster/resolver"),
    ("xds/stream.c", "#include <grpc/grpc.h>", "only in xds/grpc_transport"),
    ("xds/a.c", "#include <event2/event.h>", "only in base/"),
    ("base/a.c", "#include <re2/re2.h>", "only in base/.*"),
    ("proxy/a.c", "#include <yaml.h>", "only in base/"),
    ("tls/a.c", "#include <xxhash.h>", "only in base/"),
    ("xds/a.c", "#include <protobuf-c/protobuf-c.h>", "only in api-protos/"),
    ("base/a.c", "#include <check.h>", "only in test/"),
    ("base/a.c", "#include <curl/curl.h>", "does not know"),
    ("base/a.c", "#include <vector>", "does not know"),
    ("test/unit/base/a_test.c", '#include "xds/xds.h"', "base is below xds"),
])
def test_wrong_include_is_found(tmp_path, path, line, what):
    write(tmp_path, path, f"/* x */\n{line}\n")
    result = run_check(tmp_path)
    assert result.returncode == 1
    assert f"{path}:2: " in result.stdout and what in result.stdout
    assert result.stdout.endswith("0 passed, 1 failed\n")


@pytest.mark.parametrize("path,line", [
    ("proxy/a.c", '#include "base/str.h"'),
    ("cluster/a.c", '#include "envoy/config/core/v3/base.pb-c.h"'),
    ("base/regex.cc", "#include <re2/re2.h>"),
    ("base/a.cc", "#include <string>"),
    ("base/a.c", "#include <sys/epoll.h>"),
    ("xds/grpc_transport.c", "#include <grpc/grpc.h>"),
    ("tls/a.c", "#include <openssl/ssl.h>"),
    ("test/unit/proxy/a_test.c", "#include <openssl/ssl.h>"),
    ("test/unit/xds/a_test.c", '#include "base/str.h"'),
    ("test/unit/xds/a_test.c", '#include "test/support/x.h"'),
])
def test_right_include_passes(tmp_path, path, line):
    write(tmp_path, "base/str.h", "/* x */\n")
    write(tmp_path, path, line + "\n")
    result = run_check(tmp_path)
    assert result.returncode == 0, result.stdout


def test_nothing_to_look_at_is_a_failure(tmp_path):
    assert run_check(tmp_path).returncode == 1


@pytest.fixture(name="archives")
def make_archives(tmp_path):
    """Returns a function that builds six archives from {layer: C source}."""
    def build(sources):
        write(tmp_path, "base/empty.c", "\n")
        for layer in LAYERS:
            source = tmp_path / f"{layer}.c"
            source.write_text(sources.get(layer, f"int of_{layer.replace('-', '_')};\n"))
            obj = tmp_path / f"{layer}.o"
            subprocess.run(["gcc", "-w", "-c", "-o", obj, source], check=True)
            subprocess.run(["ar", "rcs", tmp_path / f"lib{layer}.a", obj], check=True)
        return run_check(tmp_path, "--archives", str(tmp_path))
    return build


def test_upward_symbol_is_found(archives):
    result = archives({"xds": "void cluster_pick(void); void f(void) { cluster_pick(); }\n",
                       "cluster": "void cluster_pick(void) {}\n"})
    assert result.returncode == 1
    assert "libxds.a: xds.o needs cluster_pick, which is of cluster" in result.stdout


def test_library_symbol_out_of_its_place_is_found(archives):
    result = archives({"proxy": "void SSL_free(void *); void f(void) { SSL_free(0); }\n"})
    assert result.returncode == 1
    assert "libproxy.a: proxy.o needs SSL_free: only tls may" in result.stdout


def test_downward_symbols_pass(archives):
    result = archives({"proxy": "void str_new(void); void f(void) { str_new(); }\n",
                       "base": "void str_new(void) {}\n",
                       "tls": "void SSL_free(void *); void g(void) { SSL_free(0); }\n"})
    assert result.returncode == 0, result.stdout


def test_missing_archive_is_a_failure(tmp_path):
    write(tmp_path, "base/a.c", "\n")
    assert run_check(tmp_path, "--archives", str(tmp_path)).returncode == 1
