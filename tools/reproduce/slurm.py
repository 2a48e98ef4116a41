"""Submits what is missing of a plan to Slurm, every job after those that it needs.

GPUS=8           processes of a training, in all
GPUS_PER_NODE=8  of them on each node; 8, or GPUS where that is less
CPUS_PER_TASK=8  cores of each process, for its data workers
GRES=            what a node gives; gpu:$GPUS_PER_NODE, or "none" on a partition without GPUs
SBATCH_ARGS=""   more arguments of sbatch, e.g. "--partition=gpu --time=24:00:00"
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.plan.run import TRAINERS, Run
from tools.reproduce.state import (
    FAILED,
    LOG,
    NEEDS_A_HAND,
    TRAINER_LOCK,
    Place,
    is_locked,
    locked,
    look,
)
from tools.setup.machine import ROOT

JOB = "slurm_job.txt"
MODULES = {
    "pretrain": "pretrain.train",
    "linear": "pretrain.readout.linear_probe",
    "transfer": "transfer.train",
}
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "REFRESH_TABLES": "1"}


def submit_missing(runs: Sequence[Run], place: Place) -> dict[str, str]:
    """Submit all that is not done, running or queued.

    Returns:
        What became of each run by name: "done", "running", "queued as JOB", "submitted as JOB";
        "left alone: ...", where its folder needs a hand, and "skipped, it needs ...".

    Raises:
        FileNotFoundError: there is no sbatch.
        ValueError: sbatch refused a job, or a variable of the environment is no number.
    """
    if shutil.which("sbatch") is None:
        raise FileNotFoundError("no sbatch on this machine; without Slurm take --run")
    resources = training_resources(os.environ)
    jobs: dict[str, str] = {}
    outcomes: dict[str, str] = {}
    for run in runs:
        folder = place.folder(run)
        absent = [n.name for n in run.needs if outcomes[n.name].startswith(("left", "skip"))]
        found, told = look(run, place)
        if found in NEEDS_A_HAND:
            outcomes[run.name] = f"left alone: {told}"
            continue
        if absent:
            outcomes[run.name] = f"skipped, it needs {', '.join(absent)}"
            continue
        with locked(folder) as lock:
            if place.result(run).exists():
                outcomes[run.name] = "done"
            elif lock is None or is_locked(folder / TRAINER_LOCK):
                outcomes[run.name] = "running"
            elif job := queued_job(folder):
                outcomes[run.name], jobs[run.name] = f"queued as {job}", job
            else:
                after = [jobs[need.name] for need in run.needs if need.name in jobs]
                job = submit(run, place, after, resources)
                (folder / FAILED).unlink(missing_ok=True)
                (folder / JOB).write_text(f"{job}\n")
                outcomes[run.name], jobs[run.name] = f"submitted as {job}", job
    return outcomes


def submit(run: Run, place: Place, after: Sequence[str], resources: Sequence[str]) -> str:
    """Hand one run to sbatch.

    Returns:
        The job's number.

    Raises:
        ValueError: what sbatch said against it.
    """
    log = (ROOT / place.folder(run) / LOG).absolute()
    options = [f"--job-name={run.name}", f"--chdir={ROOT}", f"--output={log}", "--open-mode=append"]
    if after:
        options += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    if run.kind in TRAINERS:
        options += resources
        cores = [option for option in resources if option.startswith("--cpus")]
        command = ["srun", *cores, "--kill-on-bad-exit=1", sys.executable, "-m", MODULES[run.kind]]
        command += [run.config, "--launcher", "slurm", *place.trainer_arguments(run)]
    else:
        options.append("--ntasks=1")
        command = place.command(run)
    options += [*shlex.split(os.environ.get("SBATCH_ARGS", "")), f"--wrap={shlex.join(command)}"]
    spoken = subprocess.run(
        ["sbatch", "--parsable", *options], env={**ENVIRONMENT, **os.environ}, capture_output=True,
        text=True,
    )  # fmt: skip
    job = spoken.stdout.strip().partition(";")[0]  # "JOB" or "JOB;CLUSTER"
    if spoken.returncode or not job.isdecimal():
        said = (spoken.stderr or spoken.stdout).strip()
        raise ValueError(f"sbatch did not take {run.name}: {said}; set SBATCH_ARGS as it wants")
    return job


def training_resources(environment: Mapping[str, str]) -> list[str]:
    """sbatch's options for a training, from GPUS and the others.

    Raises:
        ValueError: a number that is none, or processes that the nodes do not divide.
    """

    def number(name: str, default: int) -> int:
        text = environment.get(name) or str(default)
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{name} is {text!r}; expected a number from 1")
        return int(text)

    gpus = number("GPUS", 8)
    per_node = number("GPUS_PER_NODE", min(gpus, 8))
    if gpus % per_node:
        raise ValueError(
            f"GPUS_PER_NODE is {per_node}, GPUS is {gpus}; expected one that divides it"
        )
    gres, cores = environment.get("GRES") or f"gpu:{per_node}", number("CPUS_PER_TASK", 8)
    nodes = [f"--ntasks={gpus}", f"--ntasks-per-node={per_node}"]
    return [*nodes, f"--gres={gres}", f"--cpus-per-task={cores}"]


def queued_job(folder: Path) -> str:
    """The job that a run was submitted as, while Slurm has it waiting or running; else ""."""
    file = folder / JOB
    if not file.is_file() or shutil.which("squeue") is None:
        return ""
    job = file.read_text().strip()
    listed = subprocess.run(
        ["squeue", "--noheader", "--format=%i", f"--jobs={job}"], capture_output=True, text=True
    )  # fails for a job that it has forgotten
    return job if listed.returncode == 0 and job in listed.stdout.split() else ""
