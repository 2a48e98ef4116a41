"""The synchronised norm on a CPU against a batch norm of the joined batch (float64)."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from pretrain.losses import Batch
from pretrain.step.norm import describe_norm
from pretrain.step.sync_norm import CPUSyncBatchNorm, synchronise_on_cpu
from tests.helpers.tiny_model import tiny_model
from tests.helpers.two_processes import in_two_processes

TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}
STEPS = 2  # the second begins with statistics and gradients of the first
# Arguments of the norm, and the shape of each process's batch.
CASES = {
    "2d": ({}, [(4, 3, 5, 6), (4, 3, 5, 6)]),
    "1d": ({}, [(8, 3), (8, 3)]),
    "sequence": ({}, [(4, 3, 7), (4, 3, 7)]),
    "unequal batches": ({}, [(2, 3, 5, 6), (5, 3, 5, 6)]),
    "unequal sizes": ({}, [(2, 3, 4, 4), (2, 3, 7, 5)]),
    "an empty batch": ({}, [(0, 3, 5, 6), (5, 3, 5, 6)]),
    "one value a process": ({}, [(1, 3), (1, 3)]),
    "cumulative average": ({"momentum": None}, [(4, 3, 5, 6), (4, 3, 5, 6)]),
    "other constants": ({"momentum": 0.37, "eps": 0.1}, [(4, 3, 5, 6), (4, 3, 5, 6)]),
    "not affine": ({"affine": False}, [(4, 3, 5, 6), (4, 3, 5, 6)]),
    "no statistics": ({"track_running_stats": False}, [(4, 3, 5, 6), (4, 3, 5, 6)]),
    "far from zero": ({}, [(4, 3, 5, 6), (4, 3, 5, 6)]),
}


def inputs(name: str) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Of every step and process: a batch, and the gradient of its output."""
    generator = torch.Generator().manual_seed(len(name))
    offset = 1e4 if name == "far from zero" else 0.5
    return [
        [
            (offset + torch.randn(shape, dtype=torch.float64, generator=generator),
             torch.randn(shape, dtype=torch.float64, generator=generator))
            for shape in CASES[name][1]
        ]
        for _ in range(STEPS)
    ]  # fmt: skip


def make_norm(kind: type[nn.Module], name: str) -> nn.Module:
    norm = kind(3, **CASES[name][0]).double()
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, -2.0, 1.5]))
            norm.bias.copy_(torch.tensor([0.1, 0.0, -3.0]))
    return norm


def run_norm(norm: nn.Module, x: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    output = norm(x)
    output.backward(grad)
    return {"output": output.detach(), "input gradient": x.grad}


def worker(rank: int, folder: Path) -> None:
    found = {}
    for name in CASES:
        norm = make_norm(CPUSyncBatchNorm, name)
        steps = [run_norm(norm, *step[rank]) for step in inputs(name)]
        steps.append({"output": norm.eval()(inputs(name)[0][rank][0]).detach()})
        gradients = {key: p.grad for key, p in norm.named_parameters()}
        found[name] = (steps, gradients, norm.state_dict())
    low = CPUSyncBatchNorm(3)
    x, grad = (t.bfloat16() for t in inputs("2d")[0][rank])
    found["bfloat16"] = run_norm(low, x, grad) | low.state_dict()
    x.zero_()
    found["constant"] = run_norm(CPUSyncBatchNorm(3), x.float(), grad.float())
    model, images = recomputing(rank)
    synchronise_on_cpu(nn.SyncBatchNorm.convert_sync_batchnorm(model))
    losses = [model.backward(Batch(images)) for _ in range(STEPS)]
    found["recomputed"] = (losses, {k: p.grad for k, p in model.named_parameters()},
                           dict(model.named_buffers()), describe_norm(model))  # fmt: skip
    torch.save(found, folder / f"rank{rank}")


def recomputing(rank: int, recompute=("res2", "res3", "res4", "res5")):
    model = tiny_model(recompute=recompute)
    views = torch.randn(2, 8, 3, 32, 32, dtype=torch.float64)  # two views of 8 images
    if rank < 0:
        return model, views.flatten(0, 1)
    return model, views[:, 4 * rank : 4 * rank + 4].flatten(0, 1)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("norm")
    in_two_processes(lambda rank: worker(rank, folder), folder)
    return [torch.load(folder / f"rank{rank}", weights_only=True) for rank in range(2)]


def joined(name: str, step: int) -> list[torch.Tensor]:
    """The batches and gradients of both processes in one; images of several sizes as one row."""
    parts = zip(*inputs(name)[step], strict=True)
    return [torch.cat([t.transpose(0, 1).reshape(3, -1) for t in part], 1).T for part in parts]


def rows(tensors) -> torch.Tensor:
    return torch.cat([t.transpose(0, 1).reshape(3, -1) for t in tensors], 1).T


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_equals_batch_norm_over_the_joined_batch(name, found):
    norm = make_norm(nn.BatchNorm1d, name)
    for step in range(STEPS):
        expected = run_norm(norm, *joined(name, step))
        for key, value in expected.items():
            both = rows([rank[name][0][step][key] for rank in found])
            torch.testing.assert_close(both, value, **TOLERANCE, msg=f"{key} of step {step}")
    for rank in found:
        for key, buffer in norm.named_buffers():
            torch.testing.assert_close(rank[name][2][key], buffer, **TOLERANCE, msg=key)
    for key, parameter in norm.named_parameters():
        total = sum(rank[name][1][key] for rank in found)
        torch.testing.assert_close(total, parameter.grad, **TOLERANCE, msg=key)


@pytest.mark.parametrize("name", [name for name in CASES if name != "no statistics"])
def test_in_eval_mode_it_is_a_plain_batch_norm(name, found):
    for rank in range(2):
        norm = make_norm(nn.SyncBatchNorm, name)
        norm.load_state_dict(found[rank][name][2])
        expected = norm.eval()(inputs(name)[0][rank][0])
        assert torch.equal(found[rank][name][0][-1]["output"], expected)


def test_a_low_precision_is_summed_in_float32(found):
    norm = nn.BatchNorm2d(3)
    x, grad = (torch.cat(t).bfloat16() for t in zip(*inputs("2d")[0], strict=True))
    expected = run_norm(norm, x.float(), grad.float())
    for key, value in expected.items():
        both = torch.cat([rank["bfloat16"][key] for rank in found])
        assert both.dtype == torch.bfloat16
        torch.testing.assert_close(both.float(), value, rtol=2**-7, atol=1e-3)  # 8 bits
    for key, buffer in norm.named_buffers():
        torch.testing.assert_close(found[0]["bfloat16"][key], buffer, msg=key)


def test_a_constant_batch_is_zero(found):
    assert all(not rank["constant"]["output"].any() for rank in found)


def test_recomputed_stages_synchronise_too_and_count_once(found):
    """Every stage forgets and runs again: same gradients, and statistics of one run a step."""
    model, images = recomputing(-1, recompute=())
    losses = [model.backward(Batch(images)) for _ in range(STEPS)]
    for step in range(STEPS):
        both = [torch.stack(rank["recomputed"][0][step]) for rank in found]
        torch.testing.assert_close(sum(both) / 2, torch.stack(losses[step]), rtol=1e-10, atol=0)
    for name, parameter in model.named_parameters():
        mean = sum(rank["recomputed"][1][name] for rank in found) / 2
        assert (mean - parameter.grad).norm() <= 1e-10 * parameter.grad.norm(), name
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(found[0]["recomputed"][2][name], buffer, **TOLERANCE, msg=name)
        assert not name.endswith("num_batches_tracked") or buffer == STEPS
    assert found[0]["recomputed"][3] == "SyncBatchNorm over 2 processes"


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_its_derivative_is_that_of_differences(one_process):
    norm = make_norm(CPUSyncBatchNorm, "2d")
    x = torch.randn(3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weight, bias = (p.detach().clone().requires_grad_() for p in norm.parameters())

    def of(x, weight, bias):
        values = {"weight": weight, "bias": bias}
        return torch.func.functional_call(norm, values, (x,))

    assert torch.autograd.gradcheck(of, (x, weight, bias))


def test_a_single_value_is_refused(one_process):
    with pytest.raises(ValueError, match=r"one value a channel over all processes, got \(1, 3\)"):
        CPUSyncBatchNorm(3)(torch.zeros(1, 3))
    norm = CPUSyncBatchNorm(3)
    norm(torch.zeros(0, 3, 2, 2))  # nothing seen: nothing to track
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any()


def test_only_torchs_synchronised_norm_is_replaced_and_nothing_of_its_state():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3, eps=0.1), nn.Conv2d(3, 3, 1))
    before = copy.deepcopy(model.state_dict())
    synchronise_on_cpu(model)
    assert [type(m) for m in model] == [nn.BatchNorm2d, CPUSyncBatchNorm, nn.Conv2d]
    assert model[1].eps == 0.1 and model.state_dict().keys() == before.keys()
    on_gpu = nn.SyncBatchNorm(3, device="meta")  # any device but a CPU: torch's own runs
    synchronise_on_cpu(on_gpu)
    assert type(on_gpu) is nn.SyncBatchNorm
