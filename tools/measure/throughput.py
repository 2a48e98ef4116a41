"""Images a second of loading and augmentation, and of a SimCLR step, against lightly's.

Every round takes all competitors one after the other over the same files, so that a slow spell of
the machine meets them all; a ratio is of one round, and its median, lowest and highest are given.

Loading: JPEG files to two views. ``ours`` gives uint8, normalised by the model afterwards, as a run
does; ``ours_normalised`` ends in normalised float32, as lightly's and torchvision's do;
``ours_colour_on_device`` leaves colours and blur to the model. ``torchvision_pil`` is torchvision's
own transforms on Pillow images. Per core: one process, seconds of its processor. All cores: a
DataLoader with a worker for each, seconds on the clock.

A step: ResNet-50 and SimCLR's projection head, InfoNCE, SGD with momentum for both, since lightly's
example has no LARS; from views on the device. lightly's loop runs the encoder once for each of the
two views, ours once for both together. On a CPU one thread, seconds of its processor.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pretrain.images.image_lists import list_images
from results.record.environment import git_commit, processor
from tools.measure import throughput_steps
from tools.measure.throughput_loaders import LOADERS

Clock = Callable[[], float]
TUNING = ("MALLOC_", "OMP_", "KMP_")  # variables that change how fast a CPU computes
Rounds = dict[str, list[float]]  # competitor -> images a second, one figure a round


def draw_photographs(folder: Path, number: int = 60) -> None:
    """JPEGs of COCO's size, 640 x 480, with details at every scale, as photographs have them."""
    random = np.random.default_rng(0)
    for index in range(number):
        pixels = np.full((480, 640, 3), 127.0, dtype=np.float32)
        for octave in range(1, 9):
            coarse = random.uniform(-1, 1, (3 * 2**octave, 4 * 2**octave, 3)).astype(np.float32)
            for channel in range(3):
                layer = Image.fromarray(coarse[..., channel]).resize(
                    (640, 480), Image.Resampling.BICUBIC
                )
                pixels[..., channel] += 90 / 1.6**octave * np.asarray(layer)
        levels = pixels.clip(0, 255).astype(np.uint8)
        Image.fromarray(levels).save(folder / f"{index:03d}.jpg", quality=92)


def rounds(competitors: Mapping[str, Callable[[], int]], repeats: int, clock: Clock) -> Rounds:
    """Images a second of every competitor in every round, after one round that is not counted.

    Args:
        competitors: each does its work and says how many images that were.
        repeats: rounds.
        clock: gives seconds.
    """
    rates: Rounds = {name: [] for name in competitors}
    for _ in range(1 + repeats):
        for name, work in competitors.items():
            start = clock()
            images = work()
            rates[name].append(images / (clock() - start))
    return {name: found[1:] for name, found in rates.items()}


def summary(rates: Rounds, reference: str) -> dict[str, dict[str, Any]]:
    """For every competitor its median rate, and its ratio to the reference in each round."""
    table = {}
    for name, found in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(found, rates[reference], strict=True)]
        table[name] = {
            "images_per_second": round(statistics.median(found), 2),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    return table


def per_core(datasets: Mapping[str, Dataset[Any]], repeats: int) -> Rounds:
    """One process, without workers; seconds of its processor."""

    def work(dataset: Any) -> Callable[[], int]:
        return lambda: len([dataset[index] for index in range(len(dataset))])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = rounds({n: work(d) for n, d in datasets.items()}, repeats, time.process_time)
    torch.set_num_threads(threads)
    return found


def all_cores(datasets: Mapping[str, Dataset[Any]], repeats: int, workers: int) -> Rounds:
    """A DataLoader with workers that stay; seconds on the clock."""

    def work(loader: DataLoader[Any]) -> Callable[[], int]:
        return lambda: sum(1 for _ in loader) * 8

    loaders = {
        name: DataLoader(
            dataset, batch_size=8, drop_last=True, num_workers=workers, persistent_workers=True
        )
        for name, dataset in datasets.items()
    }
    return rounds({n: work(loader) for n, loader in loaders.items()}, repeats, time.perf_counter)


def text(title: str, table: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for the terminal."""
    lines = ["", title, f"{'':24}images/s   times lightly's   lowest  highest"]
    for name, row in table.items():
        low, high = row["ratio_range"]
        lines.append(
            f"{name:24}{row['images_per_second']:8.1f}{row['ratio']:18.2f}{low:9.2f}{high:9.2f}"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of this measurement."""
    cores = int(processor()["cores"])
    parser.add_argument("--images", type=Path, help="folder of JPEGs; drawn ones without it")
    parser.add_argument("--size", type=int, default=224, help="side of a view, in pixels")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of loading")
    parser.add_argument("--workers", type=int, default=cores, help="of the DataLoader")
    parser.add_argument("--steps", type=int, default=5, help="rounds of steps; 0 for none")
    parser.add_argument("--batch-size", type=int, help="photographs a step; 8 on a CPU, else 128")
    parser.add_argument("--step-size", type=int, default=224, help="side of a step's views")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Rates of all competitors, of loading and of a step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch_size = args.batch_size or (128 if device.type == "cuda" else 8)

    with tempfile.TemporaryDirectory() as folder:
        if args.images is None:
            draw_photographs(Path(folder))
        root = args.images or Path(folder)
        try:
            images = len(list_images(root)[0])
            datasets = {name: loader(root, args.size) for name, loader in LOADERS.items()}
        except (FileNotFoundError, ImportError) as error:
            sys.exit(f"error: {error}")
        loading = {
            "per_core": summary(per_core(datasets, args.repeats), "lightly"),
            "all_cores": summary(all_cores(datasets, args.repeats, args.workers), "lightly"),
        }
    print(text(f"loading and augmentation, {images} images, one core", loading["per_core"]))
    print(text(f"the same, {args.workers} workers", loading["all_cores"]))
    step = None
    if args.steps:
        work = throughput_steps.competitors(batch_size, args.step_size, args.precision, device)
        if device.type == "cpu":
            torch.set_num_threads(1)
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        step = summary(rounds(work, args.steps, clock), "lightly")
        print(text(f"a SimCLR step of {batch_size} photographs, {args.precision}", step))
    machine: dict[str, Any] = {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "environment": {k: v for k, v in os.environ.items() if k.startswith(TUNING)},
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    settings = {"precision": args.precision, "repeats": args.steps, "competitors": step}
    return {
        "images": images,
        "drawn": args.images is None,
        "size": args.size,
        "repeats": args.repeats,
        "workers": args.workers,
        "loading": loading,
        "step": {"batch_size": batch_size, "size": args.step_size, **settings} if step else None,
        "machine": machine,
        "versions": {"lightly": metadata.version("lightly")},
        "git_commit": git_commit(),
    }
