"""Compare README.md with nbs/index.ipynb (default), or write it (`--write`). No Quarto needed."""
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
HEADER = "<!-- Written from nbs/index.ipynb by `make readme`; edit the notebook. -->\n\n"


def shown(cell) -> bool:
    "Cells marked hidden or exported stay out of the README."
    first = cell.source.lstrip().splitlines()[:2]
    return not any(line.replace(" ", "").startswith(("#|hide", "#|export", "#|default_exp")) for line in first)


def text() -> str:
    "README.md as it should be."
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
            cell.outputs = [o for o in cell.outputs if "image/png" not in o.get("data", {})]
    body, _ = MarkdownExporter().from_notebook_node(nb)
    return HEADER + body.replace("```python\n\n```\n", "").strip() + "\n"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    if "--write" in sys.argv:
        readme.write_text(text(), encoding="utf-8")
    elif not readme.exists() or readme.read_text(encoding="utf-8") != text():
        sys.exit("README.md differs from nbs/index.ipynb: run `make readme` and commit")
