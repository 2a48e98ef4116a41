"""Losses of three other kinds, defined here alone: they train, are saved, and run in parallel."""

import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import nn

from pretrain.local_data_parallel import LocalDistributed
from pretrain.losses import LOSSES, Batch, InfoNCE, LocalLoss, build_loss
from pretrain.losses.info_nce import gather, info_nce
from tests.helpers.tiny_model import TWO_VIEWS, tiny_model
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow

IMAGES, CLASSES, MOMENTUM = 6, 3, 0.9
VIEWS = torch.randint(
    0, 256, (IMAGES, 2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
DATA = {"views": VIEWS, "image_id": torch.arange(IMAGES) + 10, "label": torch.arange(IMAGES) % 3}


class BarlowTwins(LocalLoss):
    """Zbontar et al., 2021: the correlation of the two views' channels is the identity."""

    def forward(self, embeddings, batch):
        z = gather(embeddings, self.process_group)
        first = torch.cat([part.chunk(2)[0] for part in z.split(len(embeddings))])
        second = torch.cat([part.chunk(2)[1] for part in z.split(len(embeddings))])
        a, b = ((v - v.mean(0)) / v.std(0, correction=0) for v in (first, second))
        return ((a.T @ b / len(a) - torch.eye(a.shape[1])) ** 2).sum()


class Supervised(LocalLoss):
    """A linear classifier; counts in a buffer which images it has seen."""

    def __init__(self, classes, out_dim):
        super().__init__()
        self.classifier = nn.Linear(out_dim, classes)
        self.register_buffer("seen", torch.zeros(100, dtype=torch.long))

    def forward(self, embeddings, batch):
        self.seen[batch.image_id] += 1
        return F.cross_entropy(self.classifier(embeddings), batch.label)


class BYOL(LocalLoss):
    """Grill et al., 2020: predicts what a slow copy of the network makes of the other view."""

    def __init__(self, out_dim):
        super().__init__()
        self.predictor = nn.Linear(out_dim, out_dim)
        self.updates = 0

    def start(self, network):
        self.target = copy.deepcopy(network).requires_grad_(False)

    def forward(self, embeddings, batch):
        with torch.no_grad():
            expected = self.target(batch.images)[batch.other_view]
        return 2 - 2 * F.cosine_similarity(self.predictor(embeddings), expected).mean()

    def after_update(self, network):
        self.updates += 1
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 1 - MOMENTUM)


CONFIGS = {
    "BarlowTwins": {"type": "BarlowTwins"},
    "Supervised": {"type": "Supervised", "classes": CLASSES, "out_dim": 16},
    "BYOL": {"type": "BYOL", "out_dim": 16},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for loss in (BarlowTwins, Supervised, BYOL):
        monkeypatch.setitem(LOSSES.module_dict, loss.__name__, loss)


def make(name, **options):
    return tiny_model(loss=CONFIGS[name], data_preprocessor=TWO_VIEWS, **options)


def fix_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def sgd(model):
    return OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_unit_s_gradients_are_autograd_s(name):
    """The lowest unit alone, its loss included, against plain backpropagation of a copy."""
    model = make(name)
    twin = copy.deepcopy(model)
    given = twin.data_preprocessor(DATA)
    batch = Batch(given["views"], given["image_id"], given["label"])
    x = batch.images
    for block in twin.encoder.blocks()[: model.units[0].stop]:
        for module in block:
            x = module(x)
    loss = twin.losses[0](twin.decoders[0](x), batch)
    loss.backward()
    found = model.local_gradients(DATA, sgd(model))
    torch.testing.assert_close(found["loss_res2+res3"], loss.detach(), rtol=1e-10, atol=0)
    parts = [(model.decoders[0], twin.decoders[0]), (model.losses[0], twin.losses[0]),
             (model.encoder.conv1, twin.encoder.conv1)]  # fmt: skip
    for part, other in parts:
        for p, q in zip(part.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_micro_batches_give_the_large_batch_s_gradients(name):
    whole, parts = (fix_statistics(make(name, micro_batch_size=size)) for size in (None, 2))
    losses = [model.local_gradients(DATA, sgd(model)) for model in (whole, parts)]
    torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
    for (key, p), q in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert p.requires_grad == (p.grad is not None), key
        if p.requires_grad:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-12, msg=key)


def test_parameters_train_buffers_are_saved_and_a_loss_is_told_of_updates():
    model = make("Supervised")
    before = model.losses[1].classifier.weight.clone()
    model.train_step(DATA, sgd(model))
    assert not torch.equal(model.losses[1].classifier.weight, before)
    assert model.state_dict()["losses.2.seen"].nonzero().flatten().tolist() == [*range(10, 16)]

    model = make("BYOL")
    slow = [p.clone() for p in model.losses[0].target.parameters()]
    model.train_step(DATA, sgd(model))
    assert [loss.updates for loss in model.losses] == [1, 1, 1]
    network = [*model.encoder.conv1.parameters()]
    expected = MOMENTUM * slow[0] + (1 - MOMENTUM) * network[0]
    torch.testing.assert_close(next(model.losses[0].target.parameters()), expected)
    restored = make("BYOL")
    restored.load_state_dict(model.state_dict())
    assert not torch.equal(slow[0], next(restored.losses[0].target.parameters()))


def test_two_processes_are_one(tmp_path):
    """Norms frozen; the loss's own parameters are averaged with the others."""

    def work(rank):
        half = slice(rank * IMAGES // 2, (rank + 1) * IMAGES // 2)
        for name in CONFIGS:
            model = fix_statistics(make(name))
            if rank:  # the wrapper gives it rank 0's
                nn.init.zeros_(next(model.losses.parameters(), torch.zeros(1)))
            model = LocalDistributed(model)
            losses = model.train_step({k: v[half] for k, v in DATA.items()}, sgd(model))
            weights = {k: p.detach() for k, p in model.module.named_parameters()}
            torch.save((losses, weights), tmp_path / f"{name}{rank}")

    in_two_processes(work, tmp_path)
    for name in CONFIGS:
        model = fix_statistics(make(name))
        losses = model.train_step(DATA, sgd(model))
        for rank in (0, 1):
            theirs, weights = torch.load(tmp_path / f"{name}{rank}", weights_only=True)
            for key, loss in losses.items():
                torch.testing.assert_close(theirs[key], loss, rtol=1e-9, atol=0)
            for key, parameter in model.named_parameters():
                torch.testing.assert_close(weights[key], parameter.data, rtol=1e-9, atol=1e-12)


def test_a_group_is_a_training_of_its_own(tmp_path):
    """Two processes in a group each, with synchronised norms: each is one process alone."""

    def part(rank):
        return {k: v[rank * IMAGES // 2 : (rank + 1) * IMAGES // 2] for k, v in DATA.items()}

    def work(rank):
        group = [dist.new_group([each]) for each in (0, 1)][rank]
        model = nn.SyncBatchNorm.convert_sync_batchnorm(make("BarlowTwins"))
        losses = LocalDistributed(model, group).train_step(part(rank), sgd(model))
        torch.save((losses, [p.detach() for p in model.parameters()]), tmp_path / str(rank))

    in_two_processes(work, tmp_path)
    for rank in (0, 1):
        model = make("BarlowTwins")
        losses = model.train_step(part(rank), sgd(model))
        theirs, weights = torch.load(tmp_path / str(rank), weights_only=True)
        torch.testing.assert_close(theirs, dict(losses), rtol=1e-9, atol=0)
        torch.testing.assert_close(
            weights, [p.data for p in model.parameters()], rtol=1e-9, atol=1e-9
        )


def test_a_batch_knows_which_rows_are_views_of_one_image():
    batch = Batch(torch.empty(6, 3, 1, 1))
    assert batch.other_view.tolist() == [3, 4, 5, 0, 1, 2]


def test_info_nce_is_built_by_name_and_has_no_state():
    loss = build_loss({"type": "InfoNCE", "temperature": 0.5})
    embeddings = torch.randn(6, 4)
    assert isinstance(loss, InfoNCE) and not loss.state_dict()
    batch = Batch(torch.empty(6, 3, 1, 1))
    assert torch.equal(loss(embeddings, batch), info_nce(embeddings, 0.5))
    with pytest.raises(ValueError, match=r"unknown loss 'Triplet'; the losses are: .*InfoNCE"):
        build_loss({"type": "Triplet"})
    with pytest.raises(ValueError, match="temperature of InfoNCE is 0"):
        build_loss({"type": "InfoNCE", "temperature": 0})
