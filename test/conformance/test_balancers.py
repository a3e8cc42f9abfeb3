"""The short form of balancers.py: the same host as in Envoy for every key."""

import balancers


def test_the_same_hosts_as_envoy(tmp_path):
    rows = balancers.compare(str(tmp_path), 500)
    assert not [row for row in rows if row[2]]
    used = {title: hosts for title, hosts, *_ in rows}
    assert used["ring"] == used["maglev"] == 10
    assert used["ring, bounded, requests held"] > 5
