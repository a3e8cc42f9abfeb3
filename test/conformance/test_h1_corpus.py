"""gunicorn's corpus of HTTP/1 requests through Attaché: nothing that the RFCs call invalid is completed
towards the upstream, and what is valid arrives as it was sent, or is refused for a reason that
h1_pins.py names."""

import sys
import types

import pytest

import h1_corpus
import h1_pins

FILES = h1_corpus.files()
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


@pytest.fixture(scope="module", name="outcomes")
def make_outcomes(tmp_path_factory):
    return h1_corpus.run("attache", tmp_path_factory.mktemp("attache"))


def wanted(file):
    """wanted are the requests that the file's script expects, as dictionaries; their headers and
    bodies are gunicorn's reading of the file."""
    module = {"uri": lambda raw: raw}
    config, errors = types.ModuleType("gunicorn.config"), types.ModuleType("gunicorn.http.errors")
    config.Config = type("Config", (), {"set": lambda self, *_: None})
    errors.__getattr__ = lambda name: name
    names = {"gunicorn": types.ModuleType("gunicorn"), "gunicorn.config": config,
             "gunicorn.http": types.ModuleType("gunicorn.http"), "gunicorn.http.errors": errors}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        exec(file.script, module)  # pylint: disable=exec-used
    finally:
        for name, old in before.items():
            del sys.modules[name]
            if old:
                sys.modules[name] = old
    requests = module["request"]
    return requests if isinstance(requests, list) else [requests]


def test_the_corpus_is_whole():
    names = [f.name for f in FILES]
    assert len([n for n in names if n.startswith("invalid/")]) == 81
    assert len([n for n in names if n.startswith("valid/")]) == 62
    stems = {n.split("/")[1] for n in names if n.startswith("invalid/")}
    assert not set(h1_pins.INVALID) & set(h1_pins.TASTE)
    assert set(h1_pins.INVALID) | set(h1_pins.TASTE) == stems
    assert set(h1_pins.PINNED) <= set(names)


@pytest.mark.parametrize("way", h1_corpus.WAYS)
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_verdict(file, way, outcomes):
    outcome = outcomes[file.name, way]
    verdicts, reason = h1_pins.expected(file, way)
    assert not outcome.problems, f"the upstream cannot read it: {outcome}"
    if verdicts is None:
        assert not outcome.requests, f"completed: {reason}: {outcome}"
        assert all(status >= 400 for status in outcome.statuses), outcome
        if outcome.verdict != "none" and reason != h1_pins.SHORT:
            assert outcome.closed_by_proxy, f"{reason}: the client's connection stays open"
    else:
        assert outcome.verdict in verdicts, f"{reason}: {outcome}"


@pytest.mark.parametrize("file", [f for f in FILES if f.is_valid], ids=lambda f: f.name)
def test_what_arrives_is_what_was_sent(file, outcomes):
    outcome = outcomes[file.name, "1.0 Host"]
    if outcome.verdict != "pass" or outcome.requests[0].method == "CONNECT":
        assert file.name in h1_pins.PINNED
        return
    expected = wanted(file)
    assert len(outcome.requests) == len(expected)
    for got, want in zip(outcome.requests, expected):
        target = want["uri"]
        if "://" in target:  # RFC 9112 3.2.2: an origin is asked with the path
            target = "/" + target.split("://")[1].partition("/")[2]
        # one file asks gunicorn to make the method upper case, which nobody else may
        method = want["method"] if "casefold" not in file.script else want["method"].lower()
        assert (got.method, got.target) == (method, target)
        assert got.body == (want["body"] or b"")
        for name, value in want["headers"]:
            if name.lower() not in HOP_BY_HOP:
                assert value in ",".join(got.get(name.lower())), name
