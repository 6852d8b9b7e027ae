"""Proof that a re-laid house gives the same numbers.

`equality.py make OUT` runs the commands of the checkout it is called in over a fixed set of frames, models, details,
targets and methods. `equality.py compare A B` reads two such folders and names every field that differs, with its
largest difference. Only commands and files are used: no module of the package is imported, so modules may move.
"""

import argparse
import contextlib
import csv
import fnmatch
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Iterator

import numpy as np

SCENES = Path("experiment/data/scenes")
FRAME = str(SCENES / "approach/video_garmin/0016.png")
CAPTURE, OURS = "simlingo_vit_qwen_attn_grad", "ours"
# What a record of each detail serves beside the maps computed at its capture.
TRACE = ("centred_supported", "centred", "ours", "interleaver")
CAM = (*TRACE, "literal")
FULL = (*CAM, "generic_attention", "llm_attention", "vit_raw", "vit_rollout", "vit_flow")
# Left out of the capture of all maps: a forward for every patch, or made from the full record instead.
COSTLY = {"shapley_sampling", *FULL[len(CAM) :]}
TEXT_ONLY = "token_activation"
TEXT_MAPS = (TEXT_ONLY, "centred_supported", "centred", "lrp", "grad_cam", "gradient_x_input")
# Fields that name the place, the time or the code instead of a result, and sizes of files, which hold such names.
IGNORED = (
    "*.log",
    "*.html",
    "*seconds*",
    "*.started",
    "*.finished",
    "*.version*",
    "*.code*",
    "*.image_path*",
    "*.path",
    "*.machine",
    "*.command",
    "*.elapsed",
    "*.bytes",
    "*.settings",
    "*.made_from",
    "*.gaze[[]*",
    "*/verification.json.*.outputs.*",
    "*/done/*.json.files.*",
    "*/done/*.json.sources*",
    "*/settings.json.*",
)


@dataclass(frozen=True)
class Capture:
    """One run of the capture command, and what `ours` makes of its records."""

    name: str
    arguments: tuple[str, ...]
    methods: tuple[str, ...]
    options: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"": ()})


SHARPENED = {"": (), "_sharpened": ("--residual-alpha", "0.5", "--temperature", "0.7", "--language-layers", "1:")}
CAPTURES = (
    Capture(
        "trace",
        (str(SCENES / "approach"), "--limit", "2", "--target", "-forward_speed", "lateral", "brake_energy"),
        TRACE,
    ),
    Capture(
        "bend",
        (
            str(SCENES / "bend"),
            "--limit",
            "1",
            "--target",
            "lateral",
            "curv_energy",
            "curv_diff",
            "lane_change",
            "lat_dev",
        ),
        TRACE,
    ),
    Capture(
        "text",
        (
            str(SCENES / "light"),
            "--limit",
            "2",
            "--detail",
            "cam",
            "--target",
            "max",
            "last",
            "sum",
            "index:1",
            "-acc_energy",
        ),
        CAM,
    ),
    Capture("full", (FRAME, "--speed", "8", "--detail", "full", "--target", "-forward_speed", "sum"), FULL, SHARPENED),
    Capture("bf16", (FRAME, "--speed", "8", "--detail", "full", "--bf16", "--target", "jerk_energy"), CAM),
    Capture(
        "rows",
        (FRAME, "--speed", "8", "--rows", "gradient", "--rule", "literal", "--target", "none", "longitudinal_progress"),
        ("literal",),
    ),
    Capture("images", (str(SCENES / "approach"), "--images", "2", "--limit", "1", "--target", "-forward_speed"), TRACE),
    Capture(
        "random",
        (FRAME, "--speed", "8", "--model", "random:tiny", "--detail", "cam", "--target", "lateral", "forward_speed"),
        CAM,
    ),
    Capture("certify", (FRAME, "--speed", "8", "--certify", "--target", "-forward_speed"), ("centred_supported",)),
)


def call(command: str, *arguments: str, log: Path | None = None) -> subprocess.CompletedProcess:
    """`python -m experiment.COMMAND` in the checkout that is the working folder, on one thread."""
    env = os.environ | {
        "PYTHONPATH": os.getcwd(),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "agg",
    }
    done = subprocess.run(
        [sys.executable, "-m", f"experiment.{command}", *arguments], env=env, capture_output=True, text=True
    )
    if log is not None:
        log.with_suffix(".log").write_text(done.stdout + done.stderr)
    return done


def method_names(text: str) -> list[str]:
    """Names in the block `methods (…):` of a help text."""
    block = re.search(r"^methods? .*?:\n((?:  \S.*\n)+)", text, re.M)
    return [line.split()[0] for line in block[1].splitlines()] if block else []


def make(out: Path, workers: int, only: list[str]) -> int:
    """All outputs below `out`; the number of commands that did not do what was asked."""
    out.mkdir(parents=True, exist_ok=True)
    text = call(OURS, "--help").stdout
    names, flag = method_names(text), "--method" if "--method " in text else "--rule"
    at_capture = call(CAPTURE, "--help").stdout
    action = [name for name in names if name not in COSTLY | {TEXT_ONLY}]
    spoken = [name for name in TEXT_MAPS if name in names]
    captures = (
        Capture(
            "maps",
            (FRAME, "--speed", "8", "--detail", "cam", "--target", "-forward_speed", "--maps", *action),
            tuple(action),
        ),
        Capture(
            "maps_text", (FRAME, "--speed", "8", "--mode", "text", "--target", "max", "--maps", *spoken), tuple(spoken)
        ),
        *CAPTURES,
    )
    wrong: list[str] = []

    def step(label: str, command: str, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        start = time.perf_counter()
        done = call(command, *arguments, log=out / label)
        ok = done.returncode in allowed
        if not ok:
            wrong.append(label)
        print(f"{'done  ' if ok else 'FAILED'} {label:24s}{time.perf_counter() - start:7.1f} s", flush=True)
        if not ok:
            print("\n".join((done.stdout + done.stderr).strip().splitlines()[-3:]), flush=True)
        return done.stdout

    def chain(capture: Capture) -> None:
        run = out / capture.name
        older = "--maps " in at_capture  # before all of them were called methods
        arguments = [a if older or a not in ("--rule", "--maps") else "--method" for a in capture.arguments]
        step(capture.name, CAPTURE, *arguments, "--out", str(run))
        for suffix, options in capture.options.items():
            methods = [m for m in capture.methods if m in names and (not suffix or m in CAM[2:])]
            step(
                f"{capture.name}_ours{suffix}",
                OURS,
                str(run / "pt"),
                flag,
                *methods,
                *options,
                "--out",
                str(out / f"{capture.name}_ours{suffix}"),
            )
        found = step(f"{capture.name}_qa", "qa", str(run), "--json", allowed=(0, 1, 3))
        (out / f"{capture.name}_qa.json").write_text(found)

    def scenes() -> None:
        step(
            "scenes",
            "scenes",
            str(SCENES),
            "--limit",
            "4",
            "--target",
            "-forward_speed",
            "route",
            "max",
            "--method",
            "centred_supported",
            "ours",
            "llm_attention",
            "--records",
            "--out",
            str(out / "scenes"),
        )

    def bundled() -> None:
        record = "experiment/data/payload/approach_0016.pt"
        (out / "bundled_qa.json").write_text(step("bundled_qa", "qa", record, "--json", allowed=(0, 1, 3)))
        step("bundled_ours", OURS, record, flag, "centred_supported", "centred", "--out", str(out / "bundled_ours"))

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        work = [(c.name, partial(chain, c)) for c in captures] + [("scenes", scenes), ("bundled", bundled)]
        jobs = [pool.submit(job) for name, job in work if not only or name in only]
        for job in jobs:
            job.result()
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 2**20
    print(f"{len(wrong)} commands failed; {size:.0f} MiB in {out}, {time.perf_counter() - start:.0f} s")
    return len(wrong)


def load(path: Path) -> Any:
    """What a file holds: arrays, numbers and words."""
    if path.suffix == ".pt":
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if path.suffix == ".json":
        return json.loads(path.read_text() or "null")
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix in (".png", ".webp", ".gif"):
        from PIL import Image, ImageSequence

        with Image.open(path) as image:
            return [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(image)]
    return path.read_bytes()


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every array, number and word in a nested value, with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        if value and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
            yield name, np.asarray(value, dtype=np.float64)
        else:
            for i, inner in enumerate(value):
                yield from leaves(inner, f"{name}[{i}]")
    elif hasattr(value, "detach"):
        dtype, whole = str(value.dtype), value.detach()
        yield f"{name}:dtype", dtype
        yield name, (whole.float() if dtype == "torch.bfloat16" else whole).numpy()
    elif isinstance(value, str):
        number = re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", value.strip(), re.I)
        yield name, np.asarray(float(value)) if number else value
    else:
        yield name, value


def difference(a: Any, b: Any, rtol: float) -> str:
    """How two values differ, in words; empty when they agree to `rtol` of the largest magnitude."""
    number = (int, float, np.ndarray, np.generic)
    if isinstance(a, number) and isinstance(b, number):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape:
            return f"shape {a.shape} against {b.shape}"
        if not a.size or np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"):
            return ""
        if not {a.dtype.kind, b.dtype.kind} <= set("biuf"):
            return f"{str(a)[:70]} against {str(b)[:70]}"
        a, b = a.astype(np.float64), b.astype(np.float64)
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return "finite in other places"
        gap = float(np.nanmax(np.abs(np.where(np.isfinite(a), a - b, 0.0))))
        scale = float(np.nanmax(np.where(np.isfinite(a), np.abs(a), 0.0)))
        return f"largest difference {gap:.3g}, of at most {scale:.3g}" if gap > rtol * scale else ""
    return "" if type(a) is type(b) and a == b else f"{str(a)[:70]!r} against {str(b)[:70]!r}"


def kept(name: str, patterns: list[str]) -> bool:
    """Whether no ignore pattern fits a name."""
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def renamed(name: str, renames: list[str]) -> str:
    """A name of the first folder as it reads in the second."""
    for rename in renames:
        old, new = rename.split("=", 1)
        name = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(old)}(?![A-Za-z0-9_])", new, name)
    return name


def named(path: Path) -> str:
    """A file of a run; a target's folder started with its minus once."""
    return "/".join(part.replace("-", "minus_", 1) if part.startswith("-") else part for part in path.parts)


def compare(first: Path, second: Path, rtol: float, ignore: list[str], renames: list[str]) -> int:
    """Print every field that differs; their number."""
    patterns = [*IGNORED, *ignore]
    here, there = (
        {named(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()} for folder in (first, second)
    )
    here = {renamed(name, renames): path for name, path in here.items()}
    fields = offences = left = 0
    for name in sorted(here.keys() | there.keys()):
        if not kept(name, patterns):
            continue
        if name not in here or name not in there:
            lines = [f"{name}: only in {first if name in here else second}"]
        else:
            lines = []
            a = {renamed(k, renames): v for k, v in leaves(load(here[name]), name)}
            b = dict(leaves(load(there[name]), name))
            for key in [*a, *(k for k in b if k not in a)]:
                if not kept(key, patterns):
                    left += 1
                    continue
                fields += 1
                if key not in a or key not in b:
                    lines.append(f"{key}: only in {first if key in a else second}")
                elif found := difference(a[key], b[key], rtol):
                    lines.append(f"{key}: {found}")
        for line in lines:
            print(line)
        offences += len(lines)
    print(
        f"{fields} fields of {len(here.keys() & there.keys())} files compared, {left} left out, "
        f"{offences} differ (rtol {rtol:g})"
    )
    return offences


def selftest() -> int:
    """Known differences are found, known equalities are not called different."""
    one, two = np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0 + 1e-9, np.nan])
    assert not difference(one, one.copy(), 0.0)
    assert not difference(one, two, 1e-6)
    assert "1e-09" in difference(one, two, 0.0)
    assert "shape" in difference(one, one[:2], 1.0)
    assert "finite" in difference(one, np.array([1.0, np.nan, 2.0]), 1.0)
    assert difference("a", "b", 1.0)
    assert difference(np.array("a"), np.array("b"), 1.0)
    assert difference(True, "True", 1.0)
    assert dict(leaves({"a": [{"b": "1.5"}, "x"]}, "f")) == {"f.a[0].b": np.asarray(1.5), "f.a[1]": "x"}
    assert renamed("run/ours_rows/ours.npz", ["ours=rule"]) == "run/ours_rows/rule.npz"
    assert not kept("a/pipeline.log", list(IGNORED))
    assert method_names("x\n\nmethods (name):\n  one  F\n  two  B\n\nexamples:\n  three\n") == ["one", "two"]
    with tempfile.TemporaryDirectory() as tmp:
        first, second = Path(tmp) / "a", Path(tmp) / "b"
        for folder, last in ((first, 2.0), (second, 2.5)):
            folder.mkdir()
            np.savez(folder / "ours.npz", heat=np.array([1.0, last]))
            (folder / "pipeline.log").write_text(str(folder))
        with contextlib.redirect_stdout(io.StringIO()) as told:
            ways = (0, []), (0.5, []), (0, ["*.heat"])
            counts = [compare(first, second, rtol, ignore, []) for rtol, ignore in ways]
            (second / "more.csv").write_text("a\n1\n")
            counts.append(compare(first, second, 0.5, [], []))
        assert counts == [1, 0, 0, 1], counts
        assert "ours.npz.heat: largest difference 0.5, of at most 2" in told.getvalue()
    print("equality: passed")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selftest", action="store_true", help="prove the comparison on known differences")
    commands = parser.add_subparsers(dest="command")
    make_parser = commands.add_parser("make", help="run the commands of the checkout in the working folder")
    make_parser.add_argument("out", type=Path)
    make_parser.add_argument("--workers", type=int, default=2, help="commands at a time (default: 2)")
    make_parser.add_argument("--only", nargs="*", default=[], help="runs of these names, e.g. maps trace scenes")
    compare_parser = commands.add_parser("compare", help="exit status 1 when any field differs")
    compare_parser.add_argument("a", type=Path)
    compare_parser.add_argument("b", type=Path)
    compare_parser.add_argument(
        "--rtol", type=float, default=0.0, help="allowed difference, of an array's largest magnitude (default: 0)"
    )
    compare_parser.add_argument(
        "--ignore",
        nargs="*",
        default=[],
        metavar="PATTERN",
        help="names (file, or file.field) that may differ, with * and ?",
    )
    compare_parser.add_argument(
        "--rename",
        nargs="*",
        default=[],
        metavar="OLD=NEW",
        help="words in names of A (methods, keys) that are called otherwise in B",
    )
    args = parser.parse_args()
    if args.selftest:
        return selftest()
    if args.command == "make":
        return 1 if make(args.out.resolve(), args.workers, args.only) else 0
    if args.command == "compare":
        for folder in (args.a, args.b):
            if not folder.is_dir():
                parser.error(f"{folder}: no such folder")
        return 1 if compare(args.a, args.b, args.rtol, args.ignore, args.rename) else 0
    parser.error("make or compare?")


if __name__ == "__main__":
    sys.exit(main())
