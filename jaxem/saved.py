"""Models on disk: `save` and `load`, one npz file of numbers and names in which nothing can run.

The file is a zip archive of arrays in NumPy's format, which `numpy.load(path)` opens too. Its members are

- ``header``, uint8: a JSON object in UTF-8;
- ``0``, ``1``, ...: the arrays that the header speaks of.

The archive's comment, the last 64 bytes of the file, is the SHA-256 digest of all bytes before it, in hexadecimal.

Fields of the header: format ("jaxem-model"), format_version (a whole number: readers refuse what is newer than they are),
jaxem_version, columns (names of the data's columns in their order, or null), table (how `jaxem predict` reads a data file, or
null), and the trees model, params and fit (null without one). In a tree null, true, false, numbers and texts stand for
themselves, and an object with one of these keys for the rest:

- ``{"number": "nan"}``, likewise "inf" and "-inf";
- ``{"tuple": [...]}``, ``{"list": [...]}``, ``{"dict": [[key, value], ...]}``;
- ``{"class": "Mixture", "fields": {name: value, ...}}``: a dataclass or NamedTuple of jaxem by its name, or, "own." before its
  name, a NamedTuple of a user's that holds the params of a `Latent`;
- ``{"type": "GaussianParams"}``: such a class itself;
- ``{"function": "log_joint"}``: a function of which a `Latent` is made, by its name; it is not in the file;
- ``{"array": 0, "kind": "jax", "dtype": "float64", "shape": [3, 2]}``: member ``0``; kind says whether it was a JAX array
  ("jax"), a NumPy array ("numpy") or a NumPy number ("scalar").
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxem.result import Fit
from jaxem.saved_trees import Reader, UnknownClassError, Writer, array_of, npy
from jaxem.tables import staged

FORMAT, FORMAT_VERSION = "jaxem-model", 1
FIRST = slice(30, 40), b"header.npy"  # where the name of the first member stands
DIGEST = 64  # bytes at the end
DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, IndexError, RuntimeError, NotImplementedError, OverflowError,
    ValueError, TypeError, AttributeError, OSError, MemoryError,
)  # fmt: skip


class Saved(NamedTuple):
    """What `load` returns."""

    model: Any
    params: Any
    fit: Fit | None
    columns: tuple[str, ...] | None = None  # of the data, in their order
    table: dict[str, Any] | None = None  # how `jaxem predict` reads a data file; JSON values

    def arrange(self, frame: Any) -> Any:
        """The data frame's columns that the model was fitted to, in their order.

        Raises:
            TypeError: no data frame. ValueError: the file names no columns; the frame lacks some, which are listed.
        """
        if not hasattr(frame, "columns"):
            raise TypeError(f"data: found {type(frame).__name__}; give a data frame, whose columns have names.")
        if self.columns is None:
            raise ValueError("columns: the file names none; give them to save(..., columns=data).")
        found = [str(name) for name in frame.columns]
        absent = [name for name in self.columns if name not in found]
        if absent:
            raise ValueError(f"data: there is no column {', '.join(map(repr, absent))}; found {', '.join(map(repr, found))}.")
        return frame.iloc[:, [found.index(name) for name in self.columns]]


def save(
    path: str | os.PathLike[str], model: Any, params: Any, fit: Fit | None = None, *, columns: Any = None, table: Any = None
) -> None:
    """Writes a model with its params to one npz file, of the format that `jaxem.saved` describes.

    The file is written under another name and moved to `path` when it is whole; what was there before is replaced.

    A model of your own (`Latent`) is made of functions, and a file holds none: of these only the names are written, and `load`
    asks for the model.

    Args:
        path: where to; the name is taken as it is.
        model: any model of jaxem, with its families, prior and restrictions.
        params: params of it.
        fit: the `Fit` that they come from, or None.
        columns: names of the data's columns, or the data frame itself.
        table: JSON values that `load` gives back; `jaxem fit --save` puts here how it read its file.

    Raises:
        TypeError: a Fit in place of params; something that is no number, name or class of jaxem: a function, a class of your
            own, a traced array.
        OSError: the file cannot be written.
    """
    if isinstance(params, Fit):
        raise TypeError("params: found Fit; give fit.params, and the fit after it.")
    writer = Writer(model)
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "jaxem_version": sys.modules["jaxem"].__version__,
        "columns": _names(columns),
        "table": table,
        "model": writer.tree(model, "model"),
        "params": writer.tree(params, "params"),
        "fit": None if fit is None else writer.tree(fit, "fit"),
    }
    text = json.dumps(header, allow_nan=False, ensure_ascii=False, indent=1).encode()
    named = [("header", npy(np.frombuffer(text, np.uint8))), *((str(place), each) for place, each in enumerate(writer.contents))]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in named:
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)  # without the time: one model is one sequence of bytes
        archive.comment = bytes(DIGEST)
    whole = file.getvalue()[:-DIGEST]
    with staged() as stage:
        stage(Path(path)).write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())


def load(path: str | os.PathLike[str], model: Any = None) -> Saved:
    """What `save` wrote, bit for bit: `load(path).model`, `.params`, `.fit`, `.columns`.

    Arrays come back as they were, as JAX arrays or NumPy arrays; those that JAX would narrow because its float64 is not on
    (`jax.config.update("jax_enable_x64", True)`) come as NumPy arrays, in all their digits. No code in the file is run.

    Args:
        path: the file.
        model: the model that was saved, built anew: needed for a `Latent`, whose functions no file holds. It has to agree with
            the file in all else, and comes back as `.model`. That its functions are those of the fit, nobody can check.

    Raises:
        ValueError: not a model file of jaxem, cut short, altered, or written by a newer jaxem; a model that is needed, or that
            is another than the one that was saved, with where it differs.
        OSError: no such file, or one that cannot be read.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:4] != b"PK\x03\x04" or content[FIRST[0]] != FIRST[1]:
        raise ValueError(f"{path}: is not a model file of jaxem; give one that jaxem.save or jaxem fit --save wrote.")
    damaged = f"{path}: is cut short or damaged, or was altered after it was saved; save the model again."
    if hashlib.sha256(content[:-DIGEST]).hexdigest().encode() != content[-DIGEST:]:
        raise ValueError(damaged)
    try:
        members = _members(content)
        header = json.loads(array_of(members.pop("header")).tobytes())
        ours, version, by = header["format"] == FORMAT, header["format_version"], header["jaxem_version"]
        newer = version > FORMAT_VERSION
    except DAMAGED as error:
        raise ValueError(damaged) from error
    if not ours:
        raise ValueError(f"{path}: is not a model file of jaxem.")
    if newer:
        known = f"jaxem {sys.modules['jaxem'].__version__} reads formats up to {FORMAT_VERSION}"
        raise ValueError(f"{path}: was written by jaxem {by} in format {version}, and {known}; install a newer jaxem.")
    reader = Reader(members, model)
    try:
        if model is None:
            if header["model"]["class"] == "Latent":
                raise _OtherModelError("is made of functions of yours, which no file holds; give it too: load(path, model=...)")
            model = reader.tree(header["model"])
        elif (found := _difference(reader, header["model"], model)) is not None:
            raise _OtherModelError(f"is not the one that was saved: {found}; give the same")
        params, fit = reader.tree(header["params"]), reader.tree(header["fit"])
        columns, table = header["columns"], header["table"]
        if reader.read != set(members):
            raise ValueError("members that the header does not name")
        return Saved(model, params, fit, None if columns is None else tuple(columns), table)
    except _OtherModelError as error:
        raise ValueError(f"{path}: its model {error}.") from None
    except UnknownClassError as error:
        raise ValueError(f"{path}: was written by jaxem {by}, and speaks of {error}; install that version.") from error
    except DAMAGED as error:
        raise ValueError(damaged) from error


class _OtherModelError(Exception):
    """A model that is needed beside the file, or does not go with it."""


def _difference(reader: Reader, node: Any, model: Any) -> str | None:
    writer = Writer(model)
    try:
        return reader.difference(node, writer.tree(model, "model"), writer.contents, "model")
    except TypeError as error:
        raise _OtherModelError(f"is another: {error}") from error


def _members(content: bytes) -> dict[str, bytes]:
    """The members of an archive as `save` writes them: none is compressed, so that they are no larger than the file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        listed = archive.infolist()
        plain = all(each.compress_type == zipfile.ZIP_STORED for each in listed)
        if not plain or sum(each.file_size for each in listed) > len(content) or len(set(archive.namelist())) < len(listed):
            raise ValueError("not an archive of save")
        return {each.filename.removesuffix(".npy"): archive.read(each) for each in listed}


def _names(columns: Any) -> list[str] | None:
    """Names of columns from names, or from a data frame."""
    if columns is None:
        return None
    names = getattr(columns, "columns", columns)
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise TypeError(f"columns: found {type(columns).__name__}; give names, or a data frame.")
    return [str(name) for name in names]
