"""Figures of the updates in a merge: how they agree, how stale they are, and who weighs how much."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from support.event_logs import volatile_run
from support.made_events import round_merged, update_folded
from support.pages import page_of, write_run

from fednano.core.events import RoundMerged, RoundSkipped, UpdateFolded
from fednano.report.updates import MergedUpdates, mean_cosine


def update(lease: int, weight: float, norm: float, version: int = 0) -> UpdateFolded:
    return update_folded(lease=lease, client=f"client_{lease}", weight=weight, norm=norm, version=version)


def merge(norm: float, *leases: int, version: int = 1) -> RoundMerged:
    return round_merged(*leases, norm=norm, version=version)


def test_the_cosine_follows_from_norms() -> None:
    rng = np.random.default_rng(0)
    vectors, weights = rng.normal(size=(5, 7)) + 0.5, np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    found = MergedUpdates()
    for lease, (vector, weight) in enumerate(zip(vectors, weights, strict=True)):
        found.add(update(lease, 8 * weight, float(np.linalg.norm(vector))))
    found.add(merge(float(np.linalg.norm(weights @ vectors)), *range(5)))
    parts = [weight * vector for weight, vector in zip(weights, vectors, strict=True)]
    products = [
        (float(a @ b), float(np.linalg.norm(a) * np.linalg.norm(b))) for a, b in itertools.combinations(parts, 2)
    ]
    expected = sum(dot for dot, _ in products) / sum(size for _, size in products)
    assert found.merges[0].cosine == pytest.approx(expected)
    assert found.merges[0].mean_norm == pytest.approx(sum(np.linalg.norm(part) for part in parts))


def test_equal_updates_have_cosine_one_and_a_single_one_has_none() -> None:
    assert mean_cosine(3.0, [1.0, 2.0]) == pytest.approx(1.0)
    assert mean_cosine(1.0, [1.0, 2.0]) == pytest.approx(-1.0)
    assert math.isnan(mean_cosine(1.0, [1.0]))
    assert math.isnan(mean_cosine(0.0, [0.0, 0.0]))


def test_staleness_counts_merges_since_the_base_version() -> None:
    found = MergedUpdates()
    for lease, version in enumerate((4, 2, 3)):
        found.add(update(lease, 1.0, 1.0, version))
    found.add(merge(1.0, 0, 1, 2, version=5))
    (only,) = found.merges
    assert (only.staleness, only.stalest) == (1.0, 2)
    assert math.isnan(only.cosine)  # stale updates are merged with less weight than the log tells


def test_weights_are_shares_of_a_merge() -> None:
    found = MergedUpdates()
    for lease, weight in ((0, 3.0), (1, 1.0)):
        found.add(update(lease, weight, 1.0))
    found.add(merge(1.0, 0, 1))
    found.add(update(2, 5.0, 1.0))
    found.add(merge(1.0, 2, version=2))
    assert [found.share(f"client_{k}") for k in range(4)] == [0.375, 0.125, 0.5, 0.0]


def test_updates_of_skipped_rounds_are_forgotten() -> None:
    found = MergedUpdates()
    found.add(update(0, 1.0, 1.0))
    found.add(RoundSkipped(t=2.0, round=0, updates=1, reason="few"))
    found.add(merge(1.0, 0))
    assert len(found.merges) == 0


def test_the_report_draws_the_cosine_only_where_updates_add_up(tmp_path: Path) -> None:
    title = "Cosine between clients' updates"
    events = volatile_run(rounds=5)
    drawn = page_of(write_run(tmp_path / "mean", events, method={"merging": "Mean"}))
    assert any(text.startswith(title) for text in drawn.texts("figcaption"))
    for method in ({"merging": "Median"}, {"merging": "Mean", "dp": "Gaussian"}, {}):
        page = page_of(write_run(tmp_path / str(len(method)) / str(method.get("merging")), events, method=method))
        assert not any(text.startswith(title) for text in page.texts("figcaption"))
