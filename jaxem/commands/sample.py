"""`jaxem sample`: rows drawn from a saved model."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxem.catalogue import CommandError
from jaxem.columns import read_data
from jaxem.commands.model_file import options_of, read_model
from jaxem.commands.options import add_command, add_seed, whole
from jaxem.commands.output import check_targets, need, writing
from jaxem.inputs import Regression
from jaxem.saved import Saved
from jaxem.sequences import Sequences
from jaxem.tables import Table, TextTable, is_parquet, read_table

EXAMPLE = """example, which needs no file of yours:

  printf 'a,b\\n1,2\\n2,3\\n3,2\\n8,9\\n9,8\\n7,7\\n' > rows.csv
  jaxem fit rows.csv --components 2 --prior weak --save model.npz
  jaxem sample model.npz -n 100 -o drawn.csv"""

ANSWERS = ("response", "time", "event", "lower_column", "upper_column")  # columns that are drawn, and need not be there


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "sample", "model (-n N | --given FILE) -o FILE [options]", "draw rows from a saved model",
        "Write rows drawn from a model, with their component (label) where there are several. A model of time gives one sequence. "
        "Where rows are responses, they are drawn for the covariates in a file, whose other columns are kept.", EXAMPLE,
    )  # fmt: skip
    add = parser.add_argument
    add("model", type=Path, help="model file, of jaxem fit --save or jaxem.save")
    add("-n", "--rows", type=whole(1), metavar="N", help="how many rows")
    add("--given", type=Path, metavar="FILE", help="CSV or Parquet file of covariates: a response is drawn for each row")
    add("-o", "--output", type=Path, metavar="FILE", required=True, help="file to write: .csv or .parquet (needed)")
    add_seed(add)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draws, writes; the exit code."""
    if (options.rows is None) == (options.given is None):
        raise CommandError("-n, --given: give one of them, the number of rows or the file of their covariates")
    if is_parquet(options.output) or (options.given is not None and is_parquet(options.given)):
        need("pyarrow")
    check_targets(options.given or options.model, {"--output": options.output})
    if options.output.resolve() == options.model.resolve():
        raise CommandError("--output: is the model file; name another")
    saved = read_model(options.model)
    key = jax.random.key(options.seed)
    try:
        if options.given is None:
            drawn, kept = _draw(saved, key, options.rows), TextTable([], [[] for _ in range(options.rows)], ",")
        else:
            drawn, kept = _draw_given(saved, key, options)
    except (TypeError, ValueError) as error:
        hint = "; give a file of them by --given" if options.given is None else ""
        raise CommandError(f"{options.model}: {str(error).rstrip('.')}{hint}") from error
    with writing() as stage:
        kept.extended(drawn).write(stage(options.output), {}, is_parquet(options.output))
    return 0


def _draw(saved: Saved, key: jax.Array, n: int, **given: Any) -> dict[str, np.ndarray]:
    """Column names to n values; `given` are covariates, as far as the model takes them."""
    model, takes = saved.model, inspect.signature(saved.model.sample).parameters
    several = model.n_states > 1 and "states" in takes
    found = model.sample(key, saved.params, n, **given, **({"states": True} if several else {}))
    y, states = found if several else (found, None)
    parts = list(y.values()) if isinstance(y, dict) else [y]
    cells = np.concatenate([np.asarray(part).reshape(n, -1) for part in parts], axis=1)
    names = saved.columns or tuple(f"x{j}" for j in range(cells.shape[1]))
    labels = {} if saved.table is None else saved.table["labels"]
    counts = getattr(getattr(model, "family", None), "discrete", False)
    out: dict[str, np.ndarray] = {}
    for name, column in zip(names, cells.T, strict=True):
        if name in labels:
            out[name] = np.array(labels[name])[column.astype(int)]
        else:
            out[name] = column.astype(int) if counts else column
    return out if states is None else {**out, "label": np.asarray(states)}


def _draw_given(saved: Saved, key: jax.Array, options: argparse.Namespace) -> tuple[dict[str, np.ndarray], TextTable]:
    """What is drawn for each row of --given, and the columns of that file that stay."""
    reading = options_of(saved, options.model, options.given)
    table = read_table(options.given)
    n = len(table.texts(table.names[0]))
    answers = [name for each in ANSWERS if (name := getattr(reading, each)) is not None]
    raw, _ = read_data(reading, table.extended({name: [None] * n for name in answers if name not in table.names}))
    lengths = np.array([n])
    if isinstance(raw, Sequences):
        raw, lengths = raw.y, raw.lengths
    if not isinstance(raw, Regression):
        raise CommandError(f"--given: the rows of {options.model} have no covariates; say how many to draw by -n")
    takes = inspect.signature(saved.model.sample).parameters
    parts, begin = [], 0
    for number, length in enumerate(lengths):  # each sequence by itself
        own = jax.tree.map(lambda leaf, begin=begin, length=length: np.asarray(leaf)[begin : begin + length], raw)
        given = {"covariates": own, "gate": own.gate} if "gate" in takes else {"covariates": own}
        kept = {name: value for name, value in given.items() if not _empty(value)}
        parts.append(_draw(saved, jax.random.fold_in(key, number), int(length), **kept))
        begin += int(length)
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = getattr(reading, "row_order", None)
    if order is not None:
        drawn = {name: values[np.argsort(order)] for name, values in drawn.items()}
    return drawn, _rest(table, [*drawn, *answers])


def _empty(value: Any) -> bool:
    """Whether rows have no covariates at all; some families take none."""
    return value is None or (isinstance(value, Regression) and value.x is None and value.offset is None)


def _rest(table: Table, drawn: list[str]) -> TextTable:
    """The columns of a table that are not drawn, as text."""
    names = [name for name in table.names if name not in drawn]
    cells = [["" if text is None else text for text in table.texts(name)] for name in names]
    return TextTable(names, [list(row) for row in zip(*cells, strict=True)], ",")
