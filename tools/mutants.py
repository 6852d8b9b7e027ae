"""Deliberate faults: does a test notice them?

A fault is put into an exported cell of a copy of the tree, in the notebook and in its module, and the notebook that
proves the module runs there. A fault that no cell notices has survived: a test is missing, or the fault changes
nothing.
"""

import argparse
import ast
import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

from house import EXPORT, EXPORTED_TO, LEFT_OUT, House, imports_of

ROOT = Path(__file__).parents[1]
MARKER = re.compile(r"^# %% \S+\.ipynb #?(\S+)\n", re.M)
FLIPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
TURNED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
SIGNS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
RECTIFIERS = {"relu", "clamp_min", "clamp", "abs"}
SWAPPED = {
    "sum": "mean",
    "mean": "sum",
    "max": "min",
    "min": "max",
    "amax": "amin",
    "amin": "amax",
    "rint": "floor",
    "ceil": "floor",
    "round": "floor",
}


@dataclass(frozen=True)
class Change:
    """A stretch of a cell's source, in characters, and what stands there instead."""

    kind: str
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Fault:
    """A change in a notebook's cell and the same in its module."""

    module: str
    notebook: str
    cell: int
    kind: str
    before: str
    after: str
    number: int | None = None  # of the cell's changes; None for a named fault
    name: str = ""


# Faults that once lived in all tests: name, pattern, replacement. Each pattern fits one export cell.
NAMED = (
    ("certificate: 3 sigma → 1 sigma", r"^CHANCE_LIMIT = 3\b", "CHANCE_LIMIT = 1"),
    ("record: weight tolerance 1e-6 → 1e-1", r"abs\(total - 1\) (<|<=|>|>=) 1e-6", r"abs(total - 1) \1 1e-1"),
    ("hold: ROUNDS 2 → 1", r"^ROUNDS = 2\b", "ROUNDS = 1"),
    ("smoothgrad: noise of the range → of 1", r"noise \* \(x\.max\(\) - x\.min\(\)\)", "noise * 1.0"),
    ("pixels: attn_drop not held", r'\("q_proj", "k_proj", "attn_drop"\)(?= if hasattr\(layer)', '("q_proj", "k_proj")'),
    ("heatmap: rint → floor in colours", r"np\.rint\((?=\(norm - least\))", "np.floor("),
    ("heatmap: rint → floor in the blend", r"np\.rint\((?=above, out=above\))", "np.floor("),
    ("heatmap: rint → floor in raw pictures", r"np\.rint\((?=\(n - least\))", "np.floor("),
    ("camera: no limit of lines", r"limit = 8 \* max\(frame\)", "limit = float('inf')"),
)


def mutated(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Faulty forms of one node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "constant", ast.Constant(node.value + 1)
        if node.value > 1:
            yield "constant", ast.Constant(node.value - 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield "constant", ast.Constant(node.value * 3 if node.value else 1.0)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for table in (FLIPS, TURNED):
            if kind := table.get(type(node.ops[0])):
                yield "comparison", ast.Compare(node.left, [kind()], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in SIGNS and not words(node):
        yield "operator", ast.BinOp(node.left, SIGNS[type(node.op)](), node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", node.operand
    elif isinstance(node, ast.BoolOp):
        yield "and/or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Call):
        yield from mutated_call(node)


def mutated_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    """Faulty forms of a call: no rectifier, another reduction, another axis, a range one shorter."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in RECTIFIERS:
        whole = node.args[0] if isinstance(node.func, ast.Name) and node.args else getattr(node.func, "value", None)
        if isinstance(whole, ast.Name) and whole.id in ("torch", "np", "F") and node.args:
            whole = node.args[0]
        if whole is not None:
            yield "rectifier removed", whole
    if name in SWAPPED and isinstance(node.func, ast.Attribute):
        func = ast.Attribute(node.func.value, SWAPPED[name], ast.Load())
        yield "reduction", ast.Call(func, node.args, node.keywords)
    if name == "range" and node.args:
        last = min(len(node.args), 2) - 1
        args = [ast.BinOp(a, ast.Sub(), ast.Constant(1)) if i == last else a for i, a in enumerate(node.args)]
        yield "range", ast.Call(node.func, args, node.keywords)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in ("dim", "axis") and isinstance(keyword.value, (ast.Constant, ast.UnaryOp)):
            other = -1 if ast.unparse(keyword.value) == "0" else 0
            keywords = [
                ast.keyword(k.arg, ast.Constant(other) if i == j else k.value) for j, k in enumerate(node.keywords)
            ]
            yield "axis", ast.Call(node.func, node.args, keywords)


def words(node: ast.AST) -> bool:
    """Whether an operation puts words together, or repeats them."""
    return any(
        isinstance(n, ast.JoinedStr) or isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node)
    )


def reached(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that compute something: no messages, annotations, imports and decorators."""
    if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Import, ast.ImportFrom, ast.Assert)):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not main_guard(child):
                yield from reached(child)


def main_guard(node: ast.AST) -> bool:
    """`if __name__ == "__main__"`."""
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def changes(source: str) -> list[Change]:
    """All faulty forms of a cell, in the order of its nodes."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = source.splitlines()

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    found = []
    for node in reached(tree):
        for kind, other in mutated(node):
            start, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
            text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(other)))
            found.append(Change(kind, start, end, f"({text})" if not isinstance(other, ast.Constant) else text))
    return found


def applied(source: str, change: Change) -> str:
    """A source with one change."""
    return source[: change.start] + change.text + source[change.end :]


def excerpt(source: str, start: int, end: int) -> str:
    """A stretch of a source on one short line."""
    return " ".join(source[start:end].split())[:100]


def notebooks(root: Path) -> Iterator[tuple[str, str, list[dict]]]:
    """Module, path below the tree and cells of every notebook that exports one, in the reading order."""
    for chapter in House(root).chapters:
        if chapter.module:
            path = Path("nbs") / chapter.path
            yield chapter.module, str(path), json.loads((root / path).read_text(encoding="utf-8"))["cells"]


def export_cells(cells: list[dict]) -> Iterator[tuple[int, str]]:
    """Index and source of the cells that go into the module."""
    for i, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and EXPORT.search(source) and not EXPORTED_TO.search(source):
            yield i, source


def sampled(root: Path, asked: list[str], n: int, seed: int) -> list[Fault]:
    """`n` faults a module, drawn with a seed of the module's own."""
    found = []
    for module, path, cells in notebooks(root):
        if asked and not {module, module.split(".")[-1], module.split(".")[0]} & set(asked):
            continue
        every = [
            (i, source, k, change) for i, source in export_cells(cells) for k, change in enumerate(changes(source))
        ]
        rng = random.Random(f"{seed} {module}")
        for i, source, k, change in rng.sample(every, min(n, len(every))):
            before = excerpt(source, change.start, change.end)
            found.append(Fault(module, path, i, change.kind, before, " ".join(change.text.split())[:100], k))
    return found


def named(root: Path, asked: list[str]) -> tuple[list[Fault], list[str]]:
    """The named faults, and the names of those whose place is not found."""
    found, missing = [], []
    for name, pattern, replacement in NAMED:
        places = [
            (module, path, i, match)
            for module, path, cells in notebooks(root)
            for i, source in export_cells(cells)
            for match in re.finditer(pattern, source, re.M)
        ]
        if len(places) != 1:
            missing.append(f"{name}: {len(places)} places fit, expected 1: adapt its pattern in tools/mutants.py")
            continue
        module, path, i, match = places[0]
        if not asked or {module, module.split(".")[-1], module.split(".")[0]} & set(asked):
            after = match.expand(replacement)
            found.append(
                Fault(module, path, i, "named", " ".join(match[0].split()), " ".join(after.split()), None, name)
            )
    return found, missing


def spoil(source: str, fault: Fault) -> str:
    """A cell's source with the fault. Raises ValueError when it does not fit."""
    if fault.number is None:
        _, pattern, replacement = next(row for row in NAMED if row[0] == fault.name)
        made, count = re.subn(pattern, replacement, source, count=1, flags=re.M)
        if not count:
            raise ValueError(f"{fault.name}: not in this source")
        return made
    found = changes(source)
    if fault.number >= len(found) or found[fault.number].kind != fault.kind:
        raise ValueError(f"{fault.module}: its module is not what nbdev_export makes of {fault.notebook}")
    return applied(source, found[fault.number])


class Copy:
    """A copy of the tree that a fault is put into, and taken out of again."""

    def __init__(self, root: Path, folder: Path):
        shutil.copytree(root, folder, ignore=shutil.ignore_patterns(*LEFT_OUT, "images"))
        (folder / "experiment" / "data").symlink_to(root / "experiment" / "data")
        for name in ("external", "nbs/images"):
            if (root / name).is_dir():
                (folder / name).symlink_to(root / name)
        self.folder = folder

    def put(self, fault: Fault) -> dict[Path, str]:
        """The fault in notebook and module; what the files held before."""
        book = self.folder / fault.notebook
        module = self.folder / "experiment" / f"{fault.module.replace('.', '/')}.py"
        before = {path: path.read_text(encoding="utf-8") for path in (book, module)}
        nb = json.loads(before[book])
        cell = nb["cells"][fault.cell]
        cell["source"] = spoil("".join(cell["source"]), fault)
        marks = [m for m in MARKER.finditer(before[module]) if m[1] == cell.get("id", str(fault.cell))]
        if len(marks) != 1:
            raise ValueError(f"{module}: {len(marks)} marks of cell {cell.get('id')}: run nbdev_export")
        start = marks[0].end()
        following = MARKER.search(before[module], start)
        end = following.start() if following else len(before[module])
        text = before[module]
        book.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")
        module.write_text(text[:start] + spoil(text[start:end], fault) + text[end:], encoding="utf-8")
        return before

    def run(self, notebook: str, limit: float) -> tuple[str, float, str]:
        """`passed`, `failed` or `no end` of a notebook, the seconds, and the last words of a failure."""
        env = os.environ | {
            "PYTHONPATH": str(self.folder),
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        command = [sys.executable, str(self.folder / "tools" / "run_tests.py"), "--inside", str(self.folder / notebook)]
        start = time.perf_counter()
        with tempfile.TemporaryFile("w+") as log:
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                state = "failed" if child.wait(limit) else "passed"
            except subprocess.TimeoutExpired:
                state = "no end"
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
            log.seek(0)
            told = [line for line in log.read().splitlines() if line.strip()]
        return state, time.perf_counter() - start, told[-1][:200] if told and state == "failed" else ""

    def judge(self, fault: Fault, proofs: list[str], limits: dict[str, float]) -> dict:
        """What became of one fault in the notebooks that prove its module, the first that notices it last."""
        row = asdict(fault) | {"result": "survived", "noticed_by": None, "words": "", "seconds": 0.0}
        before = self.put(fault)
        try:
            for notebook in proofs:
                state, seconds, told = self.run(notebook, limits[notebook])
                row["seconds"] = round(row["seconds"] + seconds, 1)
                if state != "passed":
                    return row | {"result": "killed", "noticed_by": notebook, "words": told or state}
            return row
        finally:
            for path, text in before.items():
                path.write_text(text, encoding="utf-8")


def users(root: Path, most: int) -> dict[str, list[str]]:
    """For every module the notebook that proves it, and up to `most` later ones that import it or run its module."""
    house = House(root)
    chapters = {c.module: c for c in house.chapters if c.module}
    names = set(house.sources)
    uses = {
        c.path: imports_of(ast.parse("\n".join(s for s in c.tests if parses(s))), "", names, True)
        | house.graph.get(c.module, set())
        for c in house.chapters
    }
    proofs = {}
    for module, chapter in chapters.items():
        others = [f"nbs/{c.path}" for c in house.chapters if c.path != chapter.path and module in uses[c.path]]
        proofs[module] = [f"nbs/{chapter.path}", *others[:most]]
    return proofs


def parses(source: str) -> bool:
    """Whether a cell is Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def hunt(faults: list[Fault], root: Path, workers: int, most: int, limit: float) -> list[dict]:
    """All faults judged, several at a time, each worker in its own copy of the tree."""
    proofs = {module: names for module, names in users(root, most).items() if any(f.module == module for f in faults)}
    with tempfile.TemporaryDirectory(prefix="mutants") as tmp, ThreadPoolExecutor(workers) as pool:
        copies: Queue[Copy] = Queue()
        for i in range(workers):
            copies.put(Copy(root, Path(tmp) / str(i)))

        def with_copy(work):
            own = copies.get()
            try:
                return work(own)
            finally:
                copies.put(own)

        books = sorted({name for names in proofs.values() for name in names})
        sound = dict(zip(books, pool.map(lambda name: with_copy(lambda c: c.run(name, limit)), books), strict=True))
        for name, (state, _, told) in sound.items():
            if state != "passed":
                print(f"left out: {name} does not pass without a fault ({state}: {told})", flush=True)
        limits = {name: 20 + 4 * seconds for name, (state, seconds, _) in sound.items() if state == "passed"}

        def one(fault: Fault) -> dict | None:
            usable = [name for name in proofs[fault.module] if name in limits]
            if not usable:
                return asdict(fault) | {"result": "not tried", "noticed_by": None, "words": "", "seconds": 0.0}
            row = with_copy(lambda c: c.judge(fault, usable, limits))
            print(
                f"{row['result']:9s} {fault.module:28s} {fault.name or fault.kind:18s} {fault.before} → {fault.after}"
                f" ({row['seconds']:.0f} s)",
                flush=True,
            )
            return row

        return list(pool.map(one, faults))


def table(rows: list[dict]) -> dict[str, dict[str, int]]:
    """Faults killed, survived and not tried, by module."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        own = counts.setdefault(row["module"], {"killed": 0, "survived": 0, "not tried": 0})
        own[row["result"]] += 1
    return counts


def selftest() -> int:
    """Every kind of fault is made, and only there; a toy tree notices the one it tests and not the other."""

    def forms(source: str) -> set[str]:
        return {applied(source, change) for change in changes(source)}

    assert forms("y = é < b") == {"y = (é <= b)", "y = (é > b)"}
    assert forms("y = a + b") == {"y = (a - b)"}
    assert forms("y = 'a' + b") == set()
    assert forms("y = not a") == {"y = (a)"}
    assert forms("y = x.relu()") == {"y = (x)"}
    assert forms("y = torch.relu(x)") == {"y = (x)"}
    assert forms("y = x.sum(a)") == {"y = (x.mean(a))"}
    assert forms("y = range(n)") == {"y = (range(n - 1))"}
    assert "y = (x.cumsum(dim=-1))" in forms("y = x.cumsum(dim=0)")
    assert forms("y = True") == {"y = False"}
    assert forms("raise E(f'{1 + 2}')") == set()
    assert forms("def f(x: L[1]) -> L[2]: return x") == set()
    with tempfile.TemporaryDirectory() as tmp:
        root = Path(tmp) / "tree"
        for name in ("nbs/01_low", "experiment/low", "experiment/data", "tools"):
            (root / name).mkdir(parents=True)
        cells = [
            "#| default_exp low.a",
            "#| export\ndef more(x):\n    return x + 1",
            "#| export\ndef less(x):\n    return x - 1",
            "assert more(1) == 2",
        ]
        (root / "nbs/01_low/01_a.ipynb").write_text(
            json.dumps(
                {"cells": [{"cell_type": "code", "id": f"c{i}", "source": source} for i, source in enumerate(cells)]}
            )
        )
        (root / "experiment/low/a.py").write_text(
            "".join(f"# %% ../../nbs/01_low/01_a.ipynb #c{i}\n{cells[i].split(chr(10), 1)[1]}\n\n" for i in (1, 2))
        )
        (root / "tools/run_tests.py").write_text(
            "import json, sys\nfor cell in json.load(open(sys.argv[2]))['cells']:\n    exec(cell['source'])\n"
        )
        faults = sampled(root, [], 99, 0)
        rows = hunt(faults, root, 2, 0, 60.0)
        results = {(row["before"], row["result"]) for row in rows}
        assert ("x + 1", "killed") in results and ("x - 1", "survived") in results, results
        assert table(rows)["low.a"]["survived"] == sum(row["cell"] == 2 for row in rows)
    print("mutants: passed")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="e.g. relevance.language, language or relevance (default: all)")
    parser.add_argument("--n", type=int, default=3, help="faults a module, beside the named ones (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="copies of the tree at work")
    parser.add_argument("--limit", type=float, default=420, help="seconds a notebook may take without a fault")
    parser.add_argument(
        "--importers",
        type=int,
        default=0,
        help="survivors also meet up to so many notebooks that use the module (default: 0)",
    )
    parser.add_argument("--named", action="store_true", help="only the faults that once lived")
    parser.add_argument("--list", action="store_true", help="name the faults and run nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree (default: the one this tool lies in)")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants.json"), help="results (default: %(default)s)")
    parser.add_argument("--selftest", action="store_true", help="prove the tool on a toy tree")
    args = parser.parse_args()
    if args.selftest:
        return selftest()
    faults, missing = named(args.root, args.modules)
    if not args.named:
        faults += sampled(args.root, args.modules, args.n, args.seed)
    for line in missing:
        print(line)
    if args.list or not faults:
        print("\n".join(f"{f.module:28s} {f.name or f.kind:18s} {f.before} → {f.after}" for f in faults))
        return 0 if faults and not missing else 2
    rows = hunt(faults, args.root.resolve(), args.workers, args.importers, args.limit)
    counts = table(rows)
    print(f"\n{'module':30s}killed survived not tried")
    for module, own in counts.items():
        print(f"{module:30s}{own['killed']:6d}{own['survived']:9d}{own['not tried']:10d}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"seed": args.seed, "n": args.n, "modules": counts, "rows": rows, "missing": missing}
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    lived = [row for row in rows if row["result"] == "survived"]
    print(f"{len(rows)} faults, {len(lived)} survived; {args.out}")
    return 1 if missing or any(row["name"] for row in lived) else 0


if __name__ == "__main__":
    sys.exit(main())
