"""Two processes with batch N are one process with batch 2N (float64, gloo)."""

import copy
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler

import pretrain.engine.sampler  # noqa: F401  (registers the config's sampler)
from pretrain.encoders import build_encoder
from pretrain.local_data_parallel import LocalDistributed
from pretrain.model import LocalContrastive
from pretrain.step.lars import ExcludeBiasAndNorm
from pretrain.step.norm import describe_norm
from pretrain.units import build_units, segment_bounds
from tests.helpers.tiny_model import TWO_VIEWS, tiny_model
from tests.helpers.two_processes import in_two_processes

STEPS, IMAGES = 3, 8
# Norm, method, encoder and whatever else a model can be built with.
CASES = {
    "frozen simclr": ("frozen", "simclr", "resnet_tiny", {}),
    "frozen gim": ("frozen", "gim", "resnet_tiny", {}),
    "frozen loco": ("frozen", "loco", "resnet_tiny", {}),
    "simclr": ("synchronised", "simclr", "resnet_tiny", {}),
    "gim": ("synchronised", "gim", "resnet_tiny", {}),
    "loco": ("synchronised", "loco", "resnet_tiny", {}),
    "upper": ("synchronised", "loco", "resnet_tiny", {"sharing": {"upper_gradient_only": True}}),
    "l2": ("synchronised", "loco", "resnet_tiny", {"sharing": {"l2": 1e-2}}),
    "recompute": ("synchronised", "loco", "resnet_tiny", {"recompute": ("res2", "res4")}),
    "micro-batches": ("frozen", "loco", "resnet_tiny", {"micro_batch_size": 2}),
    "channels last": ("synchronised", "loco", "resnet_tiny", {"channels_last": True}),
    "presnet": ("synchronised", "loco", "presnet_tiny", {}),
    "shufflenet": ("synchronised", "loco", "shufflenetv2_tiny", {}),
}


def make_model(norm: str, method: str, encoder: str, options: dict) -> LocalContrastive:
    model = tiny_model(method, encoder, data_preprocessor=TWO_VIEWS, **options)
    return model.train(norm == "synchronised")


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = (STEPS, IMAGES, 2, 3, 32, 32)
    return list(torch.randint(0, 256, size, dtype=torch.uint8, generator=generator))


def train(model, parts) -> list[dict[str, float]]:
    optimizer = {"type": "LARS", "lr": 1.0, "momentum": 0.9, "weight_decay": 1e-6}
    wrapper = ExcludeBiasAndNorm({"optimizer": optimizer})(model)
    steps = [model.train_step({"views": views}, wrapper) for views in parts]
    return [{name: float(loss) for name, loss in step.items()} for step in steps]


def worker(rank: int, folder: Path) -> None:
    found = {}
    for name, case in CASES.items():
        model = make_model(*case)
        if case[0] == "synchronised":  # what mmengine's Runner does by `sync_bn = "torch"`
            model = convert_sync_batchnorm(model).train()
        if rank:  # the wrapper has to give it rank 0's weights
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1)
        half = IMAGES // 2
        parts = [batch[rank * half : (rank + 1) * half] for batch in batches()]
        losses = train(LocalDistributed(model), parts)
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        found[name] = {"losses": losses, "weights": weights, "norm": describe_norm(model)}
    torch.save(found, folder / f"rank{rank}")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    in_two_processes(lambda rank: worker(rank, folder), folder)
    return [torch.load(folder / f"rank{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(name, found):
    model = make_model(*CASES[name])
    start = copy.deepcopy(model.state_dict())
    losses = train(model, batches())
    frozen = CASES[name][0] == "frozen"
    for rank in found:
        assert rank[name]["norm"] == (
            "frozen BatchNorm" if frozen else "SyncBatchNorm over 2 processes"
        )
        for ours, theirs in zip(losses, rank[name]["losses"], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-9)
        assert rank[name]["weights"].keys() == start.keys()
        for key, weight in model.state_dict().items():
            difference = (rank[name]["weights"][key] - weight).double()
            assert difference.norm() <= 1e-9 * weight.double().norm() + 1e-12, key
    convolutions = [k for k in start if k.endswith("conv1.weight")]
    moved = [not torch.equal(model.state_dict()[k], start[k]) for k in convolutions]
    assert all(moved), "a convolution that did not train proves nothing"


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Wait:
    """A collective at work; says when it is waited for."""

    def __init__(self, work, events):
        self.work, self.events = work, events

    def wait(self):
        self.events.append("wait")
        self.work.wait()


def tell_backward(event, events, _module, _input, output) -> None:
    """Remember ``event`` each time that a gradient reaches ``output``."""
    output.register_hook(lambda _: events.append(event))


def recorded_step(model, monkeypatch) -> list[str]:
    """What one step does, in order."""
    events: list[str] = []
    names = model.encoder.stage_names
    sizes = {
        sum(p.numel() for m in stage for block in m for p in block.parameters()): name
        for name, stage in zip(names, model.encoder.stages(), strict=True)
    }
    for unit, decoder in zip(model.units, model.decoders, strict=True):
        sizes[sum(p.numel() for p in decoder.parameters())] = f"decoder of {unit.name}"
    assert len(sizes) == len(names) + len(model.units), "two of equal size cannot be told apart"
    for name, stage in zip(names, model.encoder.stages(), strict=True):
        last = stage[-1][-1]
        last.register_forward_pre_hook(lambda *_, name=name: events.append(f"forward {name}"))
        last.register_forward_hook(partial(tell_backward, f"backward {name}", events))
    all_reduce = dist.all_reduce

    def record(tensor, group=None, async_op=False):
        if not async_op:
            return all_reduce(tensor)
        events.append(f"average {sizes.get(tensor.numel(), tensor.numel())}")
        return Wait(all_reduce(tensor, async_op=True), events)

    monkeypatch.setattr(dist, "all_reduce", record)
    wrapped = LocalDistributed(model)
    monkeypatch.setattr(model, "update", lambda _: events.append("update"))
    train(wrapped, batches()[:1])
    return events


def test_a_finished_unit_is_averaged_while_the_next_is_computed(one_process, monkeypatch):
    """GIM: every average but the last stage's is under way before the next stage has begun."""
    model = make_model("frozen", "gim", "resnet_tiny", {})
    of_a_stage = ["forward {0}", "average decoder of {0}", "backward {0}", "average {0}"]
    stages = [event.format(name) for name in model.encoder.stage_names for event in of_a_stage]
    assert recorded_step(model, monkeypatch) == [*stages, *["wait"] * 8, "update"]


def test_a_shared_stage_is_averaged_when_its_last_unit_is_done(one_process, monkeypatch):
    """LoCo: res3 goes backward twice, and is averaged after the second time, before res5 begins."""
    events = recorded_step(make_model("frozen", "loco", "resnet_tiny", {}), monkeypatch)
    assert events == [
        "forward res2", "forward res3",
        "average decoder of res2+res3", "backward res3", "backward res2", "average res2",
        "forward res4",
        "average decoder of res3+res4", "backward res4", "backward res3", "average res3",
        "forward res5",
        "average decoder of res4+res5", "backward res5", "average res5",
        "backward res4", "average res4",
        *["wait"] * 7, "update",
    ]  # fmt: skip


def test_gradients_lie_in_their_buckets_and_nowhere_else(one_process, monkeypatch):
    """One tensor a decoder and a segment, as many elements as there are parameters."""
    model = make_model("frozen", "loco", "resnet_tiny", {"channels_last": True})
    monkeypatch.setattr(model, "update", lambda _: None)
    train(LocalDistributed(model), batches()[:1])
    buckets = {p.grad.untyped_storage().data_ptr(): p.grad for p in model.parameters()}
    assert len(buckets) == len(segment_bounds(model.units)) + len(model.decoders) == 7
    elements = sum(grad.untyped_storage().nbytes() // 8 for grad in buckets.values())
    assert elements == sum(p.numel() for p in model.parameters())
    assert all(p.grad.stride() == p.stride() for p in model.parameters())


def test_buckets_of_resnet50():
    """In MiB of float32: none so small that its latency counts, none the whole model but SimCLR's.

    torch's own data-parallel training takes 25 MiB.
    """
    with torch.device("meta"):
        encoder = build_encoder("resnet50")
    sizes = {}
    for method in ("simclr", "gim", "loco"):
        segments = segment_bounds(build_units(method, encoder))
        sizes[method] = [
            round(sum(p.numel() for block in encoder.blocks()[a:b] for m in block
                      for p in m.parameters()) * 4 / 2**20, 1)
            for a, b in segments
        ]  # fmt: skip
    assert sizes == {
        "simclr": [89.7],
        "gim": [0.9, 4.7, 27.1, 57.1],
        "loco": [0.9, 4.7, 27.1, 57.1],
    }


@pytest.mark.parametrize("processes", [2, 3, 4, 8])
@pytest.mark.parametrize("images", [24, 25, 31, 47, 48, 100])
def test_every_process_has_its_part_of_the_batches_of_one(processes, images, monkeypatch):
    """A process with a batch more than the others would wait for them for ever."""

    def batches_of(rank: int, processes: int) -> list[list[int]]:
        monkeypatch.setattr("mmengine.dataset.sampler.get_dist_info", lambda: (rank, processes))
        config = Config.fromfile("configs/_base_/pretrain.py", import_custom_modules=False)
        loader = config.train_dataloader
        defaults = {"dataset": range(images), "seed": 0}
        sampler = DATA_SAMPLERS.build(loader.sampler, default_args=defaults)
        return list(BatchSampler(sampler, 24 // processes, loader.drop_last))

    ranks = [batches_of(rank, processes) for rank in range(processes)]
    assert len({len(batches) for batches in ranks}) == 1
    assert {len(batch) for batches in ranks for batch in batches} == {24 // processes}
    together = [sorted(chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert together == [sorted(batch) for batch in batches_of(0, 1)]
