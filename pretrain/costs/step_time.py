"""How long a training step takes, and CUDA's own account of its memory."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pretrain.costs.peak_memory import MIB
from pretrain.costs.step_cost import STEPS, Workload, take_step


@dataclass(frozen=True)
class StepTime:
    """What was measured: the median ``seconds``; ``allocated_mib`` is CUDA's own peak, or None."""

    seconds: float
    allocated_mib: float | None


def measure_steps(
    work: Workload, settings: dict[str, tuple[str, ...]], repeats: int, device: torch.device
) -> dict[str, StepTime]:
    """Take real steps on random images, the methods in turn, so that a slow spell meets them all.

    Args:
        work: the workload; its ``world_size`` is ignored, one process takes its local batch.
        settings: method names of :data:`STEPS`, each with the stages to recompute.
        repeats: timed rounds, after one that is not.
        device: where to.
    """
    torch.manual_seed(0)
    models = {
        name: work.model(STEPS[name], recompute).to(device) for name, recompute in settings.items()
    }
    images = torch.randn(work.local_batch_size, 3, work.image_size, work.image_size, device=device)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    allocated: dict[str, float] = {}
    for _ in range(1 + repeats):
        for name, model in models.items():
            others = _clean(model, images)
            start = time.perf_counter()
            take_step(model, STEPS[name], images, work.precision)
            if device.type == "cuda":
                torch.cuda.synchronize()
                allocated[name] = (torch.cuda.max_memory_allocated() - others) / MIB
            seconds[name].append(time.perf_counter() - start)
            model.zero_grad(set_to_none=True)
    return {
        name: StepTime(statistics.median(timed[1:]), allocated.get(name))
        for name, timed in seconds.items()
    }


def _clean(model: nn.Module, images: Tensor) -> int:
    """Begin a step; gives the bytes that other models have on the device."""
    if images.device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    own = sum(t.nbytes for t in [images, *model.parameters(), *model.buffers()])
    return torch.cuda.memory_allocated() - own
