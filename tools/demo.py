"""The main job on drawn scenes: data, three pretrainings, five transfers, tables and report.

usage: python tools/demo.py OUT

Every step is a command that a user could type; its whole output goes to OUT/logs. A step that has
finished is not run again, one that was broken off continues from its last checkpoint.
"""

import subprocess
import sys
import time
from pathlib import Path

TRAIN_IMAGES, VAL_IMAGES = 400, 60
PROGRESS = ("Epoch(", "learning rate", "nothing to do", "frozen stages:", "%|", "wrote", "error")


def commands(out: Path) -> list[tuple[str, list[str]]]:
    """(name, command) of each step, in order."""
    python = sys.executable
    coco, cityscapes, runs = out / "data/coco", out / "data/cityscapes", out / "runs"
    scenes = [python, "-m", "transfer.scenes"]
    counts = ["--train", str(TRAIN_IMAGES), "--val", str(VAL_IMAGES)]
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

    for method in ("simclr", "gim", "loco"):
        training("pretrain", f"pretrain_{method}", f"data_root={coco / 'train2017'}")
    backbones = {m: runs / f"pretrain_{m}/backbone.safetensors" for m in ("simclr", "gim", "loco")}
    training("dist_train", "mask_rcnn_random", f"data_root={coco}")
    for method, backbone in backbones.items():
        options = (f"data_root={coco}", f"backbone_file={backbone}")
        training("dist_train", f"mask_rcnn_{method}", *options)
    options = (f"data_root={cityscapes}", f"backbone_file={backbones['loco']}")
    training("dist_train", "mask_rcnn_loco_cityscapes", *options)
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
        for line in process.stdout:
            file.write(line)
            if any(mark in line for mark in PROGRESS) and "Build settings" not in line:
                print("   ", line.strip().split(" - INFO - ")[-1][:110], flush=True)
    if process.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        sys.exit(f"{tail}\nerror: this step failed; its whole output is in {log}")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    steps = commands(out)
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
