"""Executes the notebooks, in a fresh process each, and fails on the first error.

python notebooks/run.py            all of them; writes nothing
python notebooks/run.py NAME       only notebooks/NAME.py
python notebooks/run.py --save     also writes each .ipynb with its outputs, and docs/*.png from cells tagged picture-*
python notebooks/run.py --jobs 1   one after another; default two side by side
"""

from __future__ import annotations

import argparse
import base64
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
PREFIX = "picture-"


def execute(source: Path, timeout: float) -> nbformat.NotebookNode:
    """The notebook of a percent-format .py file, with outputs."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same ids on every run, so that a change shows as a change
    where = {"metadata": {"path": HERE}}
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", record_timing=False, resources=where).execute()
    return notebook


def save(notebook: nbformat.NotebookNode, source: Path) -> None:
    """Writes the .ipynb beside its source, and the tagged pictures."""
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            images = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
            if tag.startswith(PREFIX) and images:
                (HERE.parent / "docs" / f"{tag.removeprefix(PREFIX)}.png").write_bytes(base64.b64decode(images[0]))


def run(source: Path, timeout: float, keep: bool) -> str:
    """Executes one notebook, saves it if asked, and says how long it took."""
    begun = time.perf_counter()
    notebook = execute(source, timeout)
    if keep:
        save(notebook, source)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    return f"{source.name}: {count} cells, {time.perf_counter() - begun:.0f} s"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Executes the notebooks and fails on the first error.")
    parser.add_argument("names", nargs="*", help="notebooks to run, by name; default all")
    parser.add_argument("--save", action="store_true", help="write .ipynb files and pictures")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks side by side, default 2")
    parser.add_argument("--timeout", type=float, default=600, help="seconds a cell may take")
    options = parser.parse_args()
    sources = sorted(path for path in HERE.glob("*.py") if path.name != "run.py")
    unknown = set(options.names) - {path.stem for path in sources}
    if unknown:
        parser.error(f"no notebook named {', '.join(sorted(unknown))}")
    chosen = [source for source in sources if not options.names or source.stem in options.names]
    with ProcessPoolExecutor(max_workers=max(1, min(options.jobs, len(chosen)))) as pool:
        for said in pool.map(partial(run, timeout=options.timeout, keep=options.save), chosen):
            print(said, flush=True)


if __name__ == "__main__":
    main()
