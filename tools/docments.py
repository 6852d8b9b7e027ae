"""Exported functions and methods whose parameters or result have no docment: `python tools/docments.py [MODULE ...]`; exit status 1 when there are any.

A parameter or result of one of the package's own classes needs none: the class says what it holds. Neither do `None`, a bool that the docstring asks about, and `**options`, which
docments cannot tell apart from the line they stand on."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from fastcore.docments import docments

ROOT = Path(__file__).parents[1]


def exported(module: Any) -> dict[str, Any]:
    "Functions of a module by name, and the public methods of its classes."
    found = {}
    for name in module.__all__:
        thing = getattr(module, name)
        members = (
            {f"{name}.{k}": v for k, v in vars(thing).items() if not k.startswith("_")}
            if inspect.isclass(thing)
            else {name: thing}
        )
        found |= {
            k: v
            for k, v in members.items()
            if inspect.isfunction(v) and inspect.unwrap(v).__module__ == module.__name__
        }
    return found


def lacking(function: Any, own: set[str]) -> list[str]:
    "Names of parameters without a docment, `return` among them."
    function = inspect.unwrap(function)
    options = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD}
    names = []
    for name, told in docments(function, full=True).items():
        kind = told["anno"]
        words = set(re.findall(r"[A-Za-z_]+", kind.__name__ if inspect.isclass(kind) else str(kind))) - {
            "experiment",
            "None",
            "list",
            "Sequence",
            "collections",
            "abc",
            "typing",
        }
        own_class = (
            kind is not inspect.Parameter.empty
            and bool(words & own)
            and not words & {"dict", "str", "int", "float", "tuple", "Tensor", "ndarray"}
        )
        plain = (
            name in options | {"self", "cls"}
            or inspect.isclass(kind)
            and kind.__name__ in ("Generator", "Random")
            or name == "return"
            and kind in (None, bool, type(None))
        )
        if told["docment"] is None and not own_class and not plain:
            names.append(name)
    return names


def main(names: list[str]) -> int:
    sys.path.insert(0, str(ROOT))
    files = [p for p in sorted((ROOT / "experiment").rglob("*.py")) if not p.name.startswith("_")]
    own = {n.name for p in files for n in ast.parse(p.read_text()).body if isinstance(n, ast.ClassDef)}
    count = 0
    for path in files:
        if names and path.stem not in names:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, function in exported(importlib.import_module(module)).items():
            if missing := lacking(function, own):
                count += 1
                print(f"{path.stem}.{name}: {', '.join(missing)}")
    print(f"{count} without a docment")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
