"""What a person chose of a model or family: the settings that reports, documents and short names tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

# fields that are told elsewhere or not
SILENT = ("family", "prior", "n_components", "n_states", "fixed", "tied", "frame", "kernel")


def settings_of(thing: Any) -> dict[str, Any]:
    """Settings of a model or family that a person chose: its plain fields but what is None or "auto"."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
        value = getattr(thing, field.name)
        if isinstance(value, bool) and value == field.default:
            continue
        if field.name in SILENT or field.name.startswith("_") or value is None or (isinstance(value, str) and value == "auto"):
            continue
        if isinstance(value, (np.ndarray, np.generic)) or (hasattr(value, "dtype") and hasattr(value, "shape")):
            value = np.asarray(value).item() if np.ndim(value) == 0 else np.asarray(value).tolist()
        if all(isinstance(each, (str, int, float)) for each in (value if isinstance(value, tuple) else (value,))):
            out[field.name] = value
    return out


def inner_families(family: Any) -> dict[str, Any]:
    """Families that a family is made of, by group."""
    found = getattr(family, "families", None)
    return {str(name): part for name, part in found.items()} if isinstance(found, Mapping) else {}


def short_name(thing: Any) -> str:
    """A model or family as one would write it, without the words that go without saying: "Mixture(Gaussian(VEV), 3)".

    Values that are words stand alone, others behind their names; a prior and restrictions are mentioned.
    """
    family = getattr(thing, "family", None)
    parts = [] if family is None or getattr(thing, "names_itself", False) else [short_name(family)]
    parts += [short_name(part) for part in inner_families(thing).values()]
    model = family is not None and dataclasses.is_dataclass(thing)
    usual = {field.name: field.default for field in dataclasses.fields(thing)} if model else {}
    for name, value in settings_of(thing).items():
        if name in usual and value == usual[name]:
            continue
        told = f"{name}={'+'.join(map(str, value)) if isinstance(value, tuple) else value}"
        parts.append(name if value is True else value if isinstance(value, str) else told)
    own = [field.name for field in dataclasses.fields(thing)] if dataclasses.is_dataclass(thing) else []
    parts += [str(getattr(thing, name)) for name in ("n_components", "n_states") if name in own]
    parts += ["prior"] if getattr(thing, "prior", None) is not None else []
    parts += ["restricted"] if getattr(thing, "fixed", None) is not None else []
    name = type(thing).__name__
    return f"{name}({', '.join(parts)})" if parts else name
