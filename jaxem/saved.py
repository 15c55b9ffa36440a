"""Models on disk: `save` and `load`, one npz file of numbers and names in which nothing can run.

The file is a zip archive of arrays in NumPy's format, which `numpy.load(path)` opens too. Its members are

- ``header``, uint8: a JSON object in UTF-8;
- ``sha256``, uint8: the SHA-256 digest of those bytes, 32 of them;
- ``0``, ``1``, ...: the arrays that the header speaks of.

Fields of the header: format ("jaxem-model"), format_version (a whole number: readers refuse what is newer than they are),
jaxem_version, columns (names of the data's columns in their order, or null), table (how `jaxem predict` reads a data file, or
null), and the trees model, params and fit (null without one). In a tree null, true, false, numbers and texts stand for
themselves, and an object with one of these keys for the rest:

- ``{"number": "nan"}``, likewise "inf" and "-inf";
- ``{"tuple": [...]}``, ``{"list": [...]}``, ``{"dict": [[key, value], ...]}``;
- ``{"class": "Mixture", "fields": {name: value, ...}}``: a dataclass or NamedTuple of jaxem by its name;
- ``{"type": "GaussianParams"}``: such a class itself;
- ``{"array": 0, "kind": "jax", "dtype": "float64", "shape": [3, 2], "sha256": "..."}``: member ``0``, with the digest of its
  bytes in the archive; kind says whether it was a JAX array ("jax"), a NumPy array ("numpy") or a NumPy number ("scalar").
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import struct
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import is_traced
from jaxem.families.product import Product
from jaxem.models.latent import Latent
from jaxem.result import Fit
from jaxem.tables import staged

FORMAT, FORMAT_VERSION = "jaxem-model", 1
DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, IndexError, RuntimeError, NotImplementedError, OverflowError,
    ValueError, TypeError, AttributeError, OSError,
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
            ValueError: the file names no columns; the frame lacks some, which are listed.
        """
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

    Args:
        path: where to; the name is taken as it is.
        model: any model of jaxem, with its families, prior and restrictions.
        params: params of it.
        fit: the `Fit` that they come from, or None.
        columns: names of the data's columns, or the data frame itself.
        table: JSON values that `load` gives back; `jaxem fit --save` puts here how it read its file.

    Raises:
        TypeError: something in it is no number, name or class of jaxem: functions, so that an own model (`Latent`) cannot be
            saved, classes of your own, traced arrays.
        OSError: the file cannot be written.
    """
    writer = _Writer()
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
    named = {"header": text, "sha256": hashlib.sha256(text).digest()}
    members = {name: _npy(np.frombuffer(content, np.uint8)) for name, content in named.items()}
    members |= {str(number): content for number, content in enumerate(writer.contents)}
    with staged() as stage, zipfile.ZipFile(stage(Path(path)), "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)  # without the time: one model is one sequence of bytes


def load(path: str | os.PathLike[str]) -> Saved:
    """What `save` wrote, bit for bit: `load(path).model`, `.params`, `.fit`, `.columns`.

    Arrays come back as they were, as JAX arrays or NumPy arrays; those that JAX would narrow because its float64 is not on
    (`jax.config.update("jax_enable_x64", True)`) come as NumPy arrays, in all their digits. No code in the file is run.

    Raises:
        ValueError: not a model file of jaxem, cut short, altered, or written by a newer jaxem.
        OSError: no such file, or one that cannot be read.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:4] != b"PK\x03\x04":
        raise ValueError(f"{path}: is not a model file of jaxem; give one that jaxem.save or jaxem fit --save wrote.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    except DAMAGED as error:
        raise ValueError(f"{path}: is cut short or damaged; save the model again.") from error
    if not {"header", "sha256"} <= set(members):
        raise ValueError(f"{path}: is an archive, but not a model file of jaxem; give one that jaxem.save wrote.")
    altered = f"{path}: was altered after it was saved, or is damaged; save the model again."
    try:
        text, digest = _array(members.pop("header")).tobytes(), _array(members.pop("sha256")).tobytes()
        if hashlib.sha256(text).digest() != digest:
            raise ValueError(altered)
        header = json.loads(text)
        ours, version, by = header["format"] == FORMAT, header["format_version"], header["jaxem_version"]
    except DAMAGED as error:
        raise ValueError(altered) from error
    if not ours:
        raise ValueError(f"{path}: is not a model file of jaxem.")
    if version > FORMAT_VERSION:
        known = f"jaxem {sys.modules['jaxem'].__version__} reads formats up to {FORMAT_VERSION}"
        raise ValueError(f"{path}: was written by jaxem {by} in format {version}, and {known}; install a newer jaxem.")
    reader = _Reader(members)
    try:
        model, params, fit = (reader.tree(header[name]) for name in ("model", "params", "fit"))
        columns, table = header["columns"], header["table"]
        if reader.read != set(members):
            raise ValueError("members that the header does not name")
        return Saved(model, params, fit, None if columns is None else tuple(columns), table)
    except _UnknownClassError as error:
        raise ValueError(f"{path}: was written by jaxem {by}, and speaks of {error}; install that version.") from error
    except DAMAGED as error:
        raise ValueError(altered) from error


def _names(columns: Any) -> list[str] | None:
    """Names of columns from names, or from a data frame."""
    if columns is None:
        return None
    names = getattr(columns, "columns", columns)
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise TypeError(f"columns: found {type(columns).__name__}; give names, or a data frame.")
    return [str(name) for name in names]


# classes by name


def _members(kind: type) -> Sequence[str] | None:
    """Names of a class's fields, in order; None where it is no dataclass or NamedTuple."""
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return kind._fields
    return [each.name for each in dataclasses.fields(kind) if each.init] if dataclasses.is_dataclass(kind) else None


def _classes() -> dict[str, type]:
    """Every dataclass and NamedTuple that jaxem's own modules define, by its name; a few that share one, with their module's."""
    kinds: set[type] = {Product}
    for name, module in list(sys.modules.items()):
        if name.startswith("jaxem.") and module is not None:
            found = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == name]
            kinds.update(kind for kind in found if _members(kind) is not None)
    times = Counter(kind.__name__ for kind in kinds)
    return {kind.__name__ if times[kind.__name__] == 1 else f"{kind.__module__}.{kind.__name__}": kind for kind in kinds}


class _UnknownClassError(Exception):
    """A class or field that this version does not know."""


# values to JSON and back


def _npy(array: np.ndarray) -> bytes:
    """An array in NumPy's file format."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array, order="C"), allow_pickle=False)
    return file.getvalue()


def _array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


class _Writer:
    """Turns values into trees of JSON values; arrays go to `contents`, each once."""

    def __init__(self):
        self.contents: list[bytes] = []
        self.names = {kind: name for name, kind in _classes().items()}
        self._places: dict[bytes, int] = {}

    def tree(self, value: Any, path: str) -> Any:
        """`value` as JSON values; `path` names it in errors."""
        if isinstance(value, (jax.Array, np.ndarray, np.generic)):
            return self._put(value, path)
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"number": repr(value)}
        kind = type(value)
        if kind in (tuple, list):
            return {kind.__name__: [self.tree(each, f"{path}[{i}]") for i, each in enumerate(value)]}
        if kind is dict:
            return {"dict": [[self.tree(key, path), self.tree(each, f"{path}[{key!r}]")] for key, each in value.items()]}
        names = ("families", "columns") if kind is Product else _members(kind)
        if names is not None and kind in self.names:
            fields = {name: self.tree(getattr(value, name), f"{path}.{name}") for name in names}
            return {"class": self.names[kind], "fields": fields}
        if isinstance(value, type) and value in self.names:
            return {"type": self.names[value]}
        raise TypeError(f"{path}: {_why_not(value)}")

    def _put(self, value: Any, path: str) -> dict[str, Any]:
        if is_traced(value):
            raise TypeError(f"{path}: is traced; save concrete params, outside of jit.")
        array = np.asarray(value) if not _is_key(value) else np.zeros(0, object)
        if array.dtype.kind not in "biufc" or array.dtype.isbuiltin != 1:
            raise TypeError(f"{path}: is an array of {value.dtype}; a model file holds numbers of NumPy's own types.")
        kind = "jax" if isinstance(value, jax.Array) else "scalar" if isinstance(value, np.generic) else "numpy"
        content = _npy(array)
        digest = hashlib.sha256(content)
        place = self._places.setdefault(digest.digest(), len(self.contents))
        if place == len(self.contents):
            self.contents.append(content)
        shape = list(array.shape)
        return {"array": place, "kind": kind, "dtype": array.dtype.name, "shape": shape, "sha256": digest.hexdigest()}


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _why_not(value: Any) -> str:
    kind = type(value)
    if isinstance(value, Latent) or callable(value):
        what = "is made of functions of yours" if isinstance(value, Latent) else "is a function"
        return f"{what}, and a model file holds numbers and names, never code; save the params by numpy.savez, and build it anew."
    return f"is a {kind.__module__}.{kind.__qualname__}, no class of jaxem's own; a model file holds these, numbers and names only."


class _Reader:
    """Turns trees of JSON values back into values."""

    def __init__(self, members: dict[str, bytes]):
        self.members, self.known = members, _classes()
        self.read: set[str] = set()

    def tree(self, node: Any) -> Any:
        """The value that a node stands for; raises one of DAMAGED where it stands for none."""
        if not isinstance(node, dict):
            if isinstance(node, list):
                raise ValueError("a bare list")
            return node
        if "array" in node:
            return self._get(node)
        if "class" in node:
            return self._make(node["class"], {name: self.tree(each) for name, each in node["fields"].items()})
        ((kind, content),) = node.items()
        if kind == "number":
            return float(content)
        if kind == "type":
            return self._class(content)
        if kind == "dict":
            return {self.tree(key): self.tree(each) for key, each in content}
        return {"tuple": tuple, "list": list}[kind](self.tree(each) for each in content)

    def _class(self, name: str) -> type:
        if name not in self.known:
            raise _UnknownClassError(f"{name}, which this version does not know")
        return self.known[name]

    def _make(self, name: str, fields: dict[str, Any]) -> Any:
        kind = self._class(name)
        if kind is Product:
            columns = fields["columns"]
            return Product(None if columns is None else dict(columns), **fields["families"])
        strange = sorted(set(fields) - set(_members(kind) or ()))
        if strange:
            raise _UnknownClassError(f"{name}.{strange[0]}, which this version does not know")
        return kind(**fields)

    def _get(self, node: dict[str, Any]) -> Any:
        name = str(node["array"])
        content = self.members[name]
        self.read.add(name)
        if hashlib.sha256(content).hexdigest() != node["sha256"]:
            raise ValueError("an array that is not the one saved")
        array = _array(content)
        if (array.dtype.name, list(array.shape)) != (node["dtype"], node["shape"]):
            raise ValueError("an array of another kind")
        if node["kind"] == "scalar":
            return array[()]
        whole = node["kind"] == "jax" and jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
        return jnp.asarray(array) if whole else array
