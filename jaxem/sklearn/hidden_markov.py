"""Hidden Markov models with the names of `hmmlearn.hmm`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

import jaxem
from jaxem.checks import as_key
from jaxem.sequences import Sequences
from jaxem.sklearn.fitting import double, fit, read, seed_of
from jaxem.sklearn.gaussian_mixture import COVARIANCES
from jaxem.steps import to_rows


class Monitor(NamedTuple):
    """How a fit went, under hmmlearn's names."""

    converged: bool
    iter: int
    history: list[float]  # log-likelihood before each step


class _HiddenMarkov(BaseEstimator):
    """What the three have in common: `jaxem.HiddenMarkov`.

    A subclass names its family, and which attribute holds which of the family's params.
    """

    _emissions: tuple[str, ...]  # attributes, in the order of the family's params

    def _family(self, X: Any) -> Any:
        raise NotImplementedError

    def _told(self, emissions: Any) -> dict[str, np.ndarray]:
        """Attributes from the family's params."""
        return dict(zip(self._emissions, emissions, strict=True))

    def _given(self, name: str, value: np.ndarray, d: int) -> np.ndarray:
        """A param of the family from an attribute."""
        del name, d
        return value

    def fit(self, X: Any, y: Any = None, lengths: Any = None, sequence_weight: Any = None) -> Any:
        """Fits to sequences.

        Args:
            X: (n, d) rows of all sequences, one after another; NaN where missing.
            y: not looked at, as everywhere in scikit-learn.
            lengths: (S,) rows of each sequence, by this name; None where X is one.
            sequence_weight: (S,) weights >= 0 of the sequences; rows have none of their own.
        """
        X = read(self, X, reset=True)
        if y is not None and np.shape(y)[:1] != (len(X),):
            raise ValueError(f"y: found shape {np.shape(y)} for {len(X)} rows; lengths of sequences go by their name, lengths=.")
        self._check()
        model = jaxem.HiddenMarkov(self._family(X), self.n_components)  # type: ignore[attr-defined]
        weights, d = None if sequence_weight is None else np.asarray(sequence_weight, X.dtype), X.shape[1]
        known: dict[str, Any] = {name: np.array(getattr(self, name)) for name in self._known()}
        old = self.params_ if self.warm_start and self._goes_on(model, d) else None  # type: ignore[attr-defined]

        def start(rows: Any, seed: int) -> Any:
            if old is not None:
                return old
            found = model.init(as_key(seed), rows)
            emissions = {
                field: self._given(name, known[name], d)
                for name, field in zip(self._emissions, found.emissions._fields, strict=True)
                if name in known
            }
            return jaxem.HiddenMarkovParams(
                initial=known.get("startprob_", found.initial),
                transition=known.get("transmat_", found.transition),
                emissions=found.emissions._replace(**emissions),
            )

        own = start if known or old is not None else None
        stop: dict[str, Any] = {"tolerance": self.tol, "max_steps": self.n_iter}  # type: ignore[attr-defined]
        fit(self, model, _sequences(X, lengths), weights=weights, separate=False, start=own, **stop)
        self.startprob_, self.transmat_ = self.params_.initial, self.params_.transition
        for name, value in self._told(self.params_.emissions).items():
            setattr(self, name, value)
        history = np.asarray(self.result_.history)
        self.monitor_ = Monitor(self.converged_, self.n_iter_, history[~np.isnan(history)].tolist())
        return self

    def _check(self) -> None:
        letters = {"s": "startprob_", "t": "transmat_"} | {name[0]: name for name in self._emissions}
        if not isinstance(self.init_params, str) or not set(self.init_params) <= set(letters):  # type: ignore[attr-defined]
            known = ", ".join(f"{letter} ({name})" for letter, name in letters.items())
            raise ValueError(f"init_params: found {self.init_params!r}; give some of the letters {known}.")  # type: ignore[attr-defined]
        if self.algorithm not in ("viterbi", "map"):  # type: ignore[attr-defined]
            raise ValueError(f"algorithm: found {self.algorithm!r}; use viterbi or map.")  # type: ignore[attr-defined]
        absent = [name for name in self._known() if not hasattr(self, name)]
        if absent:
            raise ValueError(f"init_params: leaves {absent[0]} to you; set it before fit.")

    def _known(self) -> list[str]:
        """Attributes that are the user's to set before a fit."""
        names = ("startprob_", "transmat_", *self._emissions)
        return [name for name in names if name[0] not in self.init_params]  # type: ignore[attr-defined]

    def _goes_on(self, model: Any, d: int) -> bool:
        """Whether there are params of an earlier fit to this model to begin from."""
        return getattr(self, "model_", None) == model and self._width == d

    # what is read off a fit

    def _ask(self, method: str, X: Any, lengths: Any, **more: Any) -> np.ndarray:
        check_is_fitted(self, "model_")
        X = read(self, X)
        with double():
            return np.asarray(getattr(self.model_, method)(self.params_, _sequences(X, lengths), **more))

    def predict(self, X: Any, lengths: Any = None) -> np.ndarray:
        """(n,) the states: the likeliest path of each sequence, or with algorithm="map" the likeliest state of each row."""
        return self.decode(X, lengths)[1]

    def decode(self, X: Any, lengths: Any = None, algorithm: str | None = None) -> tuple[float, np.ndarray]:
        """A number and the states (n,).

        By "viterbi" log p(X, path) of the likeliest paths; by "map" the sum of the probabilities of the likeliest states.
        """
        if (algorithm or self.algorithm) == "map":  # type: ignore[attr-defined]
            found = self.predict_proba(X, lengths)
            return float(found.max(axis=1).sum()), found.argmax(axis=1)
        check_is_fitted(self, "model_")
        X = read(self, X)
        with double():
            rows = self.model_.prepare(_sequences(X, lengths))
            model = self.model_.settle(self.params_, rows)
            path, density = model._recursions.likeliest(model._links(jax.tree.map(jnp.asarray, self.params_), rows))
            return float(to_rows(density, rows).sum()), np.asarray(to_rows(path, rows))

    def predict_proba(self, X: Any, lengths: Any = None) -> np.ndarray:
        """(n, K) probabilities of the states of each row given its whole sequence."""
        return self._ask("smooth", X, lengths)

    def score(self, X: Any, y: Any = None, lengths: Any = None) -> float:
        """Log-likelihood of all sequences, not their mean, as hmmlearn has it."""
        if y is not None and np.shape(y)[:1] != (np.shape(X)[0],):
            raise ValueError(f"y: found shape {np.shape(y)}; lengths of sequences go by their name, lengths=.")
        return float(self._ask("log_likelihood", X, lengths))

    def score_samples(self, X: Any, lengths: Any = None) -> tuple[float, np.ndarray]:
        """`score` and `predict_proba`, as hmmlearn has it."""
        return self.score(X, lengths=lengths), self.predict_proba(X, lengths)

    def aic(self, X: Any, lengths: Any = None) -> float:
        """-2 log-likelihood + 2 parameters; lower is better."""
        return -2 * self.score(X, lengths=lengths) + 2 * self.n_parameters_

    def bic(self, X: Any, lengths: Any = None) -> float:
        """-2 log-likelihood + log(n) parameters, n the number of rows; lower is better."""
        return -2 * self.score(X, lengths=lengths) + float(np.log(len(X))) * self.n_parameters_

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """One sequence (n, d) drawn from the model, and its states (n,)."""
        check_is_fitted(self, "model_")
        seed = seed_of(self.random_state if random_state is None else random_state)  # type: ignore[attr-defined]
        with double():
            y, states = self.model_.sample(seed, self.params_, n_samples, states=True)
            return np.asarray(y), np.asarray(states)

    def get_stationary_distribution(self) -> np.ndarray:
        """(K,) the distribution of states that the transitions leave as it is."""
        check_is_fitted(self, "model_")
        with double():
            return np.asarray(self.model_.stationary(self.params_))

    @property
    def _width(self) -> int:
        return self.n_features_in_  # type: ignore[attr-defined]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class GaussianHMM(_HiddenMarkov):
    """Hidden Markov model of Gaussian rows: `jaxem.HiddenMarkov(jaxem.Gaussian(...), K)`; cells may be missing.

    Args:
        n_components: K states.
        covariance_type: "spherical", "diag", "full" or "tied".
        algorithm: of `predict` and `decode`: "viterbi", or "map", state by state.
        n_iter: most steps.
        tol: a fit ends when the log-likelihood gains less in a step.
        n_init: starts, of which the best is kept.
        init_params: which of s (startprob_), t (transmat_), m (means_), c (covars_) the fit finds its own start for; set the others
            before `fit`.
        random_state: seed of the starts and of `sample`.
        warm_start: whether `fit` goes on from where the last one ended.

    Attributes:
        startprob_ (K,), transmat_ (K, K), means_ (K, d), covars_ (K, d, d) whatever the type, as hmmlearn has it; monitor_;
        converged_, n_iter_, log_likelihood_, n_parameters_; n_features_in_, feature_names_in_; model_, params_, result_: jaxem's.

    Priors of hmmlearn (startprob_prior, ..., covars_prior) are not taken: fits are by maximum likelihood.
    """

    _emissions = ("means_", "covars_")

    def __init__(
        self, n_components=1, covariance_type="diag", *, algorithm="viterbi", n_iter=100, tol=1e-2, n_init=1, init_params="stmc",
        random_state=None, warm_start=False,
    ):  # fmt: skip
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.tol = tol
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start

    def _family(self, X: Any) -> Any:
        if self.covariance_type not in COVARIANCES:
            raise ValueError(f"covariance_type: found {self.covariance_type!r}; use one of {', '.join(COVARIANCES)}.")
        return jaxem.Gaussian(COVARIANCES[self.covariance_type])

    def _told(self, emissions: Any) -> dict[str, np.ndarray]:
        (k, d), covariance = emissions.mean.shape, emissions.covariance
        if self.covariance_type == "spherical":
            covariance = np.broadcast_to(covariance[:, None], (k, d))
        whole = covariance if self.covariance_type in ("full", "tied") else covariance[:, None] * np.eye(d, dtype=covariance.dtype)
        return {"means_": emissions.mean, "covars_": np.array(np.broadcast_to(whole, (k, d, d)))}

    def _given(self, name: str, value: np.ndarray, d: int) -> np.ndarray:
        if name != "covars_" or self.covariance_type == "full" or value.shape != (self.n_components, d, d):
            return value
        if self.covariance_type == "tied":
            return value[0]
        diagonal = np.diagonal(value, axis1=1, axis2=2)
        return diagonal if self.covariance_type == "diag" else diagonal.mean(axis=1)


class PoissonHMM(_HiddenMarkov):
    """Hidden Markov model of counts, independent across columns given the state: `jaxem.HiddenMarkov(jaxem.Poisson(), K)`.

    Args and attributes are those of `GaussianHMM`, with lambdas_ (K, d), the expected counts (l in `init_params`).
    """

    _emissions = ("lambdas_",)

    def __init__(
        self, n_components=1, *, algorithm="viterbi", n_iter=100, tol=1e-2, n_init=1, init_params="stl", random_state=None,
        warm_start=False,
    ):  # fmt: skip
        self.n_components = n_components
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.tol = tol
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start

    def _family(self, X: Any) -> Any:
        _check_whole(X, "counts")
        return jaxem.Poisson()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.categorical = True  # the tag by which scikit-learn tells that X holds whole numbers
        return tags


class CategoricalHMM(_HiddenMarkov):
    """Hidden Markov model of codes 0, 1, ..., C - 1: `jaxem.HiddenMarkov(jaxem.Categorical(C), K)`.

    Args and attributes are those of `GaussianHMM`, with emissionprob_ (K, C), the probabilities of the codes (e in `init_params`).
    X may have several columns, independent given the state; emissionprob_ is then (K, d, C).

    Args:
        n_features: C, where it is more than X shows; hmmlearn's name.
    """

    _emissions = ("emissionprob_",)

    def __init__(
        self, n_components=1, *, algorithm="viterbi", n_iter=100, tol=1e-2, n_init=1, init_params="ste", n_features=None,
        random_state=None, warm_start=False,
    ):  # fmt: skip
        self.n_components = n_components
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.tol = tol
        self.n_init = n_init
        self.init_params = init_params
        self.n_features = n_features
        self.random_state = random_state
        self.warm_start = warm_start

    def _family(self, X: Any) -> Any:
        _check_whole(X, "codes")
        most = np.where(np.isnan(X), 0, X).max(axis=0)
        return jaxem.Categorical(tuple(max(int(each) + 1, self.n_features or 1) for each in most))

    def _told(self, emissions: Any) -> dict[str, np.ndarray]:
        found = emissions.probabilities
        return {"emissionprob_": found[:, 0] if found.shape[1] == 1 else found}

    def _given(self, name: str, value: np.ndarray, d: int) -> np.ndarray:
        return value[:, None] if value.ndim == 2 else value

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.categorical = True
        return tags


def _check_whole(X: np.ndarray, what: str) -> None:
    """Raises ValueError, in scikit-learn's words, where X has negative cells; the family looks at the rest."""
    if (X < 0).any():
        raise ValueError(f"X: Negative values in data, {int((X < 0).sum())} of them; give {what} >= 0.")


def _sequences(X: Any, lengths: Any) -> Any:
    return X if lengths is None else Sequences(X, np.asarray(lengths))
