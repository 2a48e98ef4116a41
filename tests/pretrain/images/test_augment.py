"""SimCLR's augmentation against torchvision's functions, Pillow's resize and its own statistics."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pretrain.images import batch_colour
from pretrain.images.augment import SimCLRAugmentation, View, crop
from pretrain.images.colour import IDENTITY, Colour, blur_kernel, distort, grey, kernel_side

# The operation at each place of Colour.factors, and how far whole levels may be off: torchvision
# cuts off where we round, in saturation twice.
TORCHVISION = (
    (functional.adjust_brightness, 1),
    (functional.adjust_contrast, 1),
    (functional.adjust_saturation, 2),
    (functional.adjust_hue, 1),
)


def image(height: int = 224, width: int = 224, seed: int = 0) -> np.ndarray:
    """Smooth colours in one half, every value there is in the other."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([127 + 127 * np.sin(x / 31 + c) * np.cos(y / 17 - c) for c in range(3)], -1)
    return np.where(x[..., None] < width // 2, smooth.astype(np.uint8), noise)


def planes(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def on_device(pixels: np.ndarray, colour: Colour) -> np.ndarray:
    """The batched form, of a batch of one on the CPU."""
    vector = torch.from_numpy(colour.vector())
    return batch_colour.distort(planes(pixels)[None], vector[None])[0].permute(1, 2, 0).numpy()


def furthest(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("form", [distort, on_device])
@pytest.mark.parametrize("place", range(4))
def test_every_jitter_is_torchvisions(form, place):
    function, levels = TORCHVISION[place]
    for factor in (-0.2, -0.05, 0.11, 0.2) if place == 3 else (0.0, 0.2, 0.7, 1.3, 1.8):
        factors = tuple(factor if k == place else IDENTITY[k] for k in range(4))
        expected = function(planes(image()), factor).permute(1, 2, 0).numpy()
        assert furthest(form(image(), Colour(factors)), expected) <= levels


@pytest.mark.parametrize("form", [distort, on_device])
def test_the_operations_come_in_the_drawn_order(form):
    found = {}
    for order in ((0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 1, 0)):
        factors = (1.6, 0.4, 1.7, 0.15)
        expected = planes(image()).double() / 255  # torchvision does not cut floats to levels
        for place in order:
            expected = TORCHVISION[place][0](expected, factors[place])
        found[order] = form(image(), Colour(factors, order))
        apart = np.abs(found[order] - 255 * expected.permute(1, 2, 0).numpy())
        assert apart.max() < 6 and apart.mean() < 0.7  # half a level each time, times 1.6 x 1.7
    assert furthest(found[0, 1, 2, 3], found[1, 0, 3, 2]) > 30


@pytest.mark.parametrize("form", [distort, on_device])
def test_grey_and_blur(form):
    weighted = np.rint(image() @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, -1)
    assert furthest(form(image(), Colour(grey=True)), weighted) <= 1
    for size, taps in ((224, 23), (96, 9), (48, 5)):  # a tenth of the side, made odd
        for sigma in (0.1, 0.8, 2.0):
            blurred = form(image(size, size), Colour(sigma=sigma))
            exact = functional.gaussian_blur(
                planes(image(size, size)).float(), [taps] * 2, [sigma] * 2
            )
            assert np.abs(blurred - exact.permute(1, 2, 0).numpy()).max() <= 0.51
    assert furthest(form(image(), Colour()), image()) == 0


def test_the_kernel_by_hand():
    """exp(-1/2) = 0.60653, over 1 + 2 x 0.60653."""
    assert blur_kernel(3, 1.0).tolist() == pytest.approx([0.27406862, 0.45186276, 0.27406862])
    assert [kernel_side(size) for size in (32, 48, 96, 224)] == [3, 5, 9, 23]


def test_the_input_is_left_alone():
    pixels = image()
    distort(pixels, Colour((1.5, 0.5, 1.5, 0.1), (3, 1, 0, 2), True, 1.0))
    assert furthest(pixels, image()) == 0


def test_a_batch_is_distorted_as_its_views_are_one_by_one():
    random = np.random.default_rng(3)
    augmentation = SimCLRAugmentation(size=64)
    colours = [augmentation.draw_colour(random) for _ in range(60)]
    views = [image(64, 64, seed) for seed in range(60)]
    one_by_one = np.stack([distort(v, c) for v, c in zip(views, colours, strict=True)])
    vectors = torch.from_numpy(np.stack([colour.vector() for colour in colours]))
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as in a training step; must not matter
        batch = batch_colour.distort(torch.stack([planes(v) for v in views]), vectors)
    assert batch.dtype == torch.uint8
    apart = np.abs(batch.permute(0, 2, 3, 1).numpy().astype(int) - one_by_one)
    assert apart.max() <= 6 and (apart > 1).mean() < 1e-3  # a level lost is multiplied by 1.8


def test_a_crop_is_pillows():
    pixels = image(300, 400)
    for flip in (False, True):
        view = View(top=20, left=31, height=250, width=301, flip=flip, colour=Colour())
        box = Image.fromarray(pixels).crop((31, 20, 31 + 301, 20 + 250))
        expected = box.resize((224, 224), Image.Resampling.BILINEAR)
        expected = np.asarray(expected)[:, ::-1] if flip else np.asarray(expected)
        assert furthest(crop(pixels, view, 300, 400, 224), expected) <= 1


def test_a_crop_of_a_reduced_image_is_the_same_region():
    y, x = np.mgrid[:400, :600]
    ramp = np.stack([x // 3, y // 2, (x + y) // 5], axis=-1).astype(np.uint8)
    half = np.asarray(Image.fromarray(ramp).reduce(2))
    view = View(top=48, left=101, height=300, width=404, flip=False, colour=Colour())
    whole = crop(ramp, view, 400, 600, 100)
    assert furthest(crop(half, view, 400, 600, 100), whole) <= 1  # half a pixel is 1/3 level
    assert crop(ramp[:1, :1], view, 400, 600, 8).shape == (8, 8, 3)


# --- what is drawn ---


def drawn(number: int, height: int, width: int, **options) -> list[View]:
    random = np.random.default_rng(0)
    return [SimCLRAugmentation(**options).draw(random, height, width) for _ in range(number)]


def test_boxes_are_distributed_as_torchvisions():
    torch.manual_seed(0)
    ours = np.array([(v.top, v.left, v.height, v.width) for v in drawn(3000, 480, 640)])
    reference = v2.RandomResizedCrop(224, scale=(0.08, 1), ratio=(3 / 4, 4 / 3))
    draws = [reference.make_params([torch.empty(3, 480, 640)]) for _ in range(3000)]
    theirs = np.array([[draw[k] for k in ("top", "left", "height", "width")] for draw in draws])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3


def test_area_is_uniform_and_aspect_log_uniform_where_every_box_fits():
    side = 2000  # of a square: up to 3/4 of its area no aspect ratio is refused
    boxes = np.array([(v.height, v.width) for v in drawn(4000, side, side)]) / side
    areas, ratios = boxes.prod(1), np.log(boxes[:, 1] / boxes[:, 0])
    fitting = areas < 0.75
    assert fitting.mean() > 0.7
    uniform = stats.uniform(0.08, 0.75 - 0.08)
    assert stats.kstest(areas[fitting], uniform.cdf).pvalue > 1e-3
    low, high = math.log(3 / 4), math.log(4 / 3)
    assert stats.kstest(ratios[fitting], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert ratios.min() > low - 2e-3 and ratios.max() < high + 2e-3


def test_an_image_without_such_a_box_gives_its_middle():
    assert {(v.top, v.left, v.height, v.width) for v in drawn(50, 20, 2000)} == {
        (0, 986, 20, 27)  # 20 x 4/3, in the middle of 2000
    }
    assert {(v.top, v.left, v.height, v.width) for v in drawn(50, 2000, 30)} == {(980, 0, 40, 30)}
    assert {(v.top, v.left, v.height, v.width) for v in drawn(50, 1, 1)} == {(0, 0, 1, 1)}


def test_probabilities_strengths_and_orders():
    """Against binomial and uniform distributions, at five standard deviations or p 0.001."""
    views = drawn(6000, 100, 100)
    colours = [v.colour for v in views]
    jittered = [c for c in colours if c.factors != IDENTITY]
    for share, p in (
        (np.mean([v.flip for v in views]), 0.5),
        (len(jittered) / 6000, 0.8),
        (np.mean([c.grey for c in colours]), 0.2),
        (np.mean([c.sigma > 0 for c in colours]), 0.5),
    ):
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 6000)
    factors = np.array([c.factors for c in jittered])
    for place, (low, high) in enumerate([(0.2, 1.8)] * 3 + [(-0.2, 0.2)]):
        uniform = stats.uniform(low, high - low)
        assert stats.kstest(factors[:, place], uniform.cdf).pvalue > 1e-3
    sigmas = [c.sigma for c in colours if c.sigma]
    assert stats.kstest(sigmas, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    _, counts = np.unique([c.order for c in jittered], axis=0, return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


def test_cifar10s_options():
    """Half the strength and no blur: SimCLR, appendix B.9."""
    colours = [v.colour for v in drawn(500, 32, 32, size=32, jitter=0.5, blur=False)]
    factors = np.array([c.factors for c in colours if c.factors != IDENTITY])
    assert not any(c.sigma for c in colours)
    assert factors.min(0) == pytest.approx([0.6, 0.6, 0.6, -0.1], abs=0.02)
    assert factors.max(0) == pytest.approx([1.4, 1.4, 1.4, 0.1], abs=0.02)
    still = drawn(100, 32, 32, jitter=0.0)
    assert {v.colour.factors for v in still} == {IDENTITY}


@pytest.mark.parametrize("options", [{"size": 0}, {"jitter": -1}, {"jitter": 3}, {"min_area": 0}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        SimCLRAugmentation(**options)


def test_grey_of_a_pure_colour_by_hand():
    red = np.array([[[200, 0, 0]]], dtype=np.uint8)
    assert grey(red).tolist() == [[[60, 60, 60]]]  # 0.299 x 200 = 59.8
