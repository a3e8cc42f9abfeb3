"""gunicorn's corpus against four proxies, as a table."""

import os

import h1_corpus
import h1_pins
import peers

NAMES = ("attache", "envoy", "haproxy", "nginx")
TITLES = {"attache": "Attaché", "envoy": "Envoy", "haproxy": "HAProxy", "nginx": "nginx"}
HOW = """Each of the {count} files of gunicorn {version}'s `tests/requests` is sent as it is and with a
Host where it is missing, and both where HTTP/1.0 is accepted (`accept_http_10`, with
`default_host_for_http_10`). `pass`: all of it reached the upstream complete; `part`: some of several
requests; `cut`: begun and never finished; a number: refused with it; `none`: nothing forwarded, no
answer; `bad`: forwarded in a form that a strict reader refuses. One word where the four ways agree, else as
is / Host / 1.0 / 1.0 and Host. Bold is what should not be: a request completed that the RFCs call
invalid and do not allow to mend, a valid one refused for no reason of [h1_pins.py](../test/conformance/h1_pins.py)."""


def is_right(file, way, outcome):
    """is_right says whether an outcome is what h1_pins.py expects of Attaché."""
    verdicts, _ = h1_pins.expected(file, way)
    if outcome.problems:
        return False
    return outcome.verdict in verdicts if verdicts else not outcome.requests


def is_defect(file, way, outcome):
    """is_defect is what counts against anybody: something invalid completed that the RFCs do not allow
    to mend, or garbled."""
    verdicts, reason = h1_pins.expected(file, way)
    return bool(outcome.problems or (
        verdicts is None and outcome.requests and reason not in h1_pins.MENDABLE))


def cell(file, outcomes, is_ours):
    words = []
    for way in h1_corpus.WAYS:
        outcome = outcomes[file.name, way]
        wrong = is_defect(file, way, outcome) or (is_ours and not is_right(file, way, outcome))
        words.append(f"**{outcome.verdict}**" if wrong else outcome.verdict)
    return words[0] if len(set(words)) == 1 else " / ".join(words)


def report(folder):
    corpus = h1_corpus.files()
    results = {name: h1_corpus.run(name, os.path.join(folder, name), corpus) for name in NAMES}
    lines = [*HOW.format(count=len(corpus), version=h1_corpus.VERSION).split("\n"), ""]
    lines += ["| | " + " | ".join(f"{TITLES[n]} {peers.version(n)}" for n in NAMES) + " |",
              "|---|" + "---|" * len(NAMES)]
    plays = [(file, way) for file in corpus for way in h1_corpus.WAYS]
    rows = {
        "plays that the RFCs call invalid": lambda f, w, o: h1_pins.expected(f, w)[0] is None,
        "of these completed without being mended, or garbled": is_defect,
        "plays that are valid": lambda f, w, o: h1_pins.expected(f, w)[0] is not None,
        "of these forwarded whole": lambda f, w, o: (
            h1_pins.expected(f, w)[0] is not None and o.verdict == "pass"),
    }
    for title, test in rows.items():
        counts = [sum(test(f, w, results[n][f.name, w]) for f, w in plays) for n in NAMES]
        lines.append(f"| {title} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", "| file | " + " | ".join(TITLES[n] for n in NAMES) + " | what it is |",
              "|---|" + "---|" * (len(NAMES) + 1)]
    for file in corpus:
        reason = h1_pins.PINNED.get(file.name, h1_pins.expected(file, "1.0 Host"))[1]
        cells = [cell(file, results[name], name == "attache") for name in NAMES]
        lines.append(f"| {file.name} | " + " | ".join(cells) + f" | {reason} |")
    good = sum(is_right(f, w, results["attache"][f.name, w]) for f, w in plays)
    return lines, good, len(plays) - good
