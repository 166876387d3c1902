"""What `shap` says of models that `export.py` exports: the same models, fitted anew, against the fixture's own rows.

    venv/bin/pip install shap==0.51.0 && venv/bin/python shap_values.py

Writes `shap/NAME.json`: rows, base and values on the scale on which the model adds.
"""

import json
import pathlib

import numpy
import shap

import export

HERE = pathlib.Path(__file__).parent / "shap"
# How many rows of each; what `shap` takes for the margin of the column that the fixture has.
MODELS = {
    "gradient-boosting": 1_000,
    "lightgbm": 100,
    "lightgbm-regressor": 100,
    "xgboost": 100,
    "random-forest": 100,
    "decision-tree": 100,
    "boosting-regressor": 100,
    "logistic-regression": 100,
    "standard-logistic": 100,
    "standard-ridge": 100,
}


def main():
    HERE.mkdir(exist_ok=True)
    for name, model, kind, _, column in export.MODELS:
        if name not in MODELS:
            continue
        x, y = export.data(kind)
        model.fit(x, y)
        usual = x[:: len(x) // export.ROWS][: export.ROWS]
        rows = x[1 : 1 + MODELS[name]]
        if hasattr(model, "steps"):
            # A scaler changes what is multiplied, and not what each feature does.
            scale = model[:-1]
            explainer = shap.LinearExplainer(model[-1], scale.transform(usual))
            found = explainer(scale.transform(rows))
        elif name == "logistic-regression":
            found = shap.LinearExplainer(model, usual)(rows)
        else:
            found = shap.TreeExplainer(model, usual, feature_perturbation="interventional", model_output="raw")(
                rows, check_additivity=False
            )
        values, base = numpy.array(found.values), numpy.array(found.base_values)
        if values.ndim == 3:
            values, base = values[:, :, column], base[:, column]
        said = {
            "rows": [[float(v) for v in row] for row in rows],
            "base": float(numpy.ravel(base)[0]),
            "values": [[float(v) for v in row] for row in values],
        }
        (HERE / f"{name}.json").write_text(json.dumps(said) + "\n")
        print(f"{name}: {values.shape}", flush=True)


main()
