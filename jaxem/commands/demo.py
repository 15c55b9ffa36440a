"""`jaxem demo`: the mini-project fitted, described and drawn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxem.commands.fit import draw_overview
from jaxem.commands.output import check_picture, ended_by_interrupt, need, writing
from jaxem.commands.progress import watching


def add(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser("demo", help="fit, describe and draw the mini-project", allow_abbrev=False)
    parser.add_argument(
        "--output", type=Path, default=Path("jaxem-demo.png"), metavar="PNG", help="picture (default: %(default)s)"
    )
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
