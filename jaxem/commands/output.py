"""What commands write and show: files that appear whole or not at all, pictures."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxem.catalogue import CommandError
from jaxem.tables import check_target, staged

EXTRA = 'pip install "jaxem[cli]"'


@contextmanager
def writing() -> Iterator[Callable[[Path], Path]]:
    """`staged`, with a failure of the disk told in one line."""
    try:
        with staged() as stage:
            yield stage
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"cannot write {error.filename or 'the output'}: {error.strerror or error}") from error


def check_targets(data: Path, targets: dict[str, Path | None]) -> None:
    """Raises CommandError where two options write to one file, or to that of the data, or where one cannot be written."""
    given = {name: path.resolve() for name, path in targets.items() if path is not None}
    if len(set(given.values())) < len(given) or data.resolve() in given.values():
        raise CommandError(f"{', '.join(targets)}: each needs a file of its own, and not that of the data")
    for path in given:
        check_target(targets[path] or data)


def check_picture(path: Path) -> None:
    """Raises CommandError where `path` names no kind of picture, or cannot be written."""
    if picture_format(path) not in ("png", "pdf", "svg"):
        raise CommandError(f"{path}: unknown kind of picture; end it in .png, .pdf or .svg")
    check_target(path)


def picture_format(path: Path) -> str:
    """png, pdf or svg."""
    return path.suffix.lower().removeprefix(".")


@contextmanager
def ended_by_interrupt(own_process: bool) -> Iterator[None]:
    """Ctrl-C ends the process at once: an exception could get lost in a callback of the compiler, or crash its teardown."""

    def end(*_: Any) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h\n")  # show the cursor, which the moving line hides
            sys.stderr.flush()
        os._exit(130)

    if not own_process:
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def need(package: str) -> None:
    """Raises CommandError where an optional package is not installed."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CommandError(f"{package} is not installed: {EXTRA}") from error


def draw(figure: Any, temporary: Path, path: Path) -> None:
    """Saves a figure under a temporary name, as a picture of the kind that `path` says."""
    figure.savefig(temporary, format=picture_format(path))
