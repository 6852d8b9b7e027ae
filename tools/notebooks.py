"""Execute notebooks top to bottom in a real kernel: `python tools/notebooks.py [--save] [--slow] [NAME ...]` (default: all)."""

import argparse
import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image
from run_tests import chosen

NBS = Path(__file__).parents[1] / "nbs"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the kernels: models this small only wait for each other on more


def _small(png: str) -> str:
    "The same picture without metadata (matplotlib writes its version) and losslessly compressed."
    image, buffer = Image.open(io.BytesIO(base64.b64decode(png))), io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def tidy(nb) -> None:
    "Drop what changes from run to run: counters, timings, widget state, stderr; shrink pictures."
    nb.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    )
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for out in cell.outputs:
            if "execution_count" in out:
                out.execution_count = None
            data = out.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            out.metadata = nbformat.from_dict({}) if "metadata" in out else out.get("metadata")
            if "metadata" in out and out.metadata is None:
                del out["metadata"]
            if "image/png" in data:
                data["image/png"] = _small(data["image/png"])
        cell.outputs = [o for o in cell.outputs if o.output_type != "display_data" or o.data]


def spare(nb) -> int:
    "Mark cells that are flagged slow to be skipped; they keep their outputs. How many."
    slow = [c for c in nb.cells if c.cell_type == "code" and c.source.lstrip().startswith("#| slow")]
    for cell in slow:
        cell.metadata["tags"] = ["skip-execution"]
    return len(slow)


def run(path: Path, save: bool, slow: bool) -> tuple[str | None, int]:
    "Execute one notebook; the error's text if it failed, and how many slow cells were left out."
    nb = nbformat.read(path, as_version=4)
    left = 0 if slow else spare(nb)
    try:
        NotebookClient(
            nb, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        ).execute()
    except CellExecutionError as error:
        return str(error), left
    if save:
        tidy(nb)
        nbformat.write(nb, path)
    return None, left


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebook names without .ipynb")
    parser.add_argument("--save", action="store_true", help="keep the outputs in the notebook, tidied")
    parser.add_argument(
        "--slow",
        action="store_true",
        help="run the cells that are flagged slow as well; otherwise they keep their outputs",
    )
    args = parser.parse_args()
    paths = chosen(args.names)
    if not paths:
        sys.exit(f"no notebook named {args.names} in {NBS}; there are: {[str(p.relative_to(NBS)) for p in chosen([])]}")
    failed = 0
    for path in paths:
        start = time.perf_counter()
        error, left = run(path, args.save, args.slow)
        failed += error is not None
        print(
            f"{str(path.relative_to(NBS)):52s} {'FAILED' if error else 'ok':7s}{time.perf_counter() - start:6.1f} s{f', {left} slow left out' if left else ''}",
            flush=True,
        )
        if error:
            print(error, file=sys.stderr)
    print(f"{len(paths) - failed} passed, {failed} failed")
    sys.exit(bool(failed))
