"""The main job on drawn scenes: data, three pretrainings, five transfers, tables and report.

Every step is a command that a user could type; its whole output goes to OUT/logs. Steps that do not
need each other run side by side, one a core. A step that has finished is not run again, one that
was broken off continues from its last checkpoint. The detectors' trainings leave the tables of all
that has run by then, as every training does (:mod:`pretrain.engine.refresh`).
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools.setup.machine import ROOT

PROGRESS = (
    "Epoch(", "learning rate", "nothing to do", "frozen stages:", "wrote", "tables", "error",
)  # fmt: skip
BAR, SECONDS_BETWEEN_BARS = "%|", 5.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # one core a step: small tensors, many steps


@dataclass(frozen=True)
class Step:
    """One command, under the name of its log."""

    name: str
    command: list[str]
    tables: str = "0"  # where the training leaves them; "0": nowhere


def stages(out: Path, smoke: bool) -> list[tuple[str, list[Step]]]:
    """What runs one after the other; the steps inside a stage do not need each other."""
    methods = ("loco",) if smoke else ("simclr", "gim", "loco")
    counts = ("--train", "16", "--val", "4") if smoke else ("--train", "400", "--val", "60")
    short = ("epochs=1", "warmup_epochs=0", "global_batch_size=8") if smoke else ()
    shorter = ("max_epochs=1",) if smoke else ()
    coco, cityscapes, runs = (str(out / name) for name in ("data/coco", "data/cityscapes", "runs"))

    def module(name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", name, *arguments]

    def training(script: str, config: str, *options: str, tables: str = "0") -> Step:
        command = ["bash", f"tools/{script}.sh", f"configs/demo/{config}.py", "--resume"]
        command += ["--work-dir", f"{runs}/{config}", "--cfg-options", *options]
        return Step(config, command, tables)

    def transfer(config: str, data_root: str, method: str) -> Step:
        weights = f"backbone_file={runs}/pretrain_{method}/backbone.safetensors"
        options = (f"data_root={data_root}", *([weights] if method != "random" else []), *shorter)
        return training("dist_train", config, *options, tables=str(out))

    draw = [
        Step(f"draw_{kind}", module("transfer.scenes", root, "--format", kind, *counts))
        for kind, root in (("coco", coco), ("cityscapes", cityscapes))
    ]
    convert = module("transfer.prepare", "cityscapes", "--data-root", cityscapes)
    pretrain = [
        training("pretrain", f"pretrain_{m}", f"data_root={coco}/train2017", *short)
        for m in methods
    ]
    compared = methods if smoke else ("random", *methods)
    detect = [transfer(f"mask_rcnn_{m}", coco, m) for m in compared]
    detect.append(transfer("mask_rcnn_loco_cityscapes", cityscapes, "loco"))
    return [
        ("draw the scenes", draw),
        ("convert Cityscapes to COCO's annotations", [Step("convert_cityscapes", convert)]),
        ("pretrain the backbones", pretrain),
        ("train Mask R-CNN on each frozen backbone, evaluate, write tables and report", detect),
    ]


def run(step: Step, logs: Path) -> str | None:
    """Run one step; its lines of progress go to the screen, all of it to its log.

    Returns:
        None when it ended well, else the end of its log.
    """
    log = logs / f"{step.name}.log"
    begun = last_bar = time.monotonic()
    with (
        log.open("w") as file,
        subprocess.Popen(
            step.command,
            env=ENVIRONMENT | {"REFRESH_TABLES": step.tables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            shown = any(mark in line for mark in PROGRESS) and "Build settings" not in line
            if BAR in line and time.monotonic() - last_bar > SECONDS_BETWEEN_BARS:
                shown, last_bar = True, time.monotonic()
            if shown:
                text = " ".join(line.split(" - INFO - ")[-1].split())
                print(f"  {step.name}: {text[:90]}", flush=True)
    if process.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        return f"{tail}\nerror: {step.name} failed; its whole output is in {log}"
    print(f"  {step.name}: done in {time.monotonic() - begun:.0f} s", flush=True)
    return None


def main() -> None:
    """Run the stages in order, then show the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="a few images, one epoch, LoCo alone: whether everything runs, not what it learns",
    )
    args = parser.parse_args()
    out = args.out.resolve()
    os.chdir(ROOT)
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    def elapsed() -> str:
        minutes, seconds = divmod(int(time.monotonic() - begun), 60)
        return f"{minutes}:{seconds:02d}"

    plan = stages(out, args.smoke)
    cores = len(os.sched_getaffinity(0))
    for number, (title, steps) in enumerate(plan, start=1):
        print(f"[{number}/{len(plan)}] {title}  (after {elapsed()})", flush=True)
        with ThreadPoolExecutor(max_workers=cores) as pool:
            faults = [fault for fault in pool.map(lambda step: run(step, logs), steps) if fault]
        if faults:
            sys.exit("\n".join(faults))
    if not (out / "report.html").is_file():
        sys.exit(f"error: no tables were written; {logs}/mask_rcnn_*.log say why")
    for table in sorted((out / "tables").glob("*.md")):
        print(table.read_text())
    print(f"done in {elapsed()}; tables in {out / 'tables'}, open {out / 'report.html'}")


if __name__ == "__main__":
    main()
