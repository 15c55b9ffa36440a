"""Data drawn from a model in the form of given data: the same covariates, lengths, holes and censoring."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxem.checks import check_categories
from jaxem.inference.censoring import record
from jaxem.inputs import Interval, Regression
from jaxem.models.state_space_data import Inputs, arranged
from jaxem.rows import Rows
from jaxem.sequences import Sequences, read_sequences

TRIES = 200  # rounds in which rows that end before they would be seen are drawn again
OTHERWISE = 'Take method="bootstrap", which resamples the data themselves, or "sandwich".'


@dataclasses.dataclass(frozen=True)
class Template:
    """Raw data of the rows (or sequences) that count, each as often as its weight says."""

    data: Any  # rows, those of all sequences one after another
    lengths: np.ndarray | None  # (S,) of sequences
    anchors: Any  # data of a few rows, or sequences, that hold the largest value of each column
    anchor_lengths: np.ndarray | None

    @property
    def n(self) -> int:
        """Rows."""
        return _count(self.data)

    @property
    def weights(self) -> np.ndarray:
        """Of the rows or sequences of a `replicate`, 0 for the anchors, which only say which categories there are."""
        if self.lengths is None or self.anchor_lengths is None:
            return np.concatenate([np.ones(self.n), np.zeros(_count(self.anchors))])
        return np.concatenate([np.ones(len(self.lengths)), np.zeros(len(self.anchor_lengths))])


def template_of(data: Any, rows: Rows, units: np.ndarray) -> Template:
    """The template of raw data, prepared as `rows`, whose rows (or sequences) have weights `units`.

    Raises:
        TypeError: prepared data, or data of a form that is not known. ValueError: weights that are no repetitions.
    """
    if isinstance(data, Rows):
        raise TypeError(
            "data: are prepared, and do not hold the form in which new ones would be drawn; give the raw data to "
            f"parametric_bootstrap. {OTHERWISE}"
        )
    broken = units[units != np.round(units)]
    if broken.size:
        raise ValueError(
            f"weights: found {broken[0]:g}; parametric_bootstrap draws a row as often as its weight says, which must be a whole "
            f"number. {OTHERWISE}"
        )
    often = np.repeat(np.arange(len(units)), units.astype(int))
    if rows.lanes is None:
        kept = _take(np.asarray(data) if isinstance(data, (list, tuple)) and not hasattr(data, "_fields") else data, often)
        return Template(kept, None, _take(kept, largest(kept)), None)
    flat, lengths = read_sequences(arranged(data))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])

    def sequences(chosen: np.ndarray) -> tuple[Any, np.ndarray]:
        steps = np.concatenate([np.arange(starts[s], starts[s] + lengths[s]) for s in chosen])
        return _take(flat, steps), lengths[chosen]

    owner = np.repeat(np.arange(len(lengths)), lengths)
    return Template(*sequences(often), *sequences(np.unique(owner[largest(flat)])))


def replicate(model: Any, params: Any, template: Template, keys: jax.Array) -> list[Any]:
    """A data set like the template for each key (B,), the anchors after it.

    Raises:
        TypeError, ValueError: the model does not say how such data are drawn, with what to use.
    """
    try:
        drawn = _draw(model, params, template, keys)
    except (TypeError, ValueError, NotImplementedError) as error:
        what = f"parametric_bootstrap: new data are drawn by {type(model).__name__}.sample, which says"
        raise type(error)(f"{what}: {error} {OTHERWISE}") from error
    rng = np.random.default_rng(np.asarray(jax.random.key_data(keys)).ravel())
    like = _in_form(drawn, template.data, rng)
    out = []
    for own in like:
        joined = _joined(own, template.anchors)
        lengths = template.lengths
        out.append(joined if lengths is None else Sequences(joined, np.concatenate([lengths, template.anchor_lengths])))
    return out


# drawing


def _draw(model: Any, params: Any, template: Template, keys: jax.Array) -> Any:
    """Complete responses, leaves (B, n, ...)."""
    given = _given(template.data)
    entry = _entry(template.data)
    if template.lengths is not None:
        if entry is not None:
            raise TypeError("Steps of a sequence that were seen only because they exceeded their entry are not drawn.")
        return _draw_sequences(model, params, template.lengths, given, keys)
    drawn = _draw_rows(model, params, template.n, given, keys)
    if entry is None:
        return drawn
    drawn = np.array(drawn)
    for _ in range(TRIES):
        unseen = drawn.reshape(*drawn.shape[:2], -1)[..., 0] <= entry
        if not unseen.any():
            return drawn
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        again = np.asarray(_draw_rows(model, params, template.n, given, keys))
        drawn = np.where(unseen.reshape(*unseen.shape, *[1] * (drawn.ndim - 2)), again, drawn)
    raise ValueError(f"Rows that must exceed their entry did not in {TRIES} draws.")


@partial(jax.jit, static_argnames="n")
def _draw_rows(model: Any, params: Any, n: int, given: dict[str, Any], keys: jax.Array) -> Any:
    return jax.vmap(lambda key: model.sample(key, params, n, **given))(keys)


def _draw_sequences(model: Any, params: Any, lengths: np.ndarray, given: dict[str, Any], keys: jax.Array) -> Any:
    """Each sequence as long as the longest, and cut: what comes later in a sequence says nothing of how it begins."""
    most = int(lengths.max())
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    steps = starts[:, None] + np.minimum(np.arange(most), lengths[:, None] - 1)  # (S, T) covariates of the last step repeated
    kept = np.flatnonzero(np.arange(most) < lengths[:, None])
    own = jax.tree.map(lambda leaf: np.asarray(leaf)[steps], given)
    return _draw_lanes(model, params, most, len(lengths), own, kept, keys)


@partial(jax.jit, static_argnames=("most", "count"))
def _draw_lanes(model: Any, params: Any, most: int, count: int, given: Any, kept: jax.Array, keys: jax.Array) -> Any:
    """Leaves (B, n, ...) of the steps `kept` of sequences of `most` steps with covariates (S, most, ...)."""

    def one(key: jax.Array, given: dict[str, Any]) -> Any:
        return model.sample(key, params, most, **given)

    def each(key: jax.Array) -> Any:
        found = jax.vmap(one)(jax.random.split(key, count), given)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[kept], found)

    return jax.vmap(each)(keys)


def _given(data: Any) -> dict[str, Any]:
    """What a model's `sample` is told of rows: covariates, with an offset where there is one, those of a gate, inputs."""
    if isinstance(data, Inputs):
        return {"inputs": _numbers(data.u)}
    if not isinstance(data, Regression):
        return {}
    given: dict[str, Any] = {}
    if data.offset is not None:
        x = None if data.x is None else _numbers(data.x)
        given["covariates"] = Regression(None, x, data.intercept, np.asarray(data.offset))
    elif data.x is not None:
        given["covariates"] = _numbers(data.x)
    if data.gate is not None:
        given["gate"] = _numbers(data.gate)
    return given


def _numbers(x: Any) -> np.ndarray:
    array = np.asarray(x)
    return array[:, None] if array.ndim == 1 else array


def _entry(data: Any) -> np.ndarray | None:
    y = data.y if isinstance(data, Regression) else data
    if not isinstance(y, Interval) or y.entry is None:
        return None
    return np.nan_to_num(np.asarray(y.entry, np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


# form


def _in_form(drawn: Any, given: Any, rng: np.random.Generator) -> list[Any]:
    """Complete responses (B, n, ...) as B data sets with the holes, censoring, categories and covariates of `given`."""
    if isinstance(given, (Regression, Inputs)):
        return [dataclasses.replace(given, y=y) for y in _in_form(drawn, given.y, rng)]
    if isinstance(given, Mapping):
        parts = {name: _in_form(drawn[name], given[name], rng) for name in given}
        return [dict(zip(parts, own, strict=True)) for own in zip(*parts.values(), strict=True)]
    if isinstance(given, Interval):
        lower = np.asarray(given.lower)
        cut = record(np.asarray(drawn).reshape(-1, *lower.shape), given, rng)
        return [Interval(low, up, given.entry) for low, up in zip(cut.lower, cut.upper, strict=True)]
    if hasattr(given, "columns") or hasattr(given, "cat") or np.asarray(given).dtype.kind in "OUS":
        return _as_categories(drawn, given)
    leaves, structure = jax.tree.flatten(given)
    found: Any = jax.tree.structure(drawn)
    if found != structure:
        raise TypeError(f"data: found {type(given).__name__} where the model draws {type(drawn).__name__}. {OTHERWISE}")
    holes = [_punched(np.asarray(values), np.asarray(leaf)) for values, leaf in zip(jax.tree.leaves(drawn), leaves, strict=True)]
    return [jax.tree.unflatten(structure, list(own)) for own in zip(*holes, strict=True)]


def _punched(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    """NaN where `given` is; whole numbers stay whole."""
    values = values.reshape(len(values), *given.shape)
    if given.dtype.kind != "f":
        return values.astype(given.dtype) if given.dtype.kind in "iub" else values
    return np.where(np.isnan(given), np.nan, values).astype(given.dtype)


def _as_categories(drawn: Any, given: Any) -> list[Any]:
    """Numbers or codes of categories (B, n, d) as `given` has them: a data frame or an array, with its labels."""
    if isinstance(drawn, Mapping):
        raise TypeError(f"data: are a data frame of several groups; give a mapping from each group to its data. {OTHERWISE}")
    codes, labels, _ = check_categories(given) if _labelled(given) else (np.asarray(given, np.float64), None, None)
    codes = codes.reshape(len(codes), -1)
    values = np.where(np.isnan(codes), np.nan, np.asarray(drawn).reshape(-1, *codes.shape))
    if labels is None and not hasattr(given, "columns"):
        return list(values)
    return [_labels_back(own, given, labels) for own in values]


def _labelled(given: Any) -> bool:
    frame = given.to_frame() if hasattr(given, "to_frame") else given
    kinds = [kind.kind if hasattr(kind, "kind") else "O" for kind in getattr(frame, "dtypes", [np.asarray(given).dtype])]
    return any(kind not in "biuf" for kind in kinds)


def _labels_back(values: np.ndarray, given: Any, labels: Any) -> Any:
    columns: list[Any] = []
    for j, column in enumerate(values.T):
        names = None if labels is None else labels[j]
        if names is None:
            columns.append(column)
            continue
        told = np.array([*names, None], object)[np.where(np.isnan(column), len(names), column).astype(int)]
        columns.append(told)
    if hasattr(given, "columns"):
        import pandas as pd

        frame = pd.DataFrame(dict(zip(given.columns, columns, strict=True)))
        return frame.astype({name: kind for name, kind in given.dtypes.items() if hasattr(kind, "categories")})
    return np.stack(columns, axis=1).reshape(np.shape(given))


# rows of raw data


def largest(data: Any) -> np.ndarray:
    """Rows that hold the largest value of each column of the responses, or any where these are no numbers."""
    y = data.y if isinstance(data, (Regression, Inputs)) else data
    if isinstance(y, Interval):
        return np.zeros(1, int)
    if isinstance(y, Mapping):
        return np.unique(np.concatenate([largest(part) for part in y.values()]))
    codes = check_categories(y)[0] if not isinstance(y, (tuple, list)) and _labelled(y) else None
    found = [np.zeros(1, int)]
    for leaf in jax.tree.leaves(y) if codes is None else [codes]:
        array = np.asarray(leaf)
        if array.dtype.kind in "fiub" and array.ndim:
            columns = np.where(np.isnan(array.astype(float)), -np.inf, array.astype(float)).reshape(len(array), -1)
            found.append(columns.argmax(axis=0))
    return np.unique(np.concatenate(found))


def _count(data: Any) -> int:
    return int(np.shape(jax.tree.leaves(data)[0])[0])


def _take(data: Any, index: np.ndarray) -> Any:
    """Rows of raw data of any form."""

    def pick(leaf: Any) -> Any:
        return leaf.iloc[index].reset_index(drop=True) if hasattr(leaf, "iloc") else np.asarray(leaf)[index]

    return jax.tree.map(pick, data)


def _joined(first: Any, second: Any) -> Any:
    def join(a: Any, b: Any) -> Any:
        if hasattr(b, "iloc") and hasattr(a, "iloc"):
            import pandas as pd

            return pd.concat([a, b], ignore_index=True)
        return np.concatenate([np.asarray(a), np.asarray(b)])

    return jax.tree.map(join, first, second)
