"""The main job on the bundled model and scenes, through the real commands: frames → payloads → heatmaps → one picture per question."""

import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
SCENES = ROOT / "experiment" / "data" / "scenes"
BIN = Path(sys.executable).parent
QUESTIONS = (  # scene, target, what a person should see
    ("approach", "-forward_speed", "why slow? the car ahead"),
    ("light", "-forward_speed", "why slow? the red light"),
    ("bend", "lateral", "why turn? the road's edges"),
)


def run(*command: str) -> None:
    "One command as a user would type it."
    print("$", Path(command[0]).name, *command[1:], flush=True)
    code = subprocess.call(command)
    if code:
        sys.exit(code)


def contact_sheet(folder: Path, path: Path, columns: int = 4, most: int = 12) -> Path:
    "Evenly chosen heatmaps of a run in one picture."
    pictures = sorted(folder.glob("*.png"))
    pictures = pictures[:: max(1, len(pictures) // most)][:most]
    images = [Image.open(p) for p in pictures]
    w, h = images[0].size
    sheet = Image.new("RGB", (columns * w, -(-len(images) // columns) * h), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * w, i // columns * h))
    sheet.save(path)
    return path


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    start, sheets = time.perf_counter(), []
    for scene, target, question in QUESTIONS:
        run(
            str(BIN / "simlingo_vit_qwen_attn_grad"),
            str(SCENES / scene),
            "--model",
            "demo",
            "--target",
            target,
            "--force",
            "--out",
            str(out / scene),
        )
        run(str(BIN / "ours"), str(out / scene), "--force", "--out", str(out / scene / "ours"))
        sheets.append((question, contact_sheet(out / scene / "ours" / "final_heatmap", out / f"{scene}.png")))
    print(f"\ndone in {time.perf_counter() - start:.0f} s; open:")
    for question, sheet in sheets:
        print(f"  {sheet}   {question}")


if __name__ == "__main__":
    main()
