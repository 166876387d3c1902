#!/usr/bin/env python3
"""Write marginals.json: tables of counts, and the distribution that is learnt from them.

Needs the packages pinned in requirements.txt. Nothing here knows of trees or messages: every combination of bins is
written down, the covariance of counts is that of combinations, and scipy finds the same least squares. Which features
stand by each other is told by scipy's chi-square and its spanning tree, where counts have no noise.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import optimize, sparse, stats

rng = np.random.default_rng(20261127)


def rows(bins, people, ties):
    """People whose features go together along a chain, and whose outcome follows from all of them."""
    columns = [rng.integers(0, bins[0], people)]
    for width in bins[1:]:
        follows = rng.random(people) < ties
        columns.append(np.where(follows, columns[-1] * width // (columns[-1].max() + 1), rng.integers(0, width, people)))
    x = np.column_stack(columns)
    odds = -1.2 + sum(0.8 * (x[:, f] / (bins[f] - 1) - 0.5) * (-1) ** f for f in range(len(bins)))
    return x, (rng.random(people) < 1 / (1 + np.exp(-odds))).astype(int)


def table(a, b, wide, long, sigma):
    counts = np.zeros((wide, long))
    np.add.at(counts, (a, b), 1)
    return counts + (np.round(rng.normal(0, sigma, counts.shape)) if sigma else 0)


def mean(values):
    values = list(values)
    weights = [1 / (variance + 1e-6) for _, variance in values]
    return sum(value * weight for (value, _), weight in zip(values, weights)) / sum(weights), max(1 / sum(weights) - 1e-6, 0)


def nearest(counts, people):
    """The nearest counts that are none below zero and add up to `people`, by bisection."""
    low, high = counts.min() - people, counts.max()
    for _ in range(200):
        shift = (low + high) / 2
        low, high = (shift, high) if np.maximum(counts - shift, 0).sum() > people else (low, shift)
    return np.maximum(counts - shift, 0)


def prior(cells, rows, columns, people, variance, outcome=False):
    """The noise of each effect of a table, and the precision that holds it back: one over the size of effects that is likeliest."""
    expected = np.outer(rows, columns) / people
    off = cells - expected
    off = off - off.mean(1, keepdims=True)
    off = off - off.mean(0, keepdims=True)
    variance = variance * (1 - 1 / len(rows)) * (1 - 1 / len(columns))
    expected = np.maximum(expected, 1e-9)
    chance, effect = (variance + expected) / expected**2, off / expected
    if outcome:  # the columns mirror each other: the rarer tells
        rarer = int(columns[1] < columns[0])
        chance, effect = chance[:, rarer], effect[:, rarer]
    unlikely = lambda size: -2 * stats.norm.logpdf(effect, scale=np.sqrt(size + chance)).sum()
    grid = np.linspace(-12, 3, 151)
    best = int(np.argmin([unlikely(np.exp(at)) for at in grid]))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, 150)]
    found = optimize.minimize_scalar(lambda at: unlikely(np.exp(at)), bounds=ends, method="bounded", options={"xatol": 1e-9})
    free = (1 - 1 / len(rows)) * (1 if outcome else 1 - 1 / len(columns))  # the other cells follow from these
    if free * (unlikely(0.0) - found.fun) <= 2.0:
        return None  # no effects: not asked for
    return [variance] * cells.size, [1 / np.exp(found.x)] * cells.size


def case(bins, people, ties, pairs, sigma):
    x, y = rows(bins, people, ties)
    features = range(len(bins))
    sigma_of = dict(zip([("y", f) for f in features] + pairs, sigma))
    by_outcome = [table(x[:, f], y, bins[f], 2, sigma_of["y", f]) for f in features]
    together = {(f, g): table(x[:, f], x[:, g], bins[f], bins[g], sigma_of[f, g]) for f, g in pairs}

    everything = [(t, sigma_of["y", f] ** 2) for f, t in enumerate(by_outcome)] + [
        (t, sigma_of[pair] ** 2) for pair, t in together.items()
    ]
    total, _ = mean((t.sum(), variance * t.size) for t, variance in everything)
    positives, positives_noise = mean((t[:, 1].sum(), sigma_of["y", f] ** 2 * bins[f]) for f, t in enumerate(by_outcome))

    def own(f):
        found = [(by_outcome[f].sum(1), 2 * sigma_of["y", f] ** 2)]
        for (a, b), t in together.items():
            if f == a:
                found.append((t.sum(1), sigma_of[a, b] ** 2 * bins[b]))
            if f == b:
                found.append((t.sum(0), sigma_of[a, b] ** 2 * bins[a]))
        return mean(found)

    edges = list(pairs)
    if not any(sigma):
        # The strongest tree, by a library.
        strength = np.zeros((len(bins), len(bins)))
        for (a, b), t in together.items():
            strength[a, b] = stats.chi2_contingency(t, correction=False).statistic
        found = sparse.csgraph.minimum_spanning_tree(sparse.csr_array(np.where(strength > 0, 1e6 - strength, 0)))
        edges = sorted(tuple(int(n) for n in pair) for pair in zip(*found.nonzero()))

    # A column for each parameter: 1 where a combination of bins and outcome has it.
    combinations = list(itertools.product(*[range(b) for b in bins], range(2)))
    design, targets, noise, held = [], [], [], []
    counts = [nearest(own(f)[0], total) for f in features]
    move = lambda t: t + (total - t.sum()) / t.size
    for f in features:
        for a in range(bins[f]):
            design.append([c[f] == a for c in combinations])
            targets.append(counts[f][a])
            noise.append(own(f)[1])
            held.append(1e-4)
    for f, t in enumerate(by_outcome):
        told = prior(move(t), counts[f], np.array([total - positives, positives]), total, sigma_of["y", f] ** 2, True)
        if told is None:
            continue
        of, by = told
        noise, held = noise + of, held + by
        for a, o in itertools.product(range(bins[f]), range(2)):
            design.append([c[f] == a and c[-1] == o for c in combinations])
            targets.append(move(t)[a, o])
    for f, g in edges:
        t = together[f, g]
        told = prior(move(t), counts[f], counts[g], total, sigma_of[f, g] ** 2)
        if told is None:
            continue
        of, by = told
        noise, held = noise + of, held + by
        for a, b in itertools.product(range(bins[f]), range(bins[g])):
            design.append([c[f] == a and c[g] == b for c in combinations])
            targets.append(move(t)[a, b])
    design.append([c[-1] == 1 for c in combinations])
    targets.append(positives)
    noise.append(positives_noise)
    held.append(0.0)
    design, targets, held = np.array(design, float).T, np.array(targets), np.array(held)
    noise = np.maximum(noise, 1.0)  # what is exact is believed to a person

    def at(theta):
        log = design @ theta
        p = np.exp(log - log.max())
        mu = p / p.sum()
        mean = design.T @ mu
        return total * mean, total * ((design.T * mu) @ design - np.outer(mean, mean))

    theta = np.concatenate([np.log(np.maximum(np.concatenate(counts), 0.5) / total), np.zeros(len(targets))])[: len(targets)]
    theta[sum(bins) :] = 0
    theta[-1] = np.log(positives / (total - positives))
    back = np.diag(np.sqrt(held))
    for _ in range(3):
        # How far chance and noise put counts off, as a root that makes all of them alike.
        root = np.linalg.inv(np.linalg.cholesky(at(theta)[1] + np.diag(noise)))
        found = optimize.least_squares(
            lambda th: np.concatenate([root @ (at(th)[0] - targets), back @ th]),
            theta, jac=lambda th: np.vstack([root @ at(th)[1], back]), x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-12, max_nfev=5000,
        )
        theta = found.x
    log = design @ theta
    p = np.exp(log - log.max())
    p /= p.sum()
    outcome = np.array([c[-1] for c in combinations])
    given = {}
    for c, q in zip(combinations, p):
        given.setdefault(c[:-1], [0, 0])[c[-1]] += q
    return {
        "bins": list(bins),
        "by_outcome": [t.ravel().tolist() for t in by_outcome],
        "pairs": [{"of": list(pair), "cells": t.ravel().tolist()} for pair, t in together.items()],
        "variances": [s**2 for s in sigma],
        "edges": sorted(sorted(edge) for edge in edges),
        "people": total,
        "rate": float(p[outcome == 1].sum()),
        "probabilities": [{"bins": list(key), "p": both[1] / sum(both)} for key, both in list(given.items())[::3]],
    }


cases = [
    case((3, 4, 2), 2_000, 0.7, [(0, 1), (1, 2), (0, 2)], [0] * 6),
    case((2, 3, 3, 2), 9_000, 0.5, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], [0] * 10),
    case((3, 4, 2), 2_000, 0.7, [(0, 1), (2, 1)], [10] * 3 + [15] * 2),
    case((4, 4, 4), 1_500, 0.6, [(1, 0), (2, 1)], [20] * 3 + [50] * 2),
    case((5, 3), 4_000, 0.0, [], [30, 10]),
    case((3, 3, 3), 400, 0.9, [(0, 2)], [6, 6, 6, 40]),
]
Path(__file__).with_name("marginals.json").write_text(json.dumps(cases) + "\n")
