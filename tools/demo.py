"""The main job on drawn scenes: data, three pretrainings, five transfers, tables and report.

usage: python tools/demo.py OUT [--smoke]

--smoke takes a few images, one epoch and LoCo alone: whether everything runs, not what it learns.
Every step is a command that a user could type; its whole output goes to OUT/logs. A step that has
finished is not run again, one that was broken off continues from its last checkpoint.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

PROGRESS = ("Epoch(", "learning rate", "nothing to do", "frozen stages:", "wrote", "error")
BAR, SECONDS_BETWEEN_BARS = "%|", 5.0
SMOKE_PRETRAIN = ("epochs=1", "warmup_epochs=0", "global_batch_size=8")
SMOKE_TRANSFER = ("max_epochs=1",)


def commands(out: Path, smoke: bool = False) -> list[tuple[str, list[str]]]:
    """(name, command) of each step, in order."""
    methods = ("loco",) if smoke else ("simclr", "gim", "loco")
    train_images, val_images = (16, 4) if smoke else (400, 60)
    python = sys.executable
    coco, cityscapes, runs = out / "data/coco", out / "data/cityscapes", out / "runs"
    scenes = [python, "-m", "transfer.scenes"]
    counts = ["--train", str(train_images), "--val", str(val_images)]
    steps = [
        ("draw COCO scenes", [*scenes, str(coco), "--format", "coco", *counts]),
        ("draw Cityscapes scenes", [*scenes, str(cityscapes), "--format", "cityscapes", *counts]),
        (
            "convert Cityscapes",
            [python, "-m", "transfer.prepare", "cityscapes", "--data-root", str(cityscapes)],
        ),
    ]

    def training(script: str, name: str, *options: str) -> None:
        command = ["bash", f"tools/{script}.sh", f"configs/demo/{name}.py", "--resume"]
        steps.append((name, [*command, "--work-dir", str(runs / name), "--cfg-options", *options]))

    def transfer(name: str, *options: str) -> None:
        training("dist_train", name, *options, *(SMOKE_TRANSFER if smoke else ()))

    backbones = {method: runs / f"pretrain_{method}/backbone.safetensors" for method in methods}
    for method in methods:
        options = (f"data_root={coco / 'train2017'}", *(SMOKE_PRETRAIN if smoke else ()))
        training("pretrain", f"pretrain_{method}", *options)
    transfer("mask_rcnn_random", f"data_root={coco}")
    for method, backbone in backbones.items():
        transfer(f"mask_rcnn_{method}", f"data_root={coco}", f"backbone_file={backbone}")
    transfer(
        "mask_rcnn_loco_cityscapes",
        f"data_root={cityscapes}",
        f"backbone_file={backbones['loco']}",
    )
    steps.append(("tables and report", [python, "-m", "results", str(runs), "--out", str(out)]))
    return steps


def run(command: list[str], log: Path) -> None:
    """Run one step; its lines of progress go to the screen, all of it to ``log``.

    Raises:
        SystemExit: the step failed; the end of its log is shown.
    """
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        last_bar = 0.0
        for line in process.stdout:
            file.write(line)
            shown = any(mark in line for mark in PROGRESS) and "Build settings" not in line
            if BAR in line and time.monotonic() - last_bar > SECONDS_BETWEEN_BARS:
                shown, last_bar = True, time.monotonic()
            if shown:
                print("   ", line.strip().split(" - INFO - ")[-1][:110], flush=True)
    if process.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        sys.exit(f"{tail}\nerror: this step failed; its whole output is in {log}")


def main() -> None:
    """Run all steps in order, then show the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="few images, one epoch, LoCo alone")
    args = parser.parse_args()
    out = args.out.resolve()
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    steps = commands(out, args.smoke)
    for number, (name, command) in enumerate(steps, start=1):
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        print(f"[{number}/{len(steps)}] {name}  (after {minutes}:{seconds:02d})", flush=True)
        run(command, logs / f"{number:02d}_{name.replace(' ', '_')}.log")
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    for table in sorted((out / "tables").glob("*.md")):
        print(f"\n{table.read_text()}")
    print(
        f"done in {minutes}:{seconds:02d}; tables in {out / 'tables'}, open {out / 'report.html'}"
    )


if __name__ == "__main__":
    main()
