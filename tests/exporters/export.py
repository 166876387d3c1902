"""Exports one model of every kind that people bring, with what onnxruntime computes from it.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python export.py

Writes `fixtures/NAME.onnx` and `fixtures/NAME.json`: sixteen rows and the column that a device would be given. The
data is drawn here, so the files hold nobody's. What an exporter itself refuses is written down with its words.
"""

import json
import pathlib
import warnings

import lightgbm
import numpy
import onnxruntime
import xgboost
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent / "fixtures"
WIDTH, ROWS, SEED = 8, 16, 7
OPSET = {"": 17, "ai.onnx.ml": 3}

classes = {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]}
update_registered_converter(
    lightgbm.LGBMClassifier,
    "LightGbmLGBMClassifier",
    calculate_linear_classifier_output_shapes,
    convert_lightgbm,
    options=classes,
)
update_registered_converter(
    lightgbm.LGBMRegressor,
    "LightGbmLGBMRegressor",
    calculate_linear_regressor_output_shapes,
    convert_lightgbm,
    options={"split": None},
)
update_registered_converter(
    xgboost.XGBClassifier,
    "XGBoostXGBClassifier",
    calculate_linear_classifier_output_shapes,
    convert_xgboost,
    options=classes,
)
update_registered_converter(
    xgboost.XGBRegressor, "XGBoostXGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost
)

few = {"random_state": SEED}
trees = {"n_estimators": 8, "max_depth": 3, **few}
boosted = {"n_estimators": 8, "max_depth": 3, "random_state": SEED}

# Name, model, what it is fitted to, and the output and column that a device is given.
MODELS = [
    ("logistic-regression", LogisticRegression(), "class", "probabilities", 1),
    ("minmax-logistic", make_pipeline(MinMaxScaler(), LogisticRegression()), "class", "probabilities", 1),
    ("standard-logistic", make_pipeline(StandardScaler(), LogisticRegression()), "class", "probabilities", 1),
    ("standard-ridge", make_pipeline(StandardScaler(), Ridge()), "value", "variable", 0),
    ("linear-regression", LinearRegression(), "value", "variable", 0),
    ("standard-pca", make_pipeline(StandardScaler(), PCA(3)), "none", "variable", 1),
    ("standard-kmeans", make_pipeline(StandardScaler(), KMeans(4, n_init=1, **few)), "none", "scores", 2),
    ("minibatch-kmeans", make_pipeline(StandardScaler(), MiniBatchKMeans(4, n_init=1, **few)), "none", "scores", 2),
    ("standard-mixture", make_pipeline(StandardScaler(), GaussianMixture(3, **few)), "none", "probabilities", 1),
    ("polynomial-logistic", make_pipeline(PolynomialFeatures(2), LogisticRegression()), "class", "probabilities", 1),
    ("normalizer-logistic", make_pipeline(Normalizer(), LogisticRegression()), "class", "probabilities", 1),
    ("three-classes-logistic", LogisticRegression(), "three", "probabilities", 0),
    ("three-classes-lightgbm", lightgbm.LGBMClassifier(**boosted, verbose=-1), "three", "probabilities", 2),
    ("three-classes-xgboost", xgboost.XGBClassifier(**boosted), "three", "probabilities", 1),
    ("one-against-rest", OneVsRestClassifier(LogisticRegression()), "three", "probabilities", 1),
    ("decision-tree", DecisionTreeClassifier(max_depth=4, **few), "class", "probabilities", 1),
    ("random-forest", RandomForestClassifier(**trees), "class", "probabilities", 1),
    ("extra-trees", ExtraTreesClassifier(**trees), "class", "probabilities", 1),
    ("three-classes-forest", RandomForestClassifier(**trees), "three", "probabilities", 2),
    ("gradient-boosting", GradientBoostingClassifier(**trees), "class", "probabilities", 1),
    ("lightgbm", lightgbm.LGBMClassifier(**boosted, verbose=-1), "class", "probabilities", 1),
    ("lightgbm-regressor", lightgbm.LGBMRegressor(**boosted, verbose=-1), "value", "variable", 0),
    ("xgboost", xgboost.XGBClassifier(**boosted), "class", "probabilities", 1),
    ("xgboost-regressor", xgboost.XGBRegressor(**boosted), "value", "variable", 0),
    ("perceptron", make_pipeline(StandardScaler(), MLPClassifier((16, 8), max_iter=60, **few)), "class", "probabilities", 1),
    ("sgd-logistic", make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", **few)), "class", "probabilities", 1),
    ("adaboost", AdaBoostClassifier(n_estimators=5, **few), "class", "probabilities", 1),
    ("naive-bayes", GaussianNB(), "class", "probabilities", 1),
    ("neighbours", KNeighborsClassifier(5), "few", "probabilities", 1),
    ("calibrated", CalibratedClassifierCV(LogisticRegression(), cv=2), "class", "probabilities", 1),
    (
        "stacking",
        StackingClassifier([("a", LogisticRegression()), ("b", DecisionTreeClassifier(max_depth=3, **few))]),
        "class",
        "probabilities",
        1,
    ),
    ("forest-regressor", RandomForestRegressor(**trees), "value", "variable", 0),
    ("boosting-regressor", GradientBoostingRegressor(**trees), "value", "variable", 0),
    ("isolation-forest", IsolationForest(n_estimators=8, max_samples=32, **few), "none", "scores", 0),
    ("support-vectors", SVC(probability=True, **few), "few", "probabilities", 1),
    ("one-class-vectors", OneClassSVM(nu=0.1), "small", "scores", 0),
    ("imputer-logistic", make_pipeline(SimpleImputer(), LogisticRegression()), "class", "probabilities", 1),
    (
        "onehot-logistic",
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
        "steps",
        "probabilities",
        1,
    ),
    ("histogram-boosting", HistGradientBoostingClassifier(max_iter=8, max_depth=3, **few), "class", "probabilities", 1),
    (
        "voting",
        VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", flatten_transform=False),
        "class",
        "probabilities",
        1,
    ),
]


def data(kind):
    """Rows like a session's numbers: counts, times, flags; and something to learn from them."""
    dice = numpy.random.default_rng(SEED)
    rows = 2_000 if kind not in ("few", "small") else 120
    x = dice.gamma(1.5, 2.0, (rows, WIDTH))
    x[:, 6:] = dice.random((rows, 2)) < 0.4
    if kind == "steps":
        x = numpy.floor(numpy.minimum(x, 4))
    x = x.astype(numpy.float32)
    signal = 0.5 * x[:, 0] - 0.3 * x[:, 1] * x[:, 6] + 0.2 * numpy.sqrt(x[:, 2]) - 1 + dice.normal(0, 0.5, rows)
    if kind == "value":
        return x, signal.astype(numpy.float32)
    if kind == "three":
        return x, numpy.digitize(signal, [-0.5, 0.8])
    return x, None if kind in ("none", "small") else (signal > 0).astype(numpy.int64)


def export(name, model, kind, output, column):
    x, y = data(kind)
    model.fit(x, y) if y is not None else model.fit(x)
    final = model[-1] if hasattr(model, "__getitem__") and not hasattr(model, "estimators_") else model
    options = {id(final): {"score_samples": False}} if isinstance(final, GaussianMixture) else None
    onnx = convert_sklearn(
        model, initial_types=[("features", FloatTensorType([None, WIDTH]))], target_opset=OPSET, options=options
    )
    bytes_ = onnx.SerializeToString()
    session = onnxruntime.InferenceSession(bytes_, providers=["CPUExecutionProvider"])
    names = [found.name for found in session.get_outputs()]
    wanted = {"probabilities": ["output_probability", "probabilities"], "scores": ["scores"], "variable": ["variable"]}
    chosen = next(found for found in names if found in wanted[output])
    inputs = x[:: len(x) // ROWS][:ROWS]
    if name == "imputer-logistic":
        inputs = inputs.copy()
    given = session.run([chosen], {"features": inputs})[0]
    # A ZipMap gives a dictionary for each row.
    table = numpy.array([list(row.values()) if isinstance(row, dict) else numpy.atleast_1d(row) for row in given])
    (HERE / f"{name}.onnx").write_bytes(bytes_)
    said = {
        "model": type(model).__name__ if not hasattr(model, "steps") else " + ".join(type(s).__name__ for _, s in model.steps),
        "output": chosen,
        "column": column,
        "inputs": [[float(v) for v in row] for row in inputs],
        "outputs": [float(v) for v in table[:, column]],
    }
    (HERE / f"{name}.json").write_text(json.dumps(said) + "\n")
    print(f"{name}: {len(bytes_)} bytes, {chosen}[{column}]", flush=True)


def main():
    HERE.mkdir(exist_ok=True)
    refused = {}
    for name, *rest in MODELS:
        try:
            export(name, *rest)
        except Exception as error:  # noqa: BLE001 the exporter's own words are the result
            refused[name] = str(error).splitlines()[0][:160]
            print(f"{name}: refused by its exporter: {refused[name]}", flush=True)
    (HERE / "refused.json").write_text(json.dumps(refused, indent=1) + "\n")


if __name__ == "__main__":
    main()
