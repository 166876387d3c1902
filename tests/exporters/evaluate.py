#!/usr/bin/env python3
"""Write evaluate.json: scores, outcomes and groups, and what scikit-learn and Fairlearn say of them.

Needs scikit-learn 1.7.2 and fairlearn 0.12.0. The rows are drawn with a fixed seed; scores are rounded to three
digits, so that many are tied.
"""

import json
from pathlib import Path

import numpy as np
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

THRESHOLD = 0.6
rng = np.random.default_rng(20261127)
cases = []
for rows, slope in [(100, 3.0), (400, 0.0), (1500, 6.0)]:
    scores = np.round(rng.beta(2, 2, rows), 3)
    outcomes = (rng.random(rows) < 1 / (1 + np.exp(-slope * (scores - 0.5)))).astype(int)
    groups = rng.choice(["a", "b", "c"], rows, p=[0.45, 0.45, 0.1] if rows > 300 else [0.5, 0.5, 0.0])
    edges = np.quantile(scores, np.arange(1, 20) / 20)
    bins = np.searchsorted(edges, scores, side="right")
    distance = sum(abs((scores[bins == b] - outcomes[bins == b]).sum()) for b in range(20)) / rows
    chosen = (scores >= THRESHOLD).astype(int)
    # How far a percentile bootstrap of another make puts the ends of the AUC's interval.
    draws = [rng.integers(0, rows, rows) for _ in range(2000)]
    ends = np.percentile([roc_auc_score(outcomes[d], scores[d]) for d in draws], [2.5, 97.5])
    cases.append({
        "scores": scores.tolist(),
        "outcomes": outcomes.tolist(),
        "groups": groups.tolist(),
        "edges": edges.tolist(),
        "auc": roc_auc_score(outcomes, scores),
        "auc_ends": ends.tolist(),
        "average_precision": average_precision_score(outcomes, scores),
        "brier": brier_score_loss(outcomes, scores),
        "calibration_error": distance,
        "selection_gap": demographic_parity_difference(outcomes, chosen, sensitive_features=groups),
        "odds_gap": equalized_odds_difference(outcomes, chosen, sensitive_features=groups),
    })
path = Path(__file__).with_name("evaluate.json")
path.write_text(json.dumps({"threshold": THRESHOLD, "cases": cases}) + "\n")
print(f"{len(cases)} cases in {path.name}")
