"""The command line: `jaxem fit`, `select`, `impute`, `compare`, `predict`, `sample`, `models` and `demo`.

Each command is one file in `jaxem.commands`.

Exit codes: 0 done; 1 the fit ended neither converged nor at its step limit (all output is written nevertheless); 2 bad
input, told in one line on stderr; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import jax

import jaxem
from jaxem import catalogue
from jaxem.catalogue import CommandError
from jaxem.commands import compare, demo, fit, impute, predict, report, sample, select
from jaxem.commands.options import Layout, add_command
from jaxem.tables import TableError

EXAMPLE = """for a first look, which needs no file of yours:

  jaxem demo

jaxem fit --help tells all options of fit, and has examples; likewise the
others."""
MODELS_EXAMPLE = """example:

  jaxem models"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line on `arguments` (default: those of the process) and returns the exit code.

    Turns on float64 for the process.
    """
    jax.config.update("jax_enable_x64", True)
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:  # what is compiled once serves the next command
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(folder, "jaxem"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    try:
        options = _parser().parse_args(arguments)
        options.own_process = arguments is None
        options.typed = list(sys.argv[1:] if arguments is None else arguments)
        code = options.run(options)
        sys.stdout.flush()
        return code
    except (CommandError, TableError) as error:
        print(f"jaxem: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has gone
        _drop_stdout()
        return 1
    except OSError as error:
        _drop_stdout()
        print(f"jaxem: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _drop_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter does not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxem", usage="%(prog)s command [options]", description="Expectation-maximization on JAX.", epilog=EXAMPLE,
        allow_abbrev=False, formatter_class=Layout,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"jaxem {jaxem.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="command", dest="command", prog="jaxem")
    for each in (fit, select, report, impute, compare, predict, sample):
        each.add(commands)
    listed = add_command(
        commands, "models", "", "list the models, and the options that each takes",
        "List the models by the names that --model takes, each with the options that it needs and [takes], and the families that "
        "--family takes.", MODELS_EXAMPLE,
    )  # fmt: skip
    listed.set_defaults(run=_list_models)
    demo.add(commands)
    return parser


def _list_models(options: argparse.Namespace) -> int:
    del options
    print(catalogue.listing())
    return 0


if __name__ == "__main__":
    sys.exit(main())
