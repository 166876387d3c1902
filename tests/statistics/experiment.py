#!/usr/bin/env python3
"""Write experiment.json: sums of arms, and what gbstats, scipy, statsmodels and obp say of them.

Needs the packages pinned in requirements.txt. obp imports torch and matplotlib for parts that are not used here; its
estimators are loaded without them. Figures of real experiments (Cookie Cats, Hillstrom, Open Bandit) are written when
GLOAMING_DATA names a folder that has them, as aggregates only, and kept from the file before when it does not.
"""

import importlib
import importlib.util
import io
import json
import os
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pandas as pd
from gbstats.frequentist.tests import (
    FrequentistConfig,
    SequentialConfig,
    SequentialTwoSidedTTest,
    TwoSidedTTest,
)
from gbstats.models.statistics import (
    ProportionStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    compute_theta,
)
from gbstats.utils import check_srm
from scipy import integrate, optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower


def estimators():
    """obp's estimators, without the imports of its package."""
    torch = types.ModuleType("torch")
    torch.Tensor = type("Tensor", (), {})
    sys.modules["torch"] = torch
    folder = Path(importlib.util.find_spec("obp").submodule_search_locations[0])
    for name, path in (("obp", folder), ("obp.ope", folder / "ope")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module
    return importlib.import_module("obp.ope.estimators")


OBP = estimators()
rng = np.random.default_rng(20261127)
path = Path(__file__).with_name("experiment.json")
before = json.loads(path.read_text()) if path.exists() else {}


def statistic(kind, n, y, yy, x, xx, xy):
    outcome = SampleMeanStatistic(n=n, sum=y, sum_squares=yy)
    other = SampleMeanStatistic(n=n, sum=x, sum_squares=xx)
    if kind == "proportion":
        return ProportionStatistic(n=n, sum=y)
    if kind == "mean":
        return outcome
    if kind == "ratio":
        return RatioStatistic(n=n, m_statistic=outcome, d_statistic=other, m_d_sum_of_products=xy)
    return RegressionAdjustedStatistic(
        n=n, post_statistic=outcome, pre_statistic=other, post_pre_sum_of_products=xy, theta=0
    )


def told(kind, arms, scale, alpha, tau):
    """What gbstats says of two arms on one scale, for one look and always valid."""
    pair = lambda: [statistic(kind, int(arm[0]), *map(float, arm[1:])) for arm in arms]
    fixed = TwoSidedTTest(*pair(), FrequentistConfig(difference_type=scale, alpha=alpha))
    always = SequentialTwoSidedTTest(
        *pair(), SequentialConfig(difference_type=scale, alpha=alpha, sequential_tuning_parameter=tau)
    )
    return fixed, fixed.compute_result(), always.compute_result()


def compared(kind, arms, alpha=0.05, tau=5000.0, scales=("absolute", "relative")):
    """Absolute and relative effect by gbstats, one look and always valid."""
    case = {"kind": kind, "arms": [[float(value) for value in arm] for arm in arms], "alpha": alpha, "tau": tau}
    for scale in scales:
        fixed, result, sequence = told(kind, arms, scale, alpha, tau)
        assert not result.error_message
        case[scale] = {
            "estimate": float(result.expected),
            "standard_error": float(result.uplift.stddev),
            "degrees": float(fixed.dof),
            "fixed": [*map(float, result.ci), float(result.p_value)],
            "always": [*map(float, sequence.ci), float(sequence.p_value)],
        }
    return case


def sums(y, x=None):
    x = np.zeros_like(y) if x is None else x
    return [len(y), y.sum(), (y * y).sum(), x.sum(), (x * x).sum(), (x * y).sum()]


effects = []
# The sums of gbstats' own tests, and Cookie Cats after seven days.
effects.append(compared("mean", [[3407, 1396.87, 52377.9767, 0, 0, 0], [3461, 2422.7, 134698.29, 0, 0, 0]]))
effects.append(compared("proportion", [[44700, 8502, 8502, 0, 0, 0], [45489, 8279, 8279, 0, 0, 0]]))
for n, alpha, tau in [(40, 0.05, 5000.0), (300, 0.01, 500.0), (5_000, 0.05, 5000.0), (900_000, 0.1, 20_000.0)]:
    m = int(n * 1.3)
    outcomes = [(n, round(n * 0.25)), (m, round(m * 0.29))]
    effects.append(compared("proportion", [[people, k, k, 0, 0, 0] for people, k in outcomes], alpha, tau))
    if n > 100_000:
        continue
    a, b = rng.gamma(2.0, 3.0, n), rng.gamma(2.0, 3.3, m)
    effects.append(compared("mean", [sums(a), sums(b)], alpha, tau))
    before_a, before_b = a * 0.6 + rng.gamma(1.0, 2.0, n), b * 0.6 + rng.gamma(1.0, 2.0, m)
    effects.append(compared("adjusted", [sums(a, before_a), sums(b, before_b)], alpha, tau))
    views_a, views_b = 1.0 + rng.poisson(4.0, n), 1.0 + rng.poisson(4.2, m)
    clicks_a, clicks_b = rng.binomial(views_a.astype(int), 0.2) * 1.0, rng.binomial(views_b.astype(int), 0.22) * 1.0
    effects.append(compared("ratio", [sums(clicks_a, views_a), sums(clicks_b, views_b)], alpha, tau))

# What gbstats 0.8.0 publishes of itself: those cases of the tests in its source distribution that are of what is computed
# here. What they expect stands here as they state it, to as many digits, and the package has to say so before its full
# figures are written. Left out: Bayesian tests, quantiles, and an adjusted mean of two proportions, whose variance
# gbstats divides by n, and we by n - 1 as that of any mean. No test of `check_srm` ships; `shares` below are by it.
TESTS, ENGINE = ("tests/frequentist/test_tests.py", 5), ("tests/test_gbstats.py", 9)
MODELS = ("tests/test_shared_models.py", 5)
published = []


def publish(where, test, kind, arms, scale, looks, expected, tau=5000.0):
    """`expected`: estimate, standard error, low, high and p as the test states them, `None` where it states none."""
    (source, digits), case = where, compared(kind, arms, tau=tau, scales=[scale])
    figures = case.pop(scale)
    found = [figures["estimate"], figures["standard_error"], *figures[looks]]
    for value, wanted in zip(found, expected):
        assert wanted is None or abs(value - wanted) <= 0.5000001 * 10.0**-digits, (test, value, wanted)
    case |= {"source": f"{source}: {test}", "scale": scale, "looks": looks, "figures": figures}
    published.append(case | {"digits": digits, "expected": expected})
    return found


def means(control, treated):
    return [[control, 1396.87, 52377.9767, 0, 0, 0], [treated, 2422.7, 134698.29, 0, 0, 0]]


NONE = [None] * 5
rel, once, always = "relative", "fixed", "always"
found = [0.70732, 0.37879, -0.03526, 1.44989, 0.06191]
publish(TESTS, "test_two_sided_ttest", "mean", means(3407, 3461), rel, once, found)
found = [0.29, 0.12478, 0.04538, 0.53462, 0.02016]
publish(TESTS, "test_two_sided_ttest_absolute", "mean", means(3407, 3461), "absolute", once, found)
arms, found = [[28, 14, 14, 0, 0, 0], [30, 16, 16, 0, 0, 0]], [0.06667, 0.2717, -0.47767, 0.61101, 0.80707]
publish(TESTS, "test_two_sided_ttest_binom", "proportion", arms, rel, once, found)
found = [0.50336, 0.33341, -0.55844, 1.56516, 1]
publish(TESTS, "test_sequential_test_runs", "mean", means(3000, 3461), rel, always, found, tau=1000.0)
arms, found = [[3000, 1396, 1396, 0, 0, 0], [3461, 2422, 2422, 0, 0, 0]], [0.50386, 0.03386, 0.40098, 0.60675, 0]
publish(TESTS, "test_sequential_test_runs_prop", "proportion", arms, rel, always, found)
arms = [[3000, 1396.87, 52377.9767, 16.87, 527.9767, 1], [3461, 2422.7, 134698.29, 22.7, 1348.29, 1]]
publish(TESTS, "test_sequential_test_runs_ra", "adjusted", arms, rel, always, [0.50338, 0.33341, -0.50969, 1.51646, 1])
below, near, above = (
    publish(TESTS, "test_sequential_test_tuning_as_expected", "mean", means(3000, 3461), rel, always, NONE, tau=tau)
    for tau in (10.0, 6461.0, 10_000.0)
)
assert below[2] < above[2] < near[2] and below[3] > above[3] > near[3]
counts = [[100, 270, 848.79, 0, 0, 0], [120, 300, 869, 0, 0, 0]]
found = [-0.074074074, None, None, None, 0.145219005]
publish(ENGINE, "test_get_metric_df_frequentist", "mean", counts, rel, once, found)
arms = [[200, 740, 3615.59, 0, 0, 0], [220, 770, 3571, 0, 0, 0]]
publish(ENGINE, "test_get_metric_df_frequentist", "mean", arms, rel, once, NONE)
arms = [[100, 270, 848.79, 510, 810, -900], [120, 300, 869, 500, 800, -905]]
found = [0.133333333, None, None, None, 0.610663339]
publish(ENGINE, "test_get_metric_df_frequentist_ratio", "ratio", arms, rel, once, found)
arms = [[3001, 300, 600, 210, 415, -20], [3000, 222, 555, 120, 405, -10]]
publish(ENGINE, "test_analyze_metric_df_ra", "adjusted", arms, rel, once, [-0.281707154, None, None, None, 0.003736297])
found = [-0.074074074, None, -0.233322085, None, 0.892332229]
good = publish(ENGINE, "test_analyze_metric_df_sequential", "mean", counts, rel, always, found, tau=600.0)
bad = publish(ENGINE, "test_analyze_metric_df_sequential", "mean", counts, rel, always, NONE, tau=1.0)
assert good[2] > bad[2]
# Four people, whose variances are numpy's: an arm beside itself shows the standard error that follows.
four, others = np.array([0.3, 0.5, 0.9, 22]), np.array([2.0, 1, 5, 3])
for test, kind, y, x in (
    ("test_sample_mean_statistic", "mean", four, None),
    ("test_ratio_statistic_statistic_covariance", "ratio", four, others),
    ("test_returns_0_no_variance", "adjusted", others, four),
):
    held = statistic(kind, *map(float, sums(y, x)))
    if kind == "mean":
        assert held.variance == np.var(four, ddof=1)
    else:
        assert abs(held.covariance - np.cov(four, others)[0, 1]) < 1e-7
    if kind == "adjusted":
        assert round(compute_theta(held, held), 5) == 0.01864
    publish(MODELS, test, kind, [sums(y, x)] * 2, "absolute", once, NONE)

# And the cases of which its tests want to be told that nothing can be said.
refused = []
for (source, _), test, kind, arms in (
    (TESTS, "test_two_sided_ttest_missing_variance", "mean", means(2, 3461)),
    (ENGINE, "test_get_metric_df_zero_val", "mean", [[3, 20, 443, 0, 0, 0], [1, 1, 1, 0, 0, 0]]),
    (ENGINE, "test_get_metric_df_ratio_zero_denom", "ratio", [[100, 270, 848.79, 0, 0, 0], [120, 300, 869, 500, 800, -905]]),
):
    _, *results = told(kind, arms, rel, 0.05, 5000.0)
    assert all(result.error_message and result.p_value == 1 for result in results), test
    refused.append({"source": f"{source}: {test}", "kind": kind, "arms": [[float(value) for value in arm] for arm in arms]})

students = [
    {
        "degrees": degrees,
        "t": t,
        "upper": float(stats.t.sf(t, degrees)),
        "p": p,
        "quantile": float(stats.t.isf(p, degrees)),
    }
    for degrees in (1.5, 7.0, 93.7, 5_000.0, 90_123.4, 3e6)
    for t, p in ((0.3, 0.25), (1.9, 0.025), (4.5, 0.0005))
]

CONCENTRATION = 600.0
shares = []
for people, weights in (
    ([44700, 45489], [0.5, 0.5]),
    ([21306, 21387, 21307], [1, 1, 1]),
    ([1000, 1200], [0.5, 0.5]),
    ([910, 2012, 3100, 60], [0.15, 0.33, 0.51, 0.01]),
):
    expected = np.array(weights) / sum(weights) * sum(people)
    found = stats.chisquare(people, expected)
    assert abs(found.pvalue - check_srm(people, weights)) < 1e-12
    parts = np.array(weights) / sum(weights)
    # The Bayes factor of Lindon and Malek's sequential test with a Dirichlet prior around the intended shares.
    factor = stats.dirichlet_multinomial.logpmf(people, parts * CONCENTRATION, sum(people)) - stats.multinomial.logpmf(
        people, sum(people), parts
    )
    shares.append(
        {
            "people": people,
            "shares": weights,
            "statistic": float(found.statistic),
            "p": float(found.pvalue),
            "factor": float(factor),
        }
    )

# Two arms under noise: the average of exp(x d - x x C / 2) over x of a normal distribution, by quadrature.
mixtures = []
for people, noise, part in (([290, 710], [300.0, 100.0], 0.3), ([5_400, 5_000], [0.0, 0.0], 0.5), ([60, 30], [4.0, 9.0], 0.5)):
    total, unit = sum(people), part * (1 - part)
    deviation = people[0] - part * total
    covariance = total * unit + (1 - part) ** 2 * noise[0] + part**2 * noise[1]
    spread = 1 / np.sqrt(CONCENTRATION * unit)
    top = deviation / (covariance + 1 / spread**2)

    def height(x):
        return np.exp(x * deviation - 0.5 * x * x * covariance) * stats.norm.pdf(x, scale=spread)

    width = 12 / np.sqrt(covariance + 1 / spread**2)
    average, _ = integrate.quad(height, top - width, top + width, epsabs=0, epsrel=1e-12)
    mixtures.append({"people": people, "noise": noise, "share": part, "average": float(average)})

discoveries = []
for p in ([0.01, 0.04, 0.03, 0.005, 0.8], [0.5], [0.2, 0.2, 0.2], list(np.round(rng.uniform(0, 1, 40) ** 3, 4))):
    discoveries.append({"p": [float(value) for value in p], "q": multipletests(p, method="fdr_bh")[1].tolist()})

plans = []
for base, effect, alpha, power in ((0.1, 0.01, 0.05, 0.8), (0.19, -0.008, 0.05, 0.8), (0.02, 0.004, 0.01, 0.9)):
    variances = [p * (1 - p) for p in (base, base + effect)]
    size = abs(effect) / np.sqrt(np.mean(variances))
    people = NormalIndPower().solve_power(size, alpha=alpha, power=power, ratio=1)
    plans.append({"base": base, "effect": effect, "alpha": alpha, "power": power, "people": float(np.squeeze(people))})

chances = []
for means, deviations in (
    ([0.10, 0.11, 0.12], [0.01, 0.012, 0.008]),
    ([0.3, 0.3], [0.02, 0.02]),
    ([5.0, 5.1, 4.0, 5.05], [0.001, 1.0, 0.5, 0.02]),
):
    best, second = [], []
    for i, (mean, deviation) in enumerate(zip(means, deviations)):
        others = [j for j in range(len(means)) if j != i]
        cdf = lambda x, j: stats.norm.cdf(x, means[j], deviations[j])
        none = lambda x: stats.norm.pdf(x, mean, deviation) * np.prod([cdf(x, j) for j in others])
        one = lambda x: stats.norm.pdf(x, mean, deviation) * sum(
            (1 - cdf(x, j)) * np.prod([cdf(x, k) for k in others if k != j]) for j in others
        )
        ends = sorted(m + c * d for m, d in zip(means, deviations) for c in range(-10, 11))
        whole = lambda f: sum(integrate.quad(f, a, b, epsabs=1e-14)[0] for a, b in zip(ends, ends[1:]))
        best.append(whole(none))
        second.append(whole(one))
    # GrowthBook's bandits draw 10,000 times and count: the same within what counting allows.
    draws = np.argsort(rng.normal(means, deviations, (400_000, len(means))), axis=1)
    for place, exact in ((-1, best), (-2, second)):
        counted = np.bincount(draws[:, place], minlength=len(means)) / len(draws)
        assert np.abs(counted - exact).max() < 0.005, (counted, exact)
    chances.append({"means": means, "deviations": deviations, "best": best, "second": second})

# The one-sided bound in standard errors, solved for numerically: where a half-normal mixture of likelihood ratios
# reaches 1/alpha. The closed form of eq. 134 lies just above it.
bounds = []
for time, alpha, tau in ((50, 0.05, 5000), (500, 0.05, 5000), (20_000, 0.05, 5000), (1e6, 0.01, 800)):
    log = -2 * np.log(2 * alpha)
    scaled = time * (log + np.log(log + 1)) / tau

    def evidence(z):
        u = z * np.sqrt(scaled / (scaled + 1))
        return np.log(2) + stats.norm.logcdf(u) + u * u / 2 - 0.5 * np.log1p(scaled) + np.log(alpha)

    bounds.append({"time": time, "alpha": alpha, "tau": tau, "exact": float(optimize.brentq(evidence, 0, 1000))})


def judged(reward, action, pscore, policy, predicted):
    """obp's estimates; `policy` and `predicted` are rounds by actions."""
    common = dict(action=action, action_dist=policy[:, :, None], position=np.zeros(len(action), dtype=int))
    model = dict(estimated_rewards_by_reg_model=predicted[:, :, None])
    logged = dict(reward=reward, pscore=pscore)
    ipw = OBP.InverseProbabilityWeighting().estimate_policy_value(**common, **logged)
    own = OBP.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**common, **logged)
    direct = OBP.DirectMethod().estimate_policy_value(**common, **model)
    robust = OBP.DoublyRobust().estimate_policy_value(**common, **logged, **model)
    return {"ipw": float(ipw), "snipw": float(own), "direct": float(direct), "robust": float(robust)}


rows, actions = 400, 5
context = rng.normal(size=(rows, 1))
logging = np.exp(context * np.linspace(-1, 1, actions))
logging /= logging.sum(axis=1, keepdims=True)
policy = np.exp(-0.5 * context * np.linspace(-1, 2, actions))
policy /= policy.sum(axis=1, keepdims=True)
action = np.array([rng.choice(actions, p=row) for row in logging])
truth = 1 / (1 + np.exp(-(context * 0.3 + np.linspace(-2, 0, actions))))
reward = (rng.random(rows) < truth[np.arange(rows), action]).astype(int)
predicted = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1)
pscore = logging[np.arange(rows), action]
logs = {
    "actions": actions,
    "action": action.tolist(),
    "reward": reward.tolist(),
    "propensity": pscore.tolist(),
    "policy": policy.ravel().tolist(),
    "predicted": predicted.ravel().tolist(),
    **judged(reward, action, pscore, policy, predicted),
}


def real(folder):
    """Aggregates of real experiments."""
    cats = pd.read_csv(folder / "cookie_cats" / "cookie_cats.csv")
    arms = [sums(cats[cats.version == name].retention_7.to_numpy(float)) for name in ("gate_30", "gate_40")]
    figures = {"cookie_cats": compared("proportion", arms)}
    mail = pd.read_csv(folder / "hillstrom" / "hillstrom.csv")
    names = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"]
    figures["hillstrom_people"] = [int((mail.segment == name).sum()) for name in names]
    figures["hillstrom_p"] = float(check_srm(figures["hillstrom_people"], [1, 1, 1]))
    figures["hillstrom"] = {
        f"{column}/{name}": compared(
            kind, [sums(mail[mail.segment == which][column].to_numpy(float)) for which in (names[0], name)]
        )
        for name in names[1:]
        for column, kind in (("visit", "proportion"), ("conversion", "proportion"), ("spend", "mean"))
    }
    # The policy judged on the random log: twice as likely to show items with an even number. Predictions: the mean
    # reward of each item under random, a model fitted to the same rows, which is good enough for arithmetic.
    figures["open_bandit"] = {}
    with tarfile.open(folder / "open_bandit" / "obd_small.tar.gz") as archive:
        for behaviour in ("random", "bts"):
            for campaign in ("all", "men"):
                name = f"obd/{behaviour}/{campaign}/{campaign}.csv"
                log = pd.read_csv(io.BytesIO(archive.extractfile(name).read()), index_col=0)
                action, reward = log.item_id.to_numpy(), log.click.to_numpy()
                count = int(action.max()) + 1
                policy = np.tile(np.where(np.arange(count) % 2 == 0, 2.0, 1.0), (len(log), 1))
                policy /= policy.sum(axis=1, keepdims=True)
                mean = np.bincount(action, reward, count) / np.maximum(np.bincount(action, minlength=count), 1)
                predicted = np.tile(mean, (len(log), 1))
                pscore = log.propensity_score.to_numpy()
                figures["open_bandit"][f"{behaviour}/{campaign}"] = judged(reward, action, pscore, policy, predicted)
    return figures


folder = os.environ.get("GLOAMING_DATA")
golden = {
    "effects": effects,
    "published": published,
    "refused": refused,
    "students": students,
    "shares": shares,
    "mixtures": mixtures,
    "discoveries": discoveries,
    "plans": plans,
    "chances": chances,
    "bounds": bounds,
    "logs": logs,
    "real": real(Path(folder)) if folder else before["real"],
}
path.write_text(json.dumps(golden) + "\n")
print(f"{len(effects)} comparisons and {len(published)} published ones in {path.name}")
