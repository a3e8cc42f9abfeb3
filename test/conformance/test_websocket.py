"""kosoku's WebSocket cases through Attaché: each ends as it does without a proxy."""

import pytest

import ws_cases


@pytest.fixture(scope="module", name="results")
def make_results(tmp_path_factory):
    return ws_cases.run("attache", tmp_path_factory.mktemp("websocket"))


def test_all_cases_ran(results):
    assert {route: len(cases) for route, cases in results.items()} == dict.fromkeys(
        ws_cases.ROUTES, ws_cases.CASES)
    wrong = [case for case, (behavior, _) in results["direct"].items() if behavior == "ERROR"]
    assert not wrong, "the echo server itself does not answer"


@pytest.mark.parametrize("route", ["one proxy", "two proxies"])
def test_as_without_a_proxy(route, results):
    assert not ws_cases.differences(results, route)
