"""Values as trees of JSON values with their arrays beside them, and back: what `jaxem.saved` puts into its files."""

from __future__ import annotations

import dataclasses
import io
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.checks import is_traced
from jaxem.families.product import Product
from jaxem.models.latent import STATIC, Latent

LATENT = ("free_domains", "shapes", "start", "fixed", *STATIC)  # what a `Latent` is made of, functions among them
OWN = "own."  # before names of classes of a user's


class UnknownClassError(Exception):
    """A class or field that this version does not know."""


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


def _own_classes(model: Any) -> dict[str, type]:
    """NamedTuples of a user's that the params of a `Latent` are made of, by their names with "own." before them."""
    found: dict[str, type] = {}

    def look(tree: Any) -> None:
        if isinstance(tree, Mapping):
            tree = tuple(tree.values())
        if isinstance(tree, (tuple, list)):
            if hasattr(tree, "_fields") and not type(tree).__module__.startswith("jaxem."):
                found[OWN + type(tree).__name__] = type(tree)
            for each in tree:
                look(each)

    if isinstance(model, Latent):
        look(model.free_domains)
    return found


# values to JSON and back


def npy(array: np.ndarray) -> bytes:
    """An array in NumPy's file format."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array, order="C"), allow_pickle=False)
    return file.getvalue()


def array_of(content: bytes) -> np.ndarray:
    """The array in a file of NumPy's format. What it says of its size is not believed, and objects are not read.

    Raises:
        ValueError: no such file.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("not an array of numbers")
    return np.ndarray(shape, dtype, content, file.tell(), order="F" if columns_first else "C").copy()


class Writer:
    """Turns values into trees of JSON values; arrays go to `contents`, each once."""

    def __init__(self, model: Any):
        self.contents: list[bytes] = []
        self.names = {kind: name for name, kind in (_classes() | _own_classes(model)).items()}
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
        if kind is Latent:
            return {"class": "Latent", "fields": {name: self._part(getattr(value, name), f"{path}.{name}") for name in LATENT}}
        names = ("families", "columns") if kind is Product else _members(kind)
        if names is not None and kind in self.names:
            fields = {name: self.tree(getattr(value, name), f"{path}.{name}") for name in names}
            return {"class": self.names[kind], "fields": fields}
        if isinstance(value, type) and value in self.names:
            return {"type": self.names[value]}
        raise TypeError(f"{path}: {_why_not(value)}")

    def _part(self, value: Any, path: str) -> Any:
        """Of a `Latent`: a function goes by its name alone."""
        if callable(value) and not isinstance(value, type):
            return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
        return self.tree(value, path)

    def _put(self, value: Any, path: str) -> dict[str, Any]:
        if is_traced(value):
            raise TypeError(f"{path}: is traced; save concrete params, outside of jit.")
        array = np.asarray(value) if not _is_key(value) else np.zeros(0, object)
        if array.dtype.kind not in "biufc" or array.dtype.isbuiltin != 1:
            raise TypeError(f"{path}: is an array of {value.dtype}; a model file holds numbers of NumPy's own types.")
        kind = "jax" if isinstance(value, jax.Array) else "scalar" if isinstance(value, np.generic) else "numpy"
        content = npy(array)
        place = self._places.setdefault(content, len(self.contents))
        if place == len(self.contents):
            self.contents.append(content)
        return {"array": place, "kind": kind, "dtype": array.dtype.name, "shape": list(array.shape)}


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _why_not(value: Any) -> str:
    if callable(value):
        return "is a function, and a model file holds numbers and names, never code."
    kind = type(value)
    return f"is a {kind.__module__}.{kind.__qualname__}, no class of jaxem's own; a model file holds these, numbers and names only."


def _short(node: Any) -> str:
    """A node for a person."""
    if not isinstance(node, dict):
        return repr(node)
    if "array" in node:
        return "an array"
    return f"a {node['class']}" if "class" in node else f"a {next(iter(node))}"


class Reader:
    """Turns trees of JSON values back into values."""

    def __init__(self, members: dict[str, bytes], model: Any = None):
        self.members, self.known = members, _classes() | _own_classes(model)
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

    def difference(self, node: Any, given: Any, contents: Sequence[bytes], path: str) -> str | None:
        """Where a tree of this file first differs from a `given` one with its `contents`; None where they are of the same.

        Functions are taken for the same; so are settings that the file, an older one, does not name.
        """
        if isinstance(node, dict) and isinstance(given, dict) and node.keys() == given.keys():
            if "function" in node:
                return None
            if "array" in node:
                self.tree(node)
                same = self.members[str(node["array"])] == contents[given["array"]]  # with dtype and shape
                return None if same else f"{path} holds other numbers"
            if "class" in node:
                if node["class"] != given["class"]:
                    return f"{path} is a {given['class']}, and was a {node['class']}"
                if node["class"].startswith(OWN) and node["fields"].keys() != given["fields"].keys():
                    return f"{path} has the fields {', '.join(given['fields'])}, and had {', '.join(node['fields'])}"
                pairs = [(f"{path}.{name}", each, given["fields"].get(name)) for name, each in node["fields"].items()]
            else:
                ((_, mine), (_, theirs)) = (*node.items(), *given.items())
                if not isinstance(mine, list) or not isinstance(theirs, list):
                    return None if mine == theirs else f"{path} is {theirs}, and was {mine}"
                if len(mine) != len(theirs):
                    return f"{path} has {len(theirs)} parts, and had {len(mine)}"
                pairs = [(f"{path}[{place}]", *each) for place, each in enumerate(zip(mine, theirs, strict=True))]
            differences = (self.difference(mine, theirs, contents, name) for name, mine, theirs in pairs)
            return next((found for found in differences if found), None)
        if isinstance(node, list) and isinstance(given, list):  # an entry of a dict
            return self.difference({"list": node}, {"list": given}, contents, path)
        return None if node == given else f"{path} is {_short(given)}, and was {_short(node)}"

    def _class(self, name: str) -> type:
        if name not in self.known:
            raise UnknownClassError(f"{name}, which this version does not know")
        return self.known[name]

    def _make(self, name: str, fields: dict[str, Any]) -> Any:
        kind = self._class(name)
        if kind is Product:
            columns = fields["columns"]
            return Product(None if columns is None else dict(columns), **fields["families"])
        strange = sorted(set(fields) - set(_members(kind) or ()))
        if strange:
            raise UnknownClassError(f"{name}.{strange[0]}, which this version does not know")
        return kind(**fields)

    def _get(self, node: dict[str, Any]) -> Any:
        name = str(node["array"])
        content = self.members[name]
        self.read.add(name)
        array = array_of(content)
        if (array.dtype.name, list(array.shape)) != (node["dtype"], node["shape"]):
            raise ValueError("an array of another kind")
        if node["kind"] == "scalar":
            return array[()]
        whole = node["kind"] == "jax" and jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
        return jnp.asarray(array) if whole else array
