"""`jaxem demo`: the mini-project fitted, described and drawn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxem.commands.fit import draw_overview
from jaxem.commands.options import add_command
from jaxem.commands.output import check_picture, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching

EXAMPLE = """example, which needs no file of yours:

  jaxem demo --output demo.png"""


def add(commands: Any) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "demo", "[--output PICTURE]", "fit, describe and draw an example that comes with jaxem",
        "Fit a mixture of three Gaussians to 500 rows with a fifth of their cells missing, which come with jaxem; tell the fit "
        "beside the parameters that generated the data, and draw it.", EXAMPLE,
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("jaxem-demo.png"), metavar="PICTURE",
        help="picture to draw: .png, .pdf or .svg (default: %(default)s)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fits, prints, draws; the exit code."""
    from jaxem import demo

    need("matplotlib")
    check_picture(options.output)
    with watching(True, "the mini-project") as watch, ended_by_interrupt(options.own_process):
        done = demo.run(watch and watch.fitting)
    print(done.account())
    with writing() as stage:
        target = stage(options.output)
        draw_overview(target, options.output, done.model, done.fit, done.y, names=demo.NAMES, truth=demo.GENERATING)
    print(f"Picture: {options.output}")
    return 0
