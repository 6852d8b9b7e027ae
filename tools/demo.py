"""The main job on the bundled model and scenes, through the real commands: frames → payloads → heatmaps → one sheet per question."""

import subprocess
import sys
import time
from pathlib import Path

from experiment.frame.scale import scale_of
from experiment.record.files import find_records, record_frames
from experiment.record.payload import load_record
from experiment.relevance.answers import relevance_of
from experiment.relevance.figure import Print, sheet_figure
from experiment.relevance.shown import largest_patch

ROOT = Path(__file__).parents[1]
SCENES = ROOT / "experiment" / "data" / "scenes"
BIN = Path(sys.executable).parent
QUESTIONS = (  # scene, target, what a person should see
    ("approach", "-forward_speed", "why no faster? the car ahead"),
    ("light", "-forward_speed", "why no faster? the red light; nothing once it is green"),
    ("bend", "lateral", "why turn? the road's edges"),
)


def run(*command: str) -> None:
    "One command as a user would type it."
    print("$", Path(command[0]).name, *command[1:], flush=True)
    code = subprocess.call(command)
    if code:
        sys.exit(code)


def sheet(run: Path, question: str, path: Path, most: int = 12) -> Path:
    "Evenly chosen frames of a run, all on the run's scale."
    records = [load_record(item.path) | {"tag": item.tag} for item in find_records(run)]
    relevances = [relevance_of(record) for record in records]
    scale = scale_of(map(largest_patch, relevances), relevances[0].unit)
    every = max(1, len(records) // most)
    records, relevances = records[::every][:most], relevances[::every][:most]
    frames = [record_frames(record)[0] for record in records]
    sheet_figure(question, records, relevances, frames, scale, Print("page", dpi=200)).savefig(path)
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
        sheets.append((question, sheet(out / scene / "pt", question, out / f"{scene}.png")))
    print(f"\ndone in {time.perf_counter() - start:.0f} s; open:")
    for question, path in sheets:
        print(f"  {path}   {question}")


if __name__ == "__main__":
    main()
