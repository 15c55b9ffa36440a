"""Latent class analysis against poLCA, and its tables."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxem
from jaxem import Bernoulli, Categorical, Gaussian, Mixture, Status, Stop

HERE = Path(__file__).parent / "reference"
TIGHT = Stop(tolerance=1e-11, max_steps=50000)


def case(name):
    with open(HERE / name / "data.csv") as file:
        table = list(csv.reader(file))
    expected = json.loads((HERE / name / "expected.json").read_text())
    return np.array(table[1:], float) - 1, table[0], expected


CASES = [("lca_carcinoma", 0), ("lca_carcinoma", 1), ("lca_carcinoma", 2), ("lca_values", 0), ("lca_values", 1)]


@pytest.mark.parametrize("family", [Categorical(2), Bernoulli()], ids=["categorical", "bernoulli"])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_polca(name, index, family):
    """Log-likelihood, params, G2 and X2; a fit on the boundary comes there, and stays finite."""
    y, columns, expected = case(name)
    theirs = expected["fits"][index]
    k = theirs["n_classes"]
    model = Mixture(family, k)
    for seed in (0, 1, 2):
        fit = jaxem.fit(model, y, key=seed, restarts=12, stop=TIGHT)
        assert fit.status == Status.CONVERGED
        assert abs(float(fit.log_likelihood) - theirs["logLik"]) < 1e-5
    assert model.n_parameters(jaxem.prepare(model, y)) == theirs["n_params"]
    profiles = jaxem.class_profiles(model, fit.params, pd.DataFrame(y, columns=columns))
    order = np.argsort(-profiles.shares)
    np.testing.assert_allclose(profiles.shares[order], theirs["params"]["class_weights"], atol=2e-3)
    truth = np.concatenate([np.array(theirs["params"]["item_probs"][c]).T for c in columns])
    np.testing.assert_allclose(profiles.probabilities[:, order], truth, atol=2e-3)
    assert profiles.items[:4] == (columns[0], columns[0], columns[1], columns[1])
    found = jaxem.goodness_of_fit(model, fit.params, y)
    assert abs(found.g2 - theirs["poLCA"]["Gsq"]) < 1e-3
    assert abs(found.x2 - theirs["poLCA"]["Chisq"]) < 2e-2
    assert found.df == 2 ** len(columns) - 1 - theirs["n_params"]
    assert found.sparse == (name == "lca_carcinoma")
    assert 0 < found.entropy_r2 <= 1


def test_patterns_with_weights():
    """Weights are repetitions, in the fit and in the table; G2 is the one of scipy's arithmetic."""
    y, _, _ = case("lca_values")
    patterns, counts = np.unique(y, axis=0, return_counts=True)
    model = Mixture(Categorical(), 2)
    start = model.init(0, y)
    rows = jaxem.fit(model, y, params=start, stop=TIGHT)
    grouped = jaxem.fit(model, patterns, weights=counts, params=start, stop=TIGHT)
    assert abs(float(rows.log_likelihood - grouped.log_likelihood)) < 1e-9
    ours = jaxem.goodness_of_fit(model, rows.params, y)
    theirs = jaxem.goodness_of_fit(model, rows.params, jaxem.prepare(model, patterns, weights=counts))
    np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-9)
    p, shares = np.asarray(rows.params.components.probabilities), np.asarray(rows.params.weights)
    expected = counts.sum() * sum(
        share * np.prod([own[j, patterns[:, j].astype(int)] for j in range(4)], axis=0)
        for own, share in zip(p, shares, strict=True)
    )
    assert abs(ours.g2 - 2 * (counts * np.log(counts / expected)).sum()) < 1e-8
    from scipy import stats

    assert abs(ours.p_g2 - stats.chi2(ours.df).sf(ours.g2)) < 1e-8


def labelled():
    rng = np.random.default_rng(3)
    z = rng.integers(2, size=200)
    names = np.array(["never", "rarely", "often"], object)
    frame = pd.DataFrame({name: names[(rng.random(200) < 0.85 - 0.7 * z) * 1 + (rng.random(200) < 0.5)] for name in "abc"})
    frame.loc[0, "b"] = None
    frame.loc[1, ["a", "c"]] = None
    return frame


def test_labels_and_missing_answers():
    frame = labelled()
    model = Mixture(Categorical(), 2)
    fit = jaxem.fit(model, frame, key=0, restarts=4)
    profiles = jaxem.class_profiles(model, fit.params, frame)
    assert profiles.categories[:3] == ("never", "often", "rarely")
    table = profiles.to_dataframe()
    assert list(table.columns) == ["item", "category", "class 0", "class 1"]
    np.testing.assert_allclose(table.groupby("item")[["class 0", "class 1"]].sum(), 1, rtol=1e-6)
    assert "rarely" in str(profiles)
    assert "(share)" in str(profiles)
    found = jaxem.goodness_of_fit(model, fit.params, frame)
    assert (found.n_cells, found.n_complete) == (27, 198.0)
    assert "27 patterns" in str(found)

    filled = jaxem.impute_categories(model, fit.params, frame)
    r, p = np.asarray(model.posterior(fit.params, frame)), np.asarray(fit.params.components.probabilities)
    predicted = r[0] @ p[:, 1]
    assert filled.values[0, 1] == ("never", "often", "rarely")[predicted.argmax()]
    assert abs(filled.probability[0, 1] - predicted.max()) < 1e-9
    given = frame.notna().to_numpy()
    assert (filled.values[given] == frame.to_numpy()[given]).all()
    assert (filled.probability[given] == 1).all()


def test_one_class_is_certain():
    y, _, _ = case("lca_values")
    model = Mixture(Bernoulli(), 1)
    assert jaxem.goodness_of_fit(model, jaxem.fit(model, y, key=0).params, y).entropy_r2 == 1
    assert jaxem.entropy_r2(np.full((5, 2), 0.5)) == pytest.approx(0)
    assert jaxem.entropy_r2(np.array([[1.0, 0.0], [0.5, 0.5]]), [3.0, 1.0]) == pytest.approx(0.75)


def test_other_models_are_refused():
    y = np.random.default_rng(0).normal(size=(10, 2))
    model = Mixture(Gaussian(), 1)
    with pytest.raises(TypeError, match=r"model: found Mixture\(Gaussian\)"):
        jaxem.class_profiles(model, model.init(0, y), y)
    model = Mixture(Categorical(), 1)
    y = np.array([[0, np.nan], [np.nan, 1]])
    with pytest.raises(ValueError, match="every row has a missing cell"):
        jaxem.goodness_of_fit(model, model.init(0, y), y)
