"""Compare README.md with nbs/index.ipynb (default), or write it (`--write`). No Quarto needed."""

import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
PICTURES = "nbs/images"
HEADER = "<!-- Written from nbs/index.ipynb by `make readme`; edit the notebook. -->\n\n"


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
    for name in pictures:
        body = body.replace(f"]({name})", f"]({PICTURES}/{name})")
    return HEADER + body.replace("```python\n\n```\n", "").strip() + "\n", pictures


if __name__ == "__main__":
    readme, folder = ROOT / "README.md", ROOT / PICTURES
    body, pictures = parts()
    if "--write" in sys.argv:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("output_*.png"):
            old.unlink()
        readme.write_text(body, encoding="utf-8")
        for name, data in pictures.items():
            (folder / name).write_bytes(data)
    else:
        same = readme.exists() and readme.read_text(encoding="utf-8") == body
        if not same or any(not (folder / n).exists() or (folder / n).read_bytes() != d for n, d in pictures.items()):
            sys.exit("README.md or its pictures differ from nbs/index.ipynb: run `make readme` and commit")
