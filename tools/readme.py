"""Compare README.md with nbs/index.ipynb and run what it promises (default), or write it (`--write`). No Quarto needed.

A reader copies the five lines into a Python in the repository's root and follows the links: the lines are run there,
every link must lead to a file, and every chapter must be linked.
"""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
PICTURES = "nbs/images"
HEADER = "<!-- Written from nbs/index.ipynb by `make readme`; edit the notebook. -->\n\n"
LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def shown(cell) -> bool:
    "Cells marked hidden or exported stay out of the README."
    first = cell.source.lstrip().splitlines()[:2]
    return not any(line.replace(" ", "").startswith(("#|hide", "#|export", "#|default_exp")) for line in first)


def parts() -> tuple[str, dict[str, bytes]]:
    "README.md as it should be, and its pictures (name below PICTURES → bytes)."
    nb = nbformat.read(ROOT / "nbs" / "index.ipynb", as_version=4)
    nb.metadata["language_info"] = {"name": "python"}
    nb.cells = [cell for cell in nb.cells if shown(cell)]
    for cell in nb.cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            if any(line.replace(" ", "").startswith("#|echo:false") for line in lines[:2]):
                cell.source = ""
            else:
                cell.source = "\n".join(line for line in lines if not line.startswith("#|"))
    body, resources = MarkdownExporter().from_notebook_node(nb)
    pictures = {name: data for name, data in resources["outputs"].items() if name.endswith(".png")}
    body = LINK.sub(lambda m: f"]({PICTURES if m[1] in pictures else 'nbs'}/{m[1]})", body)
    return HEADER + body.replace("```python\n\n```\n", "").strip() + "\n", pictures


def write(body: str, pictures: dict[str, bytes]) -> None:
    "README.md and its pictures; pictures of earlier versions go."
    folder = ROOT / PICTURES
    folder.mkdir(exist_ok=True)
    for old in folder.glob("output_*.png"):
        old.unlink()
    (ROOT / "README.md").write_text(body, encoding="utf-8")
    for name, data in pictures.items():
        (folder / name).write_bytes(data)


def differences(body: str, pictures: dict[str, bytes]) -> list[str]:
    "What on disk is not what the notebook says, a line each."
    files = {"README.md": body.encode()} | {f"{PICTURES}/{name}": data for name, data in pictures.items()}
    return [
        f"{name} differs from nbs/index.ipynb: run `make readme` and commit"
        for name, data in files.items()
        if not (ROOT / name).exists() or (ROOT / name).read_bytes() != data
    ]


def broken_links(body: str) -> list[str]:
    "Links that lead nowhere and chapters that are not linked, a line each."
    links = set(LINK.findall(body))
    chapters = {p.relative_to(ROOT).as_posix() for p in (ROOT / "nbs").glob("[0-9]*/*.ipynb")}
    lost = [f"README.md links {link}, which does not exist" for link in sorted(links) if not (ROOT / link).exists()]
    return lost + [f"README.md does not link {chapter}: run `make readme`" for chapter in sorted(chapters - links)]


def run_lines(body: str) -> list[str]:
    "Run the first block of Python as a reader does, from the repository's root; the last line of an error."
    lines = PYTHON.search(body)[1]
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True)
    return [f"README.md's first lines of Python fail: {done.stderr.splitlines()[-1]}"] if done.returncode else []


if __name__ == "__main__":
    found = parts()
    if "--write" in sys.argv:
        write(*found)
    elif wrong := differences(*found) + broken_links(found[0]) + run_lines(found[0]):
        sys.exit("\n".join(wrong))
