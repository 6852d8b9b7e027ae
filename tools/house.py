"""Measures the house: sizes of cells, lines and functions, prose, names, and who imports whom.

The tree is a folder with `nbs/**.ipynb` and `experiment/**.py`, flat or in rooms. `--check` names every offence
against the rules of the house, a line each, and exits 1 when there are any.
"""

import argparse
import ast
import io
import json
import re
import statistics
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MODULES, MOST_CELL_LINES, MOST_COLUMNS = 15, 40, 120
EXPORT = re.compile(r"^\s*#\s*\|\s*exports?\b", re.M)
EXPORTED_TO = re.compile(r"^\s*#\s*\|\s*default_exp\s+(\S+)", re.M)
TITLE = re.compile(r"# \S.*\n\n?> \S")
DIRECTIVE = re.compile(r"^\s*#\s*\|")
SKIPPED_PARTS = {".ipynb_checkpoints", "__pycache__", "data"}
LEFT_OUT = (*SKIPPED_PARTS, ".git", ".venv", "runs", "external", "*.egg-info", ".*_cache", "_docs")  # of a copy of the tree


def natural(path: Path) -> list:
    """Sorts `2_b` before `10_a`, folder by folder."""
    return [
        [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", part) if p] for part in path.parts
    ]


def source_lines(source: str) -> list[str]:
    """Lines of a cell without directives and without empty lines at its ends."""
    return "\n".join(line for line in source.splitlines() if not DIRECTIVE.match(line)).strip("\n").splitlines()


def height(source: str) -> int:
    """Lines of a cell, empty ones left out, directives counted."""
    return sum(bool(line.strip()) for line in source.splitlines())


def checks(tree: ast.AST | None) -> int:
    """Asserts, and calls of `test_…`, `raises` and `refused`."""
    found = 0
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += name.startswith("test_") or name in ("raises", "refused")
        found += isinstance(node, ast.Assert)
    return found


def parsed(source: str) -> ast.Module | None:
    """A cell's syntax tree; magics are left out, a cell that is no Python has none."""
    try:
        return ast.parse("\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines()))
    except SyntaxError:
        return None


def tokens_of(source: str) -> list[tokenize.TokenInfo]:
    """Tokens of a cell or module, none when it is no Python."""
    try:
        return list(tokenize.generate_tokens(io.StringIO(source + "\n").readline))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return []


def semicolons(source: str) -> int:
    """`;` that separate statements."""
    return sum(t.type == tokenize.OP and t.string == ";" for t in tokens_of(source))


def logical_lines(source: str) -> int:
    """Statements as the tokeniser ends them; comments and empty lines do not count."""
    return sum(t.type == tokenize.NEWLINE for t in tokens_of(source))


def named_lambdas(tree: ast.AST | None) -> int:
    """Lambdas that an assignment gives a name; one put into the place of a method is none."""
    found = 0
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            names = node.targets if isinstance(node, ast.Assign) else [node.target]
            if not any(isinstance(n, (ast.Name, ast.Tuple)) for n in names):
                continue
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            found += sum(isinstance(value, ast.Lambda) for value in values)
    return found


def functions(tree: ast.AST | None) -> list[int]:
    """Lines of every function and method, decorators left out."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [n.end_lineno - n.lineno + 1 for n in ast.walk(tree) if isinstance(n, kinds)] if tree else []


@dataclass
class Chapter:
    """One notebook."""

    path: Path  # below nbs/
    module: str = ""  # `relevance.language`, empty when it exports none
    head: str = ""  # markdown of the first cell
    exported: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    prose: int = 0  # words


def read_chapter(path: Path, folder: Path) -> Chapter:
    """A notebook's cells by kind."""
    chapter, cells = Chapter(path.relative_to(folder)), json.loads(path.read_text(encoding="utf-8"))["cells"]
    if cells and cells[0]["cell_type"] == "markdown":
        chapter.head = "".join(cells[0]["source"])
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            chapter.prose += len(re.findall(r"[^\W\d_]{2,}", source))
        elif cell["cell_type"] == "code":
            if named := EXPORTED_TO.search(source):
                chapter.module = named[1]
            if EXPORT.search(source):
                chapter.exported.append(source)
            elif source_lines(source):
                chapter.tests.append(source)
    return chapter


def imports_of(tree: ast.AST, module: str, modules: set[str], is_package: bool) -> set[str]:
    """Modules of the package that a module imports anywhere, lazily too."""
    here = module.split(".") if module else []
    package = here if is_package else here[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name.removeprefix("experiment.") for a in node.names if a.name.startswith("experiment.")]
            found |= {longest(name.split("."), modules) for name in names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == "experiment":
                base = []
            else:
                continue
            within = (node.module or "").split(".") if node.module else []
            within = within if node.level else within[1:]
            for alias in node.names:
                found.add(longest([*base, *within, alias.name], modules))
    return found - {"", module}


def longest(parts: list[str], modules: set[str]) -> str:
    """The longest beginning of a dotted name that is a module."""
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in modules:
            return ".".join(parts[:n])
    return ""


def components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components after Tarjan 1972, importers behind what they import."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def depth(graph: dict[str, set[str]]) -> int:
    """Modules on the longest way of imports, a cycle counted once."""
    ends: dict[str, int] = {}
    for group in components(graph):
        below = [ends[other] for node in group for other in graph[node] if other not in group]
        ends |= dict.fromkeys(group, 1 + max(below, default=0))
    return max(ends.values(), default=0)


class House:
    """A tree of notebooks and modules, read once."""

    def __init__(self, root: Path):
        nbs, package = root / "nbs", root / "experiment"
        self.chapters = [
            read_chapter(p, nbs)
            for p in sorted(nbs.rglob("*.ipynb"), key=lambda p: natural(p.relative_to(nbs)))
            if not SKIPPED_PARTS & set(p.parts)
        ]
        files = [
            p
            for p in sorted(package.rglob("*.py"))
            if p.name != "_modidx.py" and not SKIPPED_PARTS & set(p.relative_to(package).parts)
        ]
        self.sources = {self.dotted(p.relative_to(package)): p.read_text(encoding="utf-8") for p in files}
        self.packages = {self.dotted(p.relative_to(package)) for p in files if p.name == "__init__.py"}
        self.trees = {name: ast.parse(source) for name, source in self.sources.items()}
        names = set(self.sources)
        self.graph = {name: imports_of(tree, name, names, name in self.packages) for name, tree in self.trees.items()}
        self.place = {c.module: i for i, c in enumerate(self.chapters) if c.module}
        self.modules = [name for name in self.sources if name not in self.packages]

    @staticmethod
    def dotted(path: Path) -> str:
        parts = path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def later(self) -> list[tuple[str, str]]:
        """Imports of a module whose notebook comes later in the reading order: (importer, imported)."""
        return [
            (a, b)
            for a in self.modules
            for b in sorted(self.graph[a])
            if a in self.place and b in self.place and self.place[a] < self.place[b]
        ]

    def upward(self) -> list[tuple[str, str]]:
        """Those of `later` that go from one folder of notebooks to a later one."""
        folder = {c.module: c.path.parent for c in self.chapters}
        return [(a, b) for a, b in self.later() if folder[a] != folder[b]]

    def cycles(self) -> list[list[str]]:
        """Groups of modules that import each other."""
        return [sorted(group) for group in components(self.graph) if len(group) > 1]

    def folders(self) -> Counter:
        """Modules directly in every folder."""
        return Counter("/".join(name.split(".")[:-1]) or "experiment" for name in self.modules)

    def cells(self) -> Iterator[tuple[str, str, bool]]:
        """Place, source and whether exported, of every code cell."""
        for chapter in self.chapters:
            for exported, cells in ((True, chapter.exported), (False, chapter.tests)):
                for source in cells:
                    first = (source_lines(source) or [""])[0].strip()
                    yield f"nbs/{chapter.path}: {first[:60]}", source, exported


def spread(values: list[int]) -> list[float]:
    """Median, 90 % quantile and largest."""
    if not values:
        return [0, 0, 0]
    ordered = sorted(values)
    return [statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))], ordered[-1]]


def share(lines: list[str], columns: int) -> float:
    """Per cent of the lines that are longer."""
    return round(100 * sum(len(line) > columns for line in lines) / max(1, len(lines)), 2)


def measure(house: House) -> dict:
    """The table of the house by row."""
    exported = [s for c in house.chapters for s in c.exported if source_lines(s)]
    tests = [s for c in house.chapters for s in c.tests]
    module_lines = [line for s in house.sources.values() for line in s.splitlines()]
    test_lines = [line for s in tests for line in source_lines(s)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    definitions = [sum(isinstance(n, kinds) for n in tree.body) for tree in map(parsed, exported) if tree]
    lengths = [n for tree in house.trees.values() for n in functions(tree)]
    asserts = sum(map(checks, map(parsed, tests)))
    public = [
        sum(isinstance(n, kinds) and not n.name.startswith("_") for n in house.trees[name].body)
        + sum(
            isinstance(t, ast.Name) and not t.id.startswith("_")
            for n in house.trees[name].body
            if isinstance(n, ast.Assign)
            for t in n.targets
        )
        for name in house.modules
    ]
    every = [*house.sources.values(), *tests]
    cells = len(exported) + len(tests)
    return {
        "notebooks / modules": [len(house.chapters), len(house.modules)],
        "lines an export cell, median / 90 % / max": spread([height(s) for s in exported]),
        "export cells over 40 lines": sum(height(s) > MOST_CELL_LINES for s in exported),
        "definitions an export cell that has some, mean": round(
            statistics.mean([n for n in definitions if n] or [0]), 2
        ),
        "module lines > 120 / > 150 characters, %": [share(module_lines, 120), share(module_lines, 150)],
        "test-cell lines > 120 / > 150 characters, %": [share(test_lines, 120), share(test_lines, 150)],
        "`;` in modules / test cells": [sum(map(semicolons, house.sources.values())), sum(map(semicolons, tests))],
        "named lambdas in modules / test cells": [
            sum(map(named_lambdas, house.trees.values())),
            sum(named_lambdas(parsed(s)) for s in tests),
        ],
        "lines a function, median / 90 % / max": spread(lengths),
        "asserts a function": round(asserts / max(1, len(lengths)), 2),
        "prose words a code cell": round(sum(c.prose for c in house.chapters) / max(1, cells), 1),
        "public names a module, median / 90 % / max": spread(public),
        "modules in the largest folder": max(house.folders().values(), default=0),
        "import depth / largest cycle": [depth(house.graph), max(map(len, house.cycles()), default=0)],
        "imports of a later notebook / of a later folder": [len(house.later()), len(house.upward())],
        "physical lines, modules / test cells": [len(module_lines), len(test_lines)],
        "logical lines, modules / test cells / both": [
            sum(map(logical_lines, house.sources.values())),
            sum(map(logical_lines, tests)),
            sum(map(logical_lines, every)),
        ],
    }


def offences(house: House) -> list[str]:
    """A line for every break of the rules."""
    found = [f"upward import: {a} imports {b}, whose folder comes later" for a, b in house.upward()]
    found += [
        f"later notebook: {a} imports {b}, whose notebook comes later"
        for a, b in house.later()
        if (a, b) not in house.upward()
    ]
    found += [f"cycle: {' · '.join(group)}" for group in house.cycles()]
    found += [
        f"title: the first cell of nbs/{c.path} is not `# Title`, then `> one line`"
        for c in house.chapters
        if not TITLE.match(c.head)
    ]
    titles = Counter(c.head.partition("\n")[0] for c in house.chapters)
    found += [f"title: {n} chapters are called {head!r}" for head, n in titles.items() if head and n > 1]
    found += [
        f"folder {name}: {n} modules, at most {MOST_MODULES}"
        for name, n in sorted(house.folders().items())
        if n > MOST_MODULES
    ]
    for place, source, exported in house.cells():
        lines = source_lines(source)
        if exported and height(source) > MOST_CELL_LINES:
            found.append(f"export cell of {height(source)} lines, at most {MOST_CELL_LINES}: {place}")
        long = max(map(len, lines), default=0)
        if long > MOST_COLUMNS:
            found.append(f"line of {long} characters, at most {MOST_COLUMNS}: {place}")
        if count := semicolons(source):
            found.append(f"`;` × {count}: {place}")
        if count := named_lambdas(parsed(source)):
            found.append(f"named lambda × {count}: {place}")
    return found


KINDS = ("upward import", "later notebook", "cycle", "title", "folder", "export cell", "line", "`;`", "named lambda")


def text(value: object) -> str:
    """A number or several for the table."""
    return " / ".join(f"{v:g}" for v in (value if isinstance(value, list) else [value]))


def toy(root: Path, cells: dict[str, list[str]]) -> None:
    """A small tree: notebook path → export cells, the module named in the first; a cell that begins `T:` is a test."""
    for name, sources in cells.items():
        path = root / "nbs" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        module = "/".join(re.sub(r"^\d+_", "", part) for part in name.split("/"))
        exported = [s for s in sources if not s.startswith("T:")]
        made = [f"#| default_exp {module.replace('/', '.')}"]
        made += [s[2:] if s.startswith("T:") else f"#| export\n{s}" for s in sources]
        title = {"cell_type": "markdown", "source": f"# {module}\n\n> One line."}
        head = [] if module == "low/untitled" else [title]
        path.write_text(json.dumps({"cells": [*head, *({"cell_type": "code", "source": s} for s in made)]}))
        file = root / "experiment" / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(exported) + "\n")


def selftest() -> int:
    """Every offence is found on a tree that has it, none on a tree that has none."""
    good = {
        "01_low/01_a": ["def a():\n    return 1", "T:a = 'x;y'\nassert a"],
        "01_low/02_b": ["from .a import a", "def b(key=lambda v: v):\n    return a()"],
        "02_high/01_c": ["from ..low.b import b", "def c():\n    from ..low import a\n    return b(), a"],
        "10_top/01_d": ["import experiment.high.c"],
    }
    cases = {
        "upward import": {
            "01_low/01_a": ["def a():\n    from ..high.c import c\n    return c"],
            "02_high/01_c": ["c = 1"],
        },
        "later notebook": {"01_low/01_a": ["from .b import b"], "01_low/02_b": ["b = 1"]},
        "title": {"01_low/01_untitled": ["x = 1"]},
        "cycle": {"01_low/02_b": ["def f():\n    from .a import a\n    return a"], "01_low/01_a": ["from .b import f"]},
        "folder": {f"01_low/{i:02d}_m{i}": ["x = 1"] for i in range(16)},
        "export cell": {"01_low/01_a": ["x = [\n" + "1,\n" * 39 + "]"]},
        "line of": {"01_low/01_a": [f"T:x = '{'y' * 120}'"]},
        "`;`": {"01_low/01_a": ["T:x = 1; y = 2"]},
        "named lambda": {"01_low/01_a": ["f = lambda v: v"]},
    }
    with tempfile.TemporaryDirectory() as tmp:
        toy(Path(tmp) / "good", good)
        house = House(Path(tmp) / "good")
        assert offences(house) == [], offences(house)
        assert house.graph["high.c"] == {"low.a", "low.b"}
        assert depth(house.graph) == 4
        table = measure(house)
        assert table["`;` in modules / test cells"] == [0, 0]
        assert table["import depth / largest cycle"] == [4, 0]
        for i, (kind, cells) in enumerate(cases.items()):
            toy(Path(tmp) / str(i), cells)
            found = offences(House(Path(tmp) / str(i)))
            assert any(line.startswith(kind) for line in found), (kind, found)
            assert all(line.startswith((kind, "later notebook")) for line in found), (kind, found)
    assert natural(Path("2_b/10_x")) < natural(Path("10_a/02_x"))
    assert natural(Path("1_b/2_x")) < natural(Path("1_b/10_x"))
    assert logical_lines("a = (1,\n     2)\n# no\n\nb = 1; c = 2") == 2
    print(f"house: passed, {len(cases)} offences found")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree (default: the one this tool lies in)")
    parser.add_argument("--json", action="store_true", help="the table for machines")
    parser.add_argument("--check", action="store_true", help="name every offence, a line each; exit status 1 for any")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of offences (default: all)")
    parser.add_argument("--selftest", action="store_true", help="find every offence on toy trees")
    args = parser.parse_args()
    if args.selftest:
        return selftest()
    if not (args.root / "nbs").is_dir() or not (args.root / "experiment").is_dir():
        parser.error(f"{args.root}: no folders nbs and experiment")
    house = House(args.root)
    if args.check:
        found = [line for line in offences(house) if line.startswith(tuple(args.kinds))]
        print("\n".join([*found, f"{len(found)} offences"]))
        return 1 if found else 0
    table = measure(house)
    if args.json:
        print(json.dumps(table, ensure_ascii=False, indent=1))
    else:
        print("\n".join(["| | here |", "|---|---|", *(f"| {name} | {text(value)} |" for name, value in table.items())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
