"""Everything `make test` proves: the package equals its notebooks, the README equals its notebook, lint, types, the explorer's script and the explorer in a browser, every notebook's cells run."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from house import LEFT_OUT

ROOT = Path(__file__).parents[1]
CHECKS = {
    "README equals nbs/index.ipynb": ["tools/readme.py"],
    "lint": ["-m", "ruff", "check", "--quiet", "--output-format", "concise", "experiment", "tools", "setup.py"],
    "lint of the notebooks": ["-m", "ruff", "check", "--quiet", "--output-format", "concise", "--select", "E501,E701,E702,E731", "nbs"],
    "types": ["-m", "mypy", "--no-error-summary", "experiment"],
    "the house keeps its rules": ["tools/house.py", "--check"],
    "house.py finds every offence": ["tools/house.py", "--selftest"],
    "equality.py finds every difference": ["tools/equality.py", "--selftest"],
    "mutants.py puts faults in": ["tools/mutants.py", "--selftest"],
    "the explorer's script": ["tools/explorer_test.py"],
    "explorer in a browser": ["tools/browser_test.py"],
}
SKIPPED = 77  # exit code of a check that cannot run on this machine; it says why


def sync_errors() -> list[str]:
    "Export and clean a copy of the tree; name every file that then differs from the tree."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for module in (copy / "experiment").rglob("*.py"):
            if module.name != "__init__.py":
                module.unlink()
        env = os.environ | {"PYTHONPATH": str(copy)}
        for command in (["nbdev_export"], ["nbdev_clean", "--fname", "nbs"]):
            script = Path(sys.executable).parent / command[0]
            done = subprocess.run(
                [sys.executable, str(script), *command[1:]], cwd=copy, env=env, capture_output=True, text=True
            )
            if done.returncode:
                return [f"{command[0]}: {done.stderr.strip()[-500:]}"]
        errors = []
        for folder, pattern, remedy in (("experiment", "*.py", "nbdev_export"), ("nbs", "*.ipynb", "nbdev_clean")):
            here, made = (
                {str(p.relative_to(tree / folder)): p.read_bytes() for p in sorted((tree / folder).rglob(pattern))}
                for tree in (ROOT, copy)
            )
            errors += [
                f"{folder}/{name} differs from what {remedy} makes: run {remedy} and commit"
                for name in sorted(here.keys() | made.keys())
                if here.get(name) != made.get(name)
            ]
        return errors


def chosen(names: list[str]) -> list[Path]:
    "The notebooks of these names (`02_frame/01_tiles`, `01_tiles` or `02_frame`), all for no names; in the order of reading."
    found = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    return [
        p
        for p in found
        if not names or {str(p.relative_to(ROOT / "nbs").with_suffix("")), p.stem, p.parent.name} & set(names)
    ]


def run_notebook(path: Path, flags: list[str]) -> bool:
    "All cells of one notebook in this process, cwd beside it."
    import torch
    from nbdev.test import test_nb

    torch.set_num_threads(1)
    os.chdir(path.parent)
    return test_nb(
        path,
        skip_flags=[f for f in ("slow", "widget") if f not in flags],
        force_flags=flags,
        do_print=False,
        showerr=True,
    )[0]


def limited(command: list[str], limit: float) -> tuple[int, float]:
    "A python command in a process of its own; it and all its children are killed when it outlasts `limit` seconds. Its exit code, and the seconds it took."
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        child.wait(limit)
    except subprocess.TimeoutExpired:
        print(f"{command}: no end after {limit:.0f} s", file=sys.stderr)
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)  # what it left running would slow down the next
        except ProcessLookupError:
            pass
    return child.wait(), time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebook names without .ipynb (default: all, and the sync checks)")
    parser.add_argument("--flags", nargs="*", default=[], help="also run cells under these flags, e.g. slow")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--limit", type=float, help="seconds a notebook may take (default: 420; 5400 with --flags)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return 0 if run_notebook(args.inside, args.flags) else 1
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.setdefault("MPLBACKEND", "agg")
    results: dict[str, bool] = {}

    def report(name, code, seconds):
        if code != SKIPPED:
            results[name] = code == 0
        print(f"{'passed ' if code == 0 else 'skipped' if code == SKIPPED else 'FAILED '} {name:52s}{seconds:7.1f} s")

    if not args.names:
        start = time.perf_counter()
        errors = sync_errors()
        for error in errors:
            print(error, file=sys.stderr)
        report("package and notebooks in sync", len(errors), time.perf_counter() - start)
        for label, command in CHECKS.items():
            report(label, *limited(command, 300))
    notebooks = chosen(args.names)
    limit = args.limit or (5400 if args.flags else 420)
    with ThreadPoolExecutor(args.workers) as pool:
        inside = [
            [__file__, "--inside", str(path), *(["--flags", *args.flags] if args.flags else [])] for path in notebooks
        ]
        jobs = {
            pool.submit(limited, command, limit): str(path.relative_to(ROOT / "nbs"))
            for command, path in zip(inside, notebooks)
        }
        for job in as_completed(jobs):
            report(jobs[job], *job.result())
    failed = sum(not ok for ok in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed or not notebooks else 0


if __name__ == "__main__":
    sys.exit(main())
