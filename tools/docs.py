"""A static site of all chapters, of every command and of every exported name, `_docs/index.html`: opens from a folder, without a server or a network, search included. `--check` opens every page in Chromium."""

import argparse
import html
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import nbformat
from fastcore.docments import docments
from latex2mathml.converter import convert
from nbconvert import MarkdownExporter
from run_tests import chosen

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_docs"
CONFIG = """site_name: vla-relevance
site_dir: {site}
docs_dir: {pages}
use_directory_urls: false
theme: {{name: material, font: false, features: [navigation.indexes, search.highlight, content.code.copy], palette: {{primary: indigo}}}}
plugins: [search, offline]
extra: {{generator: false, polyfills: [iframe-worker.js]}}
extra_css: [site.css]
markdown_extensions: [tables, fenced_code, md_in_html, {{pymdownx.highlight: {{use_pygments: true}}}}, pymdownx.superfences, {{toc: {{toc_depth: 3}}}}]
validation: {{links: {{not_found: ignore, unrecognized_links: ignore}}}}
nav:
{nav}
"""
CSS = ".md-grid { max-width: 76rem } .md-typeset pre > code { font-size: .62rem } .md-typeset table:not([class]) { font-size: .62rem } math[display=block] { margin: .8em 0; overflow-x: auto }\n"
WORKER = """// A page from a folder may not start a Worker: the search's script runs in a hidden frame instead, with the same messages.
if (location.protocol === "file:") window.Worker = class extends EventTarget {
  constructor(url) {
    super()
    const frame = document.body.appendChild(document.createElement("iframe")), script = document.createElement("script")
    frame.hidden = true
    this.inside = frame.contentWindow
    this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
    this.ready = new Promise(done => { script.onload = done })
    script.src = new URL(url, location).href
    frame.contentDocument.body.append(script)
  }
  postMessage(data) { this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data }))) }
}
"""
MATH = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\w)|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S)
CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.S)
CHAPTER = re.compile(r"\]\(([\w/]+)\.ipynb\)")  # a link from one notebook to another
EXTRAS = {
    "triton": "the fused kernels on a CUDA device",
    "ray": "`scenes --ray ADDRESS`: many machines",
    "video": "videos as scenes, animations as MP4 and WebM",
    "parquet": "a run's table as Parquet beside CSV",
    "captum": "Captum's methods beside the package's own",
    "spread": "a model that needs several devices",
    "peft": "live models with adapters of PEFT",
    "dev": "everything that `make test` runs",
    "docs": "this site",
}
INSTALL = """# Installation

## From the repository

```sh
make setup                  # makes .venv with pinned versions (1–3 minutes)
source .venv/bin/activate   # python, the commands and jupyter are now those of .venv
make demo                   # the bundled model on the bundled scenes: runs/demo
make test                   # every proof; closes with "N passed, N failed"
jupyter lab nbs             # the chapters, cell by cell
```

Python {python} or newer and `make` are needed, no GPU and no downloaded weights. `make help` lists:

```text
{targets}
```

## Into an environment of your own

```sh
pip install .               # in the repository's root; or the wheel
```

This installs {requirements}. It brings the bundled model and scenes. Extras, `pip install '.[NAME]'`:

| extra | what it is for | what it installs |
|---|---|---|
{extras}

On a machine without a network, give pip a folder of wheels (`--no-index --find-links FOLDER`) and set
`HF_HUB_OFFLINE=1`; a model is then named by its folder.

## Is it sound?

```sh
python -c "from experiment.model import load; print(load('demo').config.name)"
simlingo check demo         # everything that a map stands on, a line a check; on your own model: its folder
```

## Commands

{commands}
"""


class Formulas(list):
    "LaTeX set aside as marks that Markdown does not touch, and put back as MathML, which browsers draw by themselves."

    def aside(self, text: str) -> str:
        "Marks instead of formulas, outside code."

        def mark(match):
            block = match[1] or match[4]
            self.append((block or match[2] or match[3], bool(block)))
            return f"⟦{len(self) - 1}⟧"

        return "".join(part if part.startswith("`") else MATH.sub(mark, part) for part in CODE.split(text))

    def back(self, page: str, plain: bool = False) -> str:
        "MathML, or plain LaTeX for the search index, instead of marks."

        def formula(match):
            latex, block = self[int(match[1])]
            return (
                latex.replace("\\", "").replace('"', "")
                if plain
                else convert(latex.strip(), display="block" if block else "inline")
            )

        return re.sub(r"⟦(\d+)⟧", formula, page)


def page_of(path: Path) -> str:
    "The name of a notebook's page: its path below nbs with a dash for the slash."
    return "-".join(path.relative_to(ROOT / "nbs").with_suffix("").parts)


def linked(path: Path, target: str) -> str:
    "The page that a link from a notebook leads to."
    return page_of((path.parent / f"{target}.ipynb").resolve())


def chapter(path: Path, pages: Path, formulas: Formulas) -> str:
    "One notebook as a page with its pictures; its title."
    nb = nbformat.read(path, as_version=4)
    nb.metadata["language_info"] = {"name": "python"}
    def marks(cell):
        return [
            line.replace(" ", "") for line in cell.source.lstrip().splitlines()[:3] if line.startswith("#|")
        ]
    nb.cells = [cell for cell in nb.cells if not any(m.startswith(("#|hide", "#|default_exp")) for m in marks(cell))]
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = formulas.aside(cell.source)
        else:
            silent = "#|echo:false" in marks(cell)
            cell.source = (
                "" if silent else "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|"))
            )
    body, resources = MarkdownExporter().from_notebook_node(nb, {"output_files_dir": page_of(path)})
    for name, data in resources["outputs"].items():
        (pages / name).parent.mkdir(exist_ok=True)
        (pages / name).write_bytes(data)
    body = CHAPTER.sub(lambda m: f"]({linked(path, m[1])}.md)", body).replace("```python\n\n```\n", "")
    (pages / f"{page_of(path)}.md").write_text(body, encoding="utf-8")
    return next(line[2:].strip() for line in body.splitlines() if line.startswith("# "))


def kind(annotation) -> str:
    "A type as it is written."
    if annotation is inspect.Parameter.empty:
        return ""
    return html.escape(
        annotation
        if isinstance(annotation, str)
        else getattr(annotation, "__name__", str(annotation))
        if isinstance(annotation, type)
        else re.sub(r"\b(typing|collections\.abc|torch|numpy|pathlib|experiment(?:\.\w+)+)\.", "", str(annotation))
    )


def entry(name: str, thing) -> str:
    "One exported function or class: what it says of itself, and a row a parameter."

    def cell(text):
        return " ".join(str(text or "").split()).replace("|", "\\|")

    lines = [f"### {name}", "", html.escape(inspect.getdoc(thing) or ""), ""]
    if inspect.isclass(thing) and "__init__" not in vars(thing):
        return "\n".join(lines)  # made as its base class is
    notes = docments(thing, full=True)
    rows = [
        (n, p)
        for n, p in notes.items()
        if n not in ("self", "cls") and not (n == "return" and p["anno"] is inspect.Parameter.empty)
    ]
    if rows:
        lines += ["| name | type | default | meaning |", "|---|---|---|---|"]
    for n, p in rows:
        default = (
            "" if n == "return" or p["default"] is inspect.Parameter.empty else f"`{cell(repr(p['default'])[:60])}`"
        )
        lines.append(
            f"| {'→' if n == 'return' else f'`{n}`'} | {cell(kind(p['anno']))} | {default} | {html.escape(cell(p['docment']))} |"
        )
    return "\n".join([*lines, ""])


def api(module: str, pages: Path) -> None:
    "A page with every exported name of one module."
    loaded = importlib.import_module(f"experiment.{module}")
    parts = [
        f"# {module}",
        "",
        f"`from experiment.{module} import …`",
        "",
        html.escape(inspect.getdoc(loaded) or ""),
        "",
    ]
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if callable(thing) and getattr(thing, "__module__", "") == loaded.__name__:
            parts.append(entry(name, thing))
            if inspect.isclass(thing):
                parts += [
                    entry(f"{name}.{n}", m)
                    for n, m in vars(thing).items()
                    if inspect.isfunction(m) and not n.startswith("_")
                ]
        elif not callable(thing):
            parts += [f"### {name}", "", f"`{html.escape(repr(thing)[:200])}`", ""]
    (pages / f"api_{module}.md").write_text("\n".join(parts), encoding="utf-8")


def settings() -> dict[str, str]:
    "What `settings.ini` says."
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def commands() -> dict[str, str]:
    "Console scripts: name → module."
    lines = settings()["console_scripts"].split()
    return {name: target.split(":")[0] for name, target in (line.split("=") for line in lines)}


def ask_help(module: str, *words: str) -> str:
    "What a command says of itself."
    run = [sys.executable, "-m", module, *words, "--help"]
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"}, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(run)}: {done.stderr.strip()}")
    return done.stdout.rstrip()


def command_page(name: str, module: str, pages: Path) -> None:
    "A command's own help, and that of what it can be told to do."
    said = ask_help(module)
    parts = [f"# {name}", "", f"`{name}`, or `python -m {module}`:", "", f"```text\n{said}\n```", ""]
    below = re.search(r"^  \{([\w,]+)\}", said, re.M)
    for word in below[1].split(",") if below else ():
        parts += [f"## {name} {word}", "", f"```text\n{ask_help(module, word)}\n```", ""]
    (pages / f"command_{name}.md").write_text("\n".join(parts), encoding="utf-8")


def installation(pages: Path) -> None:
    "How to install, from `settings.ini` and the Makefile."
    known = settings()
    extras = {name.removesuffix("_requirements"): known[name] for name in known if name.endswith("_requirements")}
    if set(extras) != set(EXTRAS):
        sys.exit(f"settings.ini has the extras {sorted(extras)}, tools/docs.py describes {sorted(EXTRAS)}")
    rows = [f"| `{name}` | {EXTRAS[name]} | {', '.join(f'`{r}`' for r in extras[name].split())} |" for name in extras]
    targets = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = INSTALL.format(
        python=known["min_python"],
        targets=targets.rstrip(),
        requirements=", ".join(f"`{r}`" for r in known["requirements"].split()),
        extras="\n".join(rows),
        commands="\n".join(f"- [`{name}`](command_{name}.md)" for name in commands()),
    )
    (pages / "installation.md").write_text(page, encoding="utf-8")


def build() -> None:
    "Pages, then the site."
    pages, formulas = ROOT / "_proc" / "pages", Formulas()
    shutil.rmtree(pages.parent, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    pages.mkdir(parents=True)
    titles = {page_of(p): chapter(p, pages, formulas) for p in chosen([])}
    package = ROOT / "experiment"
    modules = sorted(
        ".".join(p.relative_to(package).with_suffix("").parts)
        for p in package.rglob("*.py")
        if not p.stem.startswith("_")
    )
    for module in modules:
        api(module, pages)
    installation(pages)
    for name, module in commands().items():
        command_page(name, module, pages)
    (pages / "site.css").write_text(CSS, encoding="utf-8")
    (pages / "iframe-worker.js").write_text(WORKER, encoding="utf-8")
    nav = ["  - Overview: index.md", "  - Installation: installation.md", "  - Commands:"]
    nav += [*(f"    - {name}: command_{name}.md" for name in commands()), "  - Chapters:"]
    part = None
    for page, title in titles.items():
        if page == "index":
            continue
        folder, name = page.split("-", 1)
        if folder != part:
            part = folder
            nav.append(f"    - {json.dumps(folder.replace('_', ' '))}:")
        nav.append(f"      - {json.dumps(name.split('_')[0] + ' ' + title, ensure_ascii=False)}: {page}.md")
    nav += ["  - Functions:", *(f"    - {m}: api_{m}.md" for m in modules)]
    config = pages.parent / "mkdocs.yml"
    config.write_text(CONFIG.format(site=SITE, pages=pages, nav="\n".join(nav)), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-f", str(config)],
        check=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    (SITE / "404.html").unlink()  # a folder has no server that would show it
    for page in SITE.rglob("*.html"):
        page.write_text(formulas.back(page.read_text(encoding="utf-8")), encoding="utf-8")
    for index in (SITE / "search").glob("search_index.js*"):
        index.write_text(formulas.back(index.read_text(encoding="utf-8"), plain=True), encoding="utf-8")
    print(f"{len(titles)} chapters, {len(modules)} modules, {len(formulas)} formulas: {SITE / 'index.html'}")


def check() -> int:
    "Open every page from the folder: no console error, no request to the network; then search."
    from browser_test import FLAGS, browser, missing
    from playwright.sync_api import sync_playwright

    if why := missing():
        print(f"pages not opened: {why}")
        return 0
    wrong: list[str] = []
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser(), args=FLAGS)
        page = chromium.new_page(viewport=dict(width=1400, height=900))
        page.on("console", lambda m: wrong.append(f"{page.url}: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(f"{page.url}: {e}"))
        page.on(
            "request",
            lambda r: (
                wrong.append(f"{page.url} asks for {r.url}")
                if not r.url.startswith(("file:", "data:", "blob:"))
                else None
            ),
        )
        paths = sorted(SITE.glob("*.html"))
        assert paths, f"{SITE} holds no pages: run make docs"
        for path in paths:
            page.goto(path.as_uri(), wait_until="load", timeout=20_000)
        page.goto((SITE / "index.html").as_uri())
        page.locator(".md-search__input").click()  # as a reader does: the click opens the search
        page.locator(".md-search__input").press_sequentially("token_patches")
        try:
            page.locator(".md-search-result__link").first.wait_for(timeout=20_000, state="attached")
        except Exception as error:
            wrong.append(f"search finds nothing: {error}")
        page.screenshot(path=str(SITE.parent / "_proc" / "docs.png"))
        chromium.close()
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(paths)} pages opened, {len(wrong)} errors")
    return bool(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="open every page in Chromium")
    if not parser.parse_args().check:
        build()
    else:
        sys.exit(check())
