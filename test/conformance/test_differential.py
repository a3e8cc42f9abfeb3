"""The short form of the differential run: Attaché gives what Envoy gives."""

import diff_coverage
import diff_run

CONFIGURATIONS = 40


def test_the_generator_makes_the_same_again():
    first, second = diff_run.generate(5, seed=7), diff_run.generate(5, seed=7)
    assert [str(c.route_config()) for c in first] == [str(c.route_config()) for c in second]
    assert [str(c.requests) for c in first] == [str(c.requests) for c in second]
    assert str(first[0].route_config()) != str(diff_run.generate(5, seed=8)[0].route_config())


def test_every_field_is_used():
    names = set().union(*(diff_coverage.fields_of(c) for c in diff_run.generate(300)))
    assert not [n for n in diff_coverage.every_field() - names if not diff_coverage.left_out(n)]
    assert not [n for n in names if diff_coverage.left_out(n)]


def test_random_choices_are_as_often_as_configured(tmp_path):
    shares = diff_run.shares("attache", str(tmp_path / "attache"))
    assert all(diff_run.share_is_right(path, share) for path, share in shares.items()), shares


def test_the_same_as_envoy(tmp_path):
    configs = diff_run.generate(CONFIGURATIONS, seed="short")
    refused, usable, without = diff_run.refusals(configs, str(tmp_path / "validate"))
    assert not refused
    assert len(usable) == CONFIGURATIONS
    found, *_ = diff_run.differences(configs, str(tmp_path), without)
    assert not found, "\n".join(f"{c.name} {c.features} {r}\n  {part}: ours {one}\n  Envoy {two}"
                                for c, r, part, one, two in found)
