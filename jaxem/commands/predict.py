"""`jaxem predict`: what a saved model says of the rows of a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.catalogue import CommandError
from jaxem.commands.model_file import options_of, read_model, read_rows
from jaxem.commands.options import add_command
from jaxem.commands.output import check_targets, need, writing
from jaxem.saved import Saved
from jaxem.tables import is_parquet, read_table

EXAMPLE = """example, which needs no file of yours:

  printf 'a,b\\n1,2\\n2,3\\n3,2\\n8,9\\n9,8\\n7,7\\n' > rows.csv
  printf 'name,b,a\\nAda,9,8\\nBen,,1\\n' > new.csv
  jaxem fit rows.csv --components 2 --prior weak --save model.npz
  jaxem predict model.npz new.csv -o out.csv"""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "predict", "model data -o FILE", "components, probabilities and densities of new rows",
        "Write a file with columns added: label (the likeliest component of the row, from 0; in a model of time its state on the "
        "likeliest path), probability_0, probability_1, ... (of each component given the row, or given the row's whole sequence) "
        "and log_density (of the row, or of its whole sequence). Columns are found by their names, in whatever order.", EXAMPLE,
    )  # fmt: skip
    add = parser.add_argument
    add("model", type=Path, help="model file, of jaxem fit --save or jaxem.save")
    add("data", type=Path, help="CSV (with a header) or Parquet file")
    add("-o", "--output", type=Path, metavar="FILE", required=True, help="file to write: .csv or .parquet (needed)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Reads, computes, writes; the exit code."""
    need("pandas")
    if is_parquet(options.data) or is_parquet(options.output):
        need("pyarrow")
    check_targets(options.data, {"--output": options.output})
    if options.output.resolve() == options.model.resolve():
        raise CommandError("--output: is the model file; name another")
    saved, table = read_model(options.model), read_table(options.data)
    added = readings(saved, options_of(saved, options.model, options.data), table)
    clash = [name for name in added if name in table.names]
    if clash:
        raise CommandError(f"{options.data}: has a column {clash[0]!r}, which this command writes; rename it")
    with writing() as stage:
        table.extended(added).write(stage(options.output), {}, is_parquet(options.output))
    return 0


def readings(saved: Saved, reading: argparse.Namespace, table: Any) -> dict[str, np.ndarray]:
    """label, probabilities and log_density of each row of a table, in its order."""
    rows = read_rows(saved, reading, table)
    model, params = saved.model, saved.params
    posterior = np.asarray(model.posterior(params, rows))
    path = getattr(model, "viterbi", None)
    label = posterior.argmax(axis=1) if path is None else np.asarray(path(params, rows))
    density = np.asarray(model.log_likelihood(params, rows, per_row=True))
    if rows.lanes is not None:  # one a sequence
        density = density[np.asarray(rows.lanes.sequence)]
    found = {"label": label, **{f"probability_{k}": each for k, each in enumerate(posterior.T)}, "log_density": density}
    order = getattr(reading, "row_order", None)
    return found if order is None else {name: values[np.argsort(order)] for name, values in found.items()}
