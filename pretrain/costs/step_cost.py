"""What one training step costs in peak memory and in work, counted without allocating.

A step is everything from the images to the last gradient. Optimizer state is not in it: it is as
large as the parameters are (LARS's momentum), whatever the method.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pretrain.costs.flops import MultiplyAdds
from pretrain.costs.peak_memory import MIB, PeakMemory
from pretrain.decoders import stage_of
from pretrain.encoders import ConvolutionalEncoder, build_encoder, run_block
from pretrain.local_backward import OnReady
from pretrain.local_data_parallel import LocalDistributed
from pretrain.losses import Batch
from pretrain.methods import complete
from pretrain.model import LocalContrastive


@dataclass(frozen=True)
class Step:
    """How a step is taken.

    Attributes:
        method: a name in :data:`pretrain.methods.METHODS`.
        recomputes: whether stages may be recomputed.
        naive: every unit runs its own forward pass, and one backward pass takes the summed losses.
    """

    method: str
    recomputes: bool = False
    naive: bool = False


STEPS = {
    "simclr": Step("simclr"),
    "simclr_checkpoint": Step("simclr", recomputes=True),
    "gim": Step("gim"),
    "gim_recompute": Step("gim", recomputes=True),
    "loco": Step("loco"),
    "loco_recompute": Step("loco", recomputes=True),
    "loco_naive": Step("loco", naive=True),
}


@dataclass(frozen=True)
class Workload:
    """What a step is taken of.

    Attributes:
        encoder: a name in :data:`pretrain.encoders.ENCODERS`.
        batch_size: images that enter the encoder in a step, over all processes. Two of them are
            views of one photograph, so that this is twice the batch of a training config.
        image_size: height and width, in pixels.
        world_size: processes; what is counted is one of them.
        precision: ``float32``, or ``bfloat16`` for autocast.
    """

    encoder: str
    batch_size: int
    image_size: int = 224
    world_size: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.world_size < 1 or self.batch_size % (2 * self.world_size) or self.batch_size < 4:
            raise ValueError(
                f"batch size {self.batch_size} over {self.world_size} processes: each needs the "
                "same even number of images, and there must be 4 or more in all"
            )

    @property
    def local_batch_size(self) -> int:
        """Images on one process."""
        return self.batch_size // self.world_size

    def model(self, step: Step, recompute: Sequence[str] = ()) -> LocalContrastive:
        """A model of the step's method, in training mode."""
        # Images come as the encoder takes them; the preprocessor is never asked.
        arguments: dict[str, Any] = {"data_preprocessor": {"type": "BaseDataPreprocessor"}}
        complete(arguments, step.method)
        if not isinstance(build_encoder(self.encoder), ConvolutionalEncoder):
            arguments["decoder"]["conv_blocks"] = 0
        return LocalContrastive(self.encoder, recompute=recompute, **arguments).train()


def take_step(
    model: LocalContrastive,
    step: Step,
    images: Tensor,
    precision: str,
    on_ready: OnReady = lambda parameters: None,
) -> None:
    """Leave the gradients of one batch, (2N, 3, H, W), in ``.grad``."""
    bf16 = precision == "bfloat16"
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        if not step.naive:
            model.backward(Batch(images), on_ready)
            return
        torch.stack(naive_losses(model, images)).sum().backward()
        on_ready([p for p in model.parameters() if p.requires_grad])


def naive_losses(model: LocalContrastive, images: Tensor) -> list[Tensor]:
    """The losses as one would write them first: each unit forward by itself, from its own input.

    A stage that two units share runs twice, and nothing is freed before the summed backward pass.
    """
    blocks = model.encoder.blocks()
    inputs = {0: images}
    losses = []
    for unit, decoder, loss in zip(model.units, model.decoders, model.losses, strict=True):
        x = inputs.pop(unit.start)
        for number in range(unit.start, unit.stop):
            x = run_block(blocks[number], x)
            if any(upper.start == number + 1 for upper in model.units):
                inputs.setdefault(number + 1, x.detach())
        losses.append(loss(decoder(x), Batch(images)))
    return losses


@dataclass(frozen=True)
class StepCount:
    """What was counted of a step.

    Attributes:
        peak_bytes: alive at once.
        passes: multiply-adds, as :class:`pretrain.costs.flops.MultiplyAdds` tells them apart.
        recompute: the stages that ran forward again.
    """

    peak_bytes: int
    passes: Counter[str]
    recompute: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole step."""
        return self.passes.total()

    @property
    def peak_memory_mib(self) -> float:
        """The peak in MiB."""
        return self.peak_bytes / MIB


def count_step(work: Workload, step: Step, recompute: Sequence[str] = ()) -> StepCount:
    """Count a step on one of the workload's processes; no memory is allocated.

    Parameters, buffers, gradients, images and all that the passes keep are in the peak; with more
    than one process also the buckets in which gradients are averaged. Where two gradients of one
    tensor meet, autograd adds in place on real tensors only, so the count may be high by one
    activation there; kernels' workspaces are not in it.
    """
    with _processes(work.world_size), FakeTensorMode(), PeakMemory() as memory:
        model = work.model(step, recompute)
        images = torch.empty(work.local_batch_size, 3, work.image_size, work.image_size)
        wrapper = LocalDistributed(model) if work.world_size > 1 else None
        memory.forget_peak()
        with MultiplyAdds() as done:
            if wrapper is None:
                take_step(model, step, images, work.precision)
            else:
                take_step(model, step, images, work.precision, wrapper._start_average)
                wrapper._finish_averages()
    return StepCount(memory.peak_bytes, done.passes, tuple(recompute))


def decoder_macs(work: Workload, step: Step) -> Counter[str]:
    """Multiply-adds of a step's decoders and losses alone, in both directions."""
    with _processes(work.world_size), FakeTensorMode():
        model = work.model(step)
        batch = Batch(torch.empty(work.local_batch_size, 3, work.image_size, work.image_size))
        with torch.no_grad():
            shapes = [features.shape for features in model.encoder(batch.images)]
        with MultiplyAdds() as done:
            for unit, decoder, loss in zip(model.units, model.decoders, model.losses, strict=True):
                shape = shapes[stage_of(model.encoder, unit.stop)]
                features = torch.empty(shape, requires_grad=True)
                loss(decoder(features), batch).backward()
    return done.passes


def work_parts(step: StepCount, decoders: Counter[str]) -> dict[str, int]:
    """Where the multiply-adds of a step go; the parts sum to ``step.macs``.

    Args:
        step: the count of a step.
        decoders: that of its decoders alone.

    Returns:
        ``forward``, ``input_gradients`` and ``weight_gradients`` of the encoder, what is recomputed
        among the first, and ``decoders``, theirs in all passes and the losses'.
    """
    encoder = {
        name: step.passes[name] - decoders[name]
        for name in ("forward", "input_gradients", "weight_gradients")
    }
    products = step.passes["linear"] - decoders["linear"]  # of an encoder with linear layers
    linear = {"matrix_products": products} if products else {}
    return {**encoder, **linear, "decoders": decoders.total()}


def best_recomputation(
    work: Workload,
    step: Step,
    most_macs: float,
    progress: Callable[[int, int], None] = lambda done, wanted: None,
) -> StepCount:
    """The set of stages whose recomputation lowers the peak most, of all sets that are allowed.

    Args:
        work: the workload.
        step: one that may recompute.
        most_macs: a step may not take more multiply-adds than this.
        progress: is told how many steps were counted, and how many there are.

    Returns:
        The count of the best step; where two peaks differ by less than half a percent, of the one
        with less work. Its ``recompute`` is empty where nothing helps or nothing is allowed.
    """
    names = build_encoder(work.encoder).stage_names
    plain = count_step(work, step)
    alone: dict[str, StepCount] = {}
    for name in names:
        progress(len(alone) + 1, len(names) + 1)
        alone[name] = count_step(work, step, (name,))
    # Each stage adds its own passes and no others, so the work is known beforehand.
    allowed = [
        recompute
        for size in range(1, len(names) + 1)
        for recompute in combinations(names, size)
        if plain.macs + sum(alone[name].macs - plain.macs for name in recompute) <= most_macs
    ]
    found = [plain]
    for recompute in allowed:
        single = len(recompute) == 1
        progress(len(names) + len(found), len(names) + 1 + len(allowed))
        found.append(alone[recompute[0]] if single else count_step(work, step, recompute))
    lowest = min(count.peak_bytes for count in found)
    good = [count for count in found if count.peak_bytes <= 1.005 * lowest]
    return min(good, key=lambda count: (count.macs, count.peak_bytes))


@contextmanager
def _processes(world_size: int) -> Iterator[None]:
    """A process group of that size with nobody in it but us: collectives copy nothing."""
    if world_size == 1:
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore  # registers "fake"

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()
