"""Bad input to what reads a fit, chooses a model or completes data: refused before anything compiles, in words."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import jaxem
from jaxem import (
    Categorical,
    Fit,
    Gaussian,
    HiddenMarkov,
    LinearRegression,
    Mixture,
    Poisson,
    Regression,
    Single,
    cross_validate,
    em,
    impute,
    pool,
    select,
    standard_errors,
)
from jaxem import plot as pictures

Y = np.random.default_rng(0).normal(size=(20, 2))
COUNTS = np.abs(np.round(Y))
X = Y[:, :1]
MODEL = Mixture(Gaussian(), 2)
PARAMS = jaxem.MixtureParams(
    np.array([0.5, 0.5]), jaxem.GaussianParams(np.array([[0.0, 0.0], [1.0, 1.0]]), np.stack([np.eye(2)] * 2))
)
FIT = Fit(PARAMS, *[np.float64(0)] * 14)
KNOWN = Mixture(Categorical(), 2)
CLASSES = jaxem.MixtureParams(np.array([0.5, 0.5]), jaxem.CategoricalParams(np.full((2, 2, 3), 1 / 3)))
SAVED = jaxem.saved.Saved(MODEL, PARAMS, None, ("a", "b"))
NO_FIT = "params: found Fit; give fit.params"

CASES = {
    "no models": (lambda: select([], Y), ValueError, "models: found none; give at least one"),
    "no models in a generator": (lambda: select((each for each in ()), Y), ValueError, "models: found none"),
    "one model": (lambda: select(MODEL, Y), TypeError, "models: found Mixture; give several"),
    "a class": (lambda: select([Mixture], Y), TypeError, r"models\[0\]: found <class"),
    "kinds of data": (lambda: select([MODEL, Mixture(Poisson(), 2)], COUNTS), ValueError, "models: are of different kinds of data"),
    "data of another kind": (
        lambda: select([MODEL, Single(LinearRegression())], Y), TypeError, "LinearRegression.* does not take these data",
    ),
    "criterion": (lambda: select([MODEL], Y, "BIC"), ValueError, "criterion: found 'BIC'; use one of aic, "),
    "criterion without folds": (lambda: select([MODEL], Y, "cv_log_likelihood"), ValueError, "needs a number of folds"),
    "folds": (lambda: select([MODEL], Y, folds=21), ValueError, "folds: found 21 for 20 rows that count; give at most 20"),
    "one fold": (lambda: cross_validate(MODEL, Y, 1), ValueError, "folds: found 1; give at least 2"),
    "half a fold": (lambda: cross_validate(MODEL, Y, 2.5), TypeError, "folds: found 2.5 of type float"),
    "weights of select": (lambda: select([MODEL], Y, weights=[1, 2]), ValueError, r"weights: found shape \(2,\) for 20 rows"),
    "one draw": (lambda: pool([1.0], [1.0]), ValueError, "estimates: found 1 data set; at least 2"),
    "no draw": (lambda: pool([], []), ValueError, "estimates: found 0 data set; at least 2"),
    "lengths": (lambda: pool([1.0, 2.0], [1.0]), ValueError, "variances: found 1 data sets .* where estimates are 2"),
    "negative variance": (lambda: pool([1.0, 2.0], [1.0, -1.0]), ValueError, "variances: found -1 in data set 1"),
    "draws": (lambda: impute(MODEL, PARAMS, Y, draws=0, key=0), ValueError, "draws: found 0"),
    "method": (lambda: impute(MODEL, PARAMS, Y, method="mice", key=0), ValueError, "method: found 'mice'; use one of"),
    "prepared": (lambda: impute(MODEL, PARAMS, jaxem.prepare(MODEL, Y), key=0), TypeError, "data: are prepared"),
    "regression": (lambda: MODEL.impute(PARAMS, Regression(Y, X)), TypeError, "y: found Regression; give an .* array of numbers"),
    "nothing": (lambda: HiddenMarkov(Gaussian(), 2).prepare(None), TypeError, "y: found NoneType; give"),
    "tobit": (lambda: jaxem.tobit(Y[:, 0], X), ValueError, r"left: found shape \(20, 1\) for y of shape \(20,\)"),
    # a fit in place of its params
    "standard_errors": (lambda: standard_errors(MODEL, FIT, Y), TypeError, NO_FIT),
    "start": (lambda: jaxem.fit(MODEL, Y, params=FIT), TypeError, NO_FIT),
    "starts": (lambda: jaxem.fit_batch(MODEL, [Y, Y], params=FIT), TypeError, NO_FIT),
    "compare": (lambda: jaxem.compare(MODEL, Y, {"em": em()}, params=FIT), TypeError, NO_FIT),
    "impute": (lambda: impute(MODEL, FIT, Y, key=0), TypeError, NO_FIT),
    "align": (lambda: jaxem.align(FIT, PARAMS), TypeError, NO_FIT),
    "reference": (lambda: jaxem.align(PARAMS, FIT), TypeError, "reference: found Fit; give fit.params"),
    "posterior": (lambda: MODEL.posterior(FIT, Y), TypeError, NO_FIT),
    "log_likelihood": (lambda: MODEL.log_likelihood(FIT, Y), TypeError, NO_FIT),
    "model.impute": (lambda: MODEL.impute(FIT, Y), TypeError, NO_FIT),
    "sample": (lambda: MODEL.sample(0, FIT, 3), TypeError, NO_FIT),
    "e_step": (lambda: MODEL.e_step(FIT, Y), TypeError, NO_FIT),
    "to_unconstrained": (lambda: MODEL.to_unconstrained(FIT), TypeError, NO_FIT),
    "save": (lambda: jaxem.save("never.npz", MODEL, FIT), TypeError, NO_FIT),
    # params and data that do not go together
    "other params": (
        lambda: MODEL.posterior(PARAMS.components, Y), TypeError,
        r"found GaussianParams\(mean, covariance\); give MixtureParams\(weights, components=GaussianParams\(mean, covariance\)\)",
    ),
    "other columns": (lambda: MODEL.posterior(PARAMS, X), ValueError, r"shapes \[\(2,\), \(2, 1\), .* give data with the columns"),
    "unknown category": (lambda: KNOWN.posterior(CLASSES, [[3.0, 0.0]]), ValueError, "give data with the columns of the fit"),
    "arrange": (lambda: SAVED.arrange(Y), TypeError, "data: found ndarray; give a data frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, kind, match = CASES[name]
    with pytest.raises(kind, match=match):
        call()


PICTURES = [name for name in pictures.__all__ if "params" in inspect.signature(getattr(pictures, name)).parameters]
OF_OTHERS = ("gate", "regimes", "regression", "scores", "series", "smoothed", "state_space", "survival", "transitions")


@pytest.mark.parametrize("name", [name for name in PICTURES if not name.endswith(OF_OTHERS)])
def test_pictures_ask_for_params(name):
    draw = getattr(pictures, name)
    given = {"model": MODEL, "params": FIT, "data": Y, "y": Y, "truth": PARAMS, "by": 0}
    wanted = {each: given[each] for each in inspect.signature(draw).parameters if each in given}
    with pytest.raises(TypeError, match=NO_FIT):
        draw(**wanted)
    plt.close("all")


def test_fewer_categories_are_no_other_data():
    """New rows need not show every category that the fit saw."""
    np.testing.assert_allclose(KNOWN.posterior(CLASSES, [[0.0, 1.0]]), [[0.5, 0.5]])


def test_columns_of_a_file_are_found_by_name():
    frame = pd.DataFrame({"b": Y[:, 1], "more": 0.0, "a": Y[:, 0]})
    np.testing.assert_array_equal(SAVED.arrange(frame).to_numpy(), Y)
    with pytest.raises(ValueError, match="data: there is no column 'b'; found 'more', 'a'"):
        SAVED.arrange(frame[["more", "a"]])


def test_responses_are_filled_in():
    """Observed ones stay as given, the others are the regression's."""
    y = np.where(np.arange(20) < 3, np.nan, Y[:, 1])
    params = jaxem.LinearRegressionParams(intercept=np.array(0.5), coefficients=np.array([2.0]), variance=np.array(1.0))
    found = np.asarray(Single(LinearRegression()).impute(params, Regression(y, X)))
    np.testing.assert_array_equal(found[3:, 0], y[3:])
    np.testing.assert_allclose(found[:3, 0], 0.5 + 2 * X[:3, 0], rtol=1e-12)
