"""Multiple imputation: several completed data sets that differ as much as the data leave open."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxem.checks import as_key, check_count
from jaxem.coordinates import cast, check_params
from jaxem.data import prepare
from jaxem.lanes import Progress
from jaxem.missing.drawing import check_draws, draw_cells
from jaxem.missing.frames import check_raw, fill
from jaxem.missing.params_draws import METHODS, draw_params


@dataclasses.dataclass(frozen=True)
class Imputations:
    """m completed data sets: a sequence of them, each in the form of the data."""

    datasets: tuple[Any, ...]
    params: Any  # leaves (m, ...): what each was drawn under
    method: str
    remarks: tuple[str, ...] = ()  # sentences for a person

    def __len__(self) -> int:
        return len(self.datasets)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.datasets)

    def __getitem__(self, place: Any) -> Any:
        return self.datasets[place]

    def __str__(self) -> str:
        return " ".join([f"{len(self)} completed data sets by {self.method.replace('_', ' ')}.", *self.remarks])


def impute(
    model: Any,
    params: Any,
    data: Any,
    *,
    draws: int = 20,
    method: str = "bootstrap",
    key: Any,
    weights: Any = None,
    progress: Callable[[Progress], None] | None = None,
) -> Imputations:
    """`draws` completed data sets: missing cells drawn from p(missing | observed, params), params drawn for each data set anew.

    Analyse each data set by itself and put the results together by `jaxem.pool`: the spread between the data sets is what the
    missing cells leave open (Rubin 1987, Multiple Imputation for Nonresponse in Surveys). Cells are drawn under the model: states
    from their posterior (whole paths in a hidden Markov model), then each row's missing cells given the observed ones and the
    state. The mean of the draws is what `model.impute` gives, which alone is no data set to analyse: its cells vary too little.

    Args:
        model: `Single`, `Mixture`, `HiddenMarkov` and models like them, of Gaussian, t, factor or any other rows whose cells are
            independent given the state, and `Product`s of such.
        params: of a fit of the model to these data.
        data: raw rows, NaN where a cell is missing, in any form that the model takes.
        draws: m, data sets.
        method: how params are drawn. "bootstrap": refits to rows drawn with replacement, in lanes of one program; whole sequences
            are drawn, so that there have to be several. "posterior": from N(params, information^-1) in unconstrained
            coordinates, cheap and good for many rows. "data_augmentation": from the posterior by Gibbs sampling, good for few
            rows; the model needs a proper conjugate prior, see `jaxem.gibbs`.
        key: an int seed or a JAX key.
        weights: of the rows, as for `fit`.
        progress: called with a `Progress` of the refits of a bootstrap or of the Gibbs sampling, as by `fit`.

    Returns:
        Imputations, whose data sets hold the rows in order, observed cells as given; a data frame is answered by data frames.

    Raises:
        TypeError, ValueError: an unknown method; prepared data; a model that does not draw missing cells; as each method says.
    """
    view = check_raw(data, model)
    draws = check_count(draws, "draws")
    check_method(method)
    check_draws(model)
    for_params, for_cells = jax.random.split(as_key(key))
    rows = prepare(model, data, weights)
    check_params(model.domains, model.structure(rows), params)
    drawn, remarks = draw_params(model, cast(params, rows.dtype), rows, draws, method, for_params, progress)
    cells = draw_cells(model, drawn, rows, view, jax.random.split(for_cells, draws))
    return Imputations(tuple(fill(data, view, own) for own in cells), drawn, method, remarks)


def check_method(method: Any) -> None:
    """Raises ValueError where a method is not known."""
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method: found {method!r}; use one of {', '.join(METHODS)}.")
