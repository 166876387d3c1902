#!/usr/bin/env python3
"""Write cells.json: exact counts, and what Evidently, SciPy, statsmodels, river, scikit-learn and Fairlearn say of them.

Needs requirements.txt. Everything is drawn with a fixed seed. The tools take rows, so counts are expanded to rows, each
of which has its bin's position or score.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import (
    chi_stat_test,
    hellinger_stat_test,
    jensenshannon_stat_test,
    psi_stat_test,
    wasserstein_stat_test,
)
from evidently.legacy.core import ColumnType
from fairlearn.metrics import demographic_parity_difference, demographic_parity_ratio, equalized_odds_difference
from river.drift import ADWIN, PageHinkley
from scipy import stats
from scipy.spatial import distance
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from statsmodels.stats.multitest import multipletests

warnings.simplefilter("ignore")
rng = np.random.default_rng(20261127)


def evidently(test, reference, window, kind):
    return float(test(reference.copy(), window.copy(), kind, None).drift_score)


def drift_case(reference, window, positions):
    """Counts a bin, and positions of bins (20 at most, or Evidently would make bins of its own)."""
    rows = [pd.Series(np.repeat(positions, counts)) for counts in (reference, window)]
    shares = [np.array(counts) / sum(counts) for counts in (reference, window)]
    case = {
        "reference": reference,
        "window": window,
        "positions": positions,
        "psi": evidently(psi_stat_test, *rows, ColumnType.Categorical),
        "jensen_shannon": evidently(jensenshannon_stat_test, *rows, ColumnType.Categorical),
        "hellinger": evidently(hellinger_stat_test, *rows, ColumnType.Categorical),
        "wasserstein": evidently(wasserstein_stat_test, *rows, ColumnType.Numerical),
    }
    # The same once more from SciPy, so that a change of Evidently's is noticed here.
    assert abs(case["jensen_shannon"] - distance.jensenshannon(*shares)) < 1e-12
    plain = stats.wasserstein_distance(positions, positions, *shares) / np.std(rows[0])
    assert abs(case["wasserstein"] - plain) < 1e-9
    kept = [pair for pair in zip(reference, window) if sum(pair)]
    found = stats.chi2_contingency(np.array(kept).T, correction=False)
    case["homogeneity"] = [float(found.statistic), float(found.pvalue), len(kept)]
    if min(reference) > 0:
        fit = stats.chisquare(window, shares[0] * sum(window))
        case["fit"] = [float(fit.statistic), float(fit.pvalue)]
        assert abs(fit.pvalue - evidently(chi_stat_test, *rows, ColumnType.Categorical)) < 1e-9
    return case


def drift_cases():
    cases = []
    for bins, n, m, tilt in [(2, 50, 400, 0.5), (5, 1000, 900, 0.0), (10, 200, 20000, 0.3), (20, 5000, 5000, 0.05)]:
        usual = rng.dirichlet(np.full(bins, 2.0))
        now = usual * np.exp(tilt * rng.normal(size=bins))
        counts = [rng.multinomial(m, usual), rng.multinomial(n, now / now.sum())]
        positions = np.sort(np.round(rng.normal(size=bins) * 10, 3))
        cases.append(drift_case(*(c.tolist() for c in counts), positions.tolist()))
    # Zero bins: filled with 0.0001, and with a millionth of the least share where that is 0.0001 or less.
    cases.append(drift_case([500, 0, 300, 200, 7], [0, 40, 300, 160, 0], [0.0, 1.0, 2.0, 4.0, 8.0]))
    cases.append(drift_case([50_000, 3, 0, 49_997], [600, 0, 100, 300], [-1.0, 0.0, 0.5, 2.0]))
    cases.append(drift_case([40, 60, 0, 100], [4, 6, 0, 10], [1.0, 2.0, 3.0, 4.0]))
    return cases


def many():
    cases = []
    for p in [rng.random(12) ** 3, np.array([0.01, 0.01, 0.04, 1.0, 0.0]), np.array([0.3])]:
        cases.append({
            "p": p.tolist(),
            "benjamini_hochberg": stats.false_discovery_control(p).tolist(),
            "holm": multipletests(p, method="holm")[1].tolist(),
        })
    return cases


def firings(detector, stream):
    fired = []
    for at, value in enumerate(stream):
        detector.update(value)
        if detector.drift_detected:
            fired.append(at)
    return fired


def series():
    pieces = [
        [(0.0, 1.0, 700), (1.5, 1.0, 700)],
        [(10.0, 2.0, 300), (4.0, 2.0, 300), (9.0, 2.0, 300)],
        [(0.0, 1.0, 1500)],
        [(100.0, 20.0, 200), (40.0, 10.0, 45), (100.0, 20.0, 200)],
    ]
    cases = []
    for parts in pieces:
        stream = np.round(np.concatenate([rng.normal(mean, sd, n) for mean, sd, n in parts]), 2).tolist()
        fast = {"delta": 0.01, "clock": 1, "max_buckets": 3, "min_window_length": 3, "grace_period": 5}
        ph = {"min_instances": 10, "delta": 0.1, "threshold": 8.0, "alpha": 0.999}
        cases.append({
            "stream": stream,
            "adwin": firings(ADWIN(), stream),
            "adwin_fast": firings(ADWIN(**fast), stream),
            "page_hinkley": firings(PageHinkley(), stream),
            "page_hinkley_up": firings(PageHinkley(mode="up", **ph), stream),
            "page_hinkley_down": firings(PageHinkley(mode="down", **ph), stream),
            "page_hinkley_both": firings(PageHinkley(mode="both", **ph), stream),
        })
    return cases


def performance():
    cases = []
    for bins, n, slope in [(20, 4725, 5.0), (10, 300, 2.0), (5, 120, 8.0), (20, 900, 1.0)]:
        scores = np.sort(rng.random(bins))
        bin_of = rng.integers(0, bins - (1 if n == 900 else 0), n)
        outcome = rng.random(n) < 1 / (1 + np.exp(-slope * (scores[bin_of] - 0.7)))
        counts = np.zeros((bins, 2), int)
        np.add.at(counts, (bin_of, outcome.astype(int)), 1)
        row = scores[bin_of]
        off = [abs((row - outcome)[bin_of == b].sum()) for b in range(bins)]
        people, hits = counts.sum(axis=1), counts[:, 1]
        kept = people > 0
        isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        isotonic.fit(scores[kept], hits[kept] / people[kept], sample_weight=people[kept])
        logit = np.log(row / (1 - row)).reshape(-1, 1)
        platt = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14, max_iter=500).fit(logit, outcome)
        between = np.linspace(0, 1, 7)
        cases.append({
            "counts": counts.ravel().tolist(),
            "scores": scores.tolist(),
            "base_rate": float(outcome.mean()),
            "auc": float(roc_auc_score(outcome, row)),
            "average_precision": float(average_precision_score(outcome, row)),
            "brier": float(brier_score_loss(outcome, row)),
            "calibration_error": float(sum(off) / n),
            "isotonic": isotonic.predict(scores).tolist(),
            "between": between.tolist(),
            "isotonic_between": isotonic.predict(between).tolist(),
            "platt": [float(platt.coef_[0, 0]), float(platt.intercept_[0])],
        })
    return cases


def fairness():
    cases = []
    for sizes in [[600, 900], [400, 350, 2000], [60, 80, 70, 4000]]:
        cells = []
        for size in sizes:
            base, right, wrong = rng.uniform([0.1, 0.4, 0.05], [0.5, 0.8, 0.3])
            truth = rng.random(size) < base
            chosen = rng.random(size) < np.where(truth, right, wrong)
            cells.append([int(sum(truth & chosen)), int(sum(~truth & chosen)), int(sum(truth & ~chosen)),
                          int(sum(~truth & ~chosen))])
        expand = lambda flags: np.concatenate([np.repeat(flags, c) for c in cells])
        truth, chosen = expand([1, 0, 1, 0]), expand([1, 1, 0, 0])
        group = np.repeat(np.arange(len(cells)), [sum(c) for c in cells])
        cases.append({
            "cells": cells,
            "difference": float(demographic_parity_difference(truth, chosen, sensitive_features=group)),
            "ratio": float(demographic_parity_ratio(truth, chosen, sensitive_features=group)),
            "odds": float(equalized_odds_difference(truth, chosen, sensitive_features=group)),
        })
    return cases


golden = {
    "drift": drift_cases(),
    "many": many(),
    "series": series(),
    "performance": performance(),
    "fairness": fairness(),
}
for case in golden["series"]:
    print({key: value for key, value in case.items() if key != "stream"})
path = Path(__file__).with_name("cells.json")
path.write_text(json.dumps(golden) + "\n")
print({key: len(cases) for key, cases in golden.items()}, "cases in", path.name)
