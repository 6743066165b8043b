"""Makes reference.json: small problems and scikit-learn's solutions of them.

    python3 -m venv venv && venv/bin/pip install scikit-learn==1.9.1
    venv/bin/python reference.py > reference.json
"""

import json

import numpy as np
from sklearn.linear_model import LogisticRegression

CLASSES, COLUMNS, ROWS = 4, 8, 90
chance = np.random.default_rng(20261129)
centres = chance.normal(size=(CLASSES, COLUMNS))
labels = chance.choice(CLASSES, size=ROWS, p=[0.5, 0.25, 0.15, 0.1])
vectors = centres[labels] * 0.7 + chance.normal(size=(ROWS, COLUMNS)) + 1.0
vectors = np.round(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 5).astype(np.float32)
# An example may have several, or none.
many = chance.random((ROWS, CLASSES)) < 1 / (1 + np.exp(-3 * (vectors @ centres.T)))


def solution(model):
    return {"weights": np.round(model.coef_, 5).tolist(), "biases": np.round(model.intercept_, 5).tolist()}


def fitted(strength, weights, targets=labels):
    model = LogisticRegression(C=strength, class_weight=weights, tol=1e-9, max_iter=100_000)
    return model.fit(vectors.astype(np.float64), targets)


one = [{"strength": strength, "balanced": weights is not None, **solution(fitted(strength, weights))}
       for strength in (0.3, 30.0) for weights in (None, "balanced")]
each = []
for weights in (None, "balanced"):
    models = [solution(fitted(3.0, weights, many[:, column])) for column in range(CLASSES)]
    each.append({"strength": 3.0, "balanced": weights is not None, "weights": [m["weights"][0] for m in models],
                 "biases": [m["biases"][0] for m in models]})
print(json.dumps({"columns": COLUMNS, "vectors": [round(float(v), 5) for v in vectors.ravel()], "labels": labels.tolist(),
                  "many": [np.flatnonzero(row).tolist() for row in many], "one": one, "each": each}))
