"""The footprint against Tables 6 and 7, worked-out examples and torch's own allocator."""

import gc
import json
import warnings
from functools import cache
from itertools import combinations

import pytest
import torch
from torch import nn
from torch._C._profiler import _EventType
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from pretrain.costs import footprint, footprint_plot, step_cost
from pretrain.costs.flops import MultiplyAdds
from pretrain.costs.footprint_plot import memory_against_time, where_it_pays
from pretrain.costs.footprint_table import TABLE_6, table, where_the_work_goes
from pretrain.costs.peak_memory import PeakMemory
from pretrain.costs.step_cost import (
    STEPS,
    Workload,
    best_recomputation,
    count_step,
    decoder_macs,
    take_step,
    work_parts,
)
from pretrain.encoders import ENCODERS, build_encoder
from pretrain.local_backward import cut_into_segments, streamed_backward
from pretrain.losses.info_nce import info_nce
from pretrain.units import Unit
from results.record.labels import STEP_METHODS
from tests.helpers.places import MEASURED

KEYS = {"peak_memory_mib", "saving_ratio", "step_seconds", "step_ratio", "setting"}


def saving(encoder, method, recompute=(), batch=64):
    work = Workload(encoder, batch)
    simclr = count_step(work, STEPS["simclr"]).peak_bytes
    return simclr / count_step(work, STEPS[method], recompute).peak_bytes


# Table 6


def test_resnet50_has_table_6s_shares():
    report = footprint.stage_report(Workload("resnet50", 4))
    memory, flops, total = TABLE_6["resnet50"]
    found = [stage["memory_percent"] for stage in report["stages"]]
    assert found == pytest.approx(memory, abs=0.05)
    assert found == pytest.approx([100 * part / 55 for part in (24, 16, 12, 3)], abs=0.001)
    assert [stage["flops_percent"] for stage in report["stages"]] == pytest.approx(flops, abs=0.5)
    assert report["flops_g"] == pytest.approx(total, rel=0.02)


def test_presnet50_has_table_6s_shares_where_the_paper_agrees_with_itself():
    report = footprint.stage_report(Workload("presnet50", 4))
    memory, flops, total = TABLE_6["presnet50"]
    shares = [stage["memory_percent"] for stage in report["stages"]]
    shares[2] *= 128 / 144  # res4, as the paper's column must have counted it
    corrected = [100 * share / sum(shares) for share in shares]
    assert corrected == pytest.approx(memory, abs=0.05)
    assert [stage["flops_percent"] for stage in report["stages"]] == pytest.approx(flops, abs=0.6)
    assert report["flops_g"] == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.endswith("tiny")])
def test_every_encoder_has_a_report(name):
    report = footprint.stage_report(Workload(name, 4, 64))
    assert [s["name"] for s in report["stages"]] == list(build_encoder(name).stage_names)
    for column in ("memory_percent", "flops_percent", "kept_percent"):
        assert sum(stage[column] for stage in report["stages"]) == pytest.approx(100, abs=0.01)


# The counters


def test_the_peak_of_a_chain_worked_out_by_hand():
    with FakeTensorMode(), PeakMemory() as memory:
        a = torch.empty(1000)  # 4000 bytes
        b = a * 2  # 8000
        view = b[10:].view(3, 330)  # no storage of its own
        b.add_(1)  # nor this
        assert memory.alive_bytes == 8000
        del a  # 4000
        c = torch.cat([b, b]).double()  # 4000 + 8000, then + 16000 while both are there
        assert memory.alive_bytes == 4000 + 16000
        assert memory.peak_bytes == 4000 + 8000 + 16000
        del b  # the view holds it
        assert memory.alive_bytes == 20000
        del view, c
        assert memory.alive_bytes == 0
        memory.forget_peak()
        assert memory.peak_bytes == 0


def test_the_peak_of_a_backward_pass_worked_out_by_hand():
    """y = exp(exp(x)), and each of x, exp(x), y and their gradients has 4000 bytes."""
    with FakeTensorMode(), PeakMemory() as memory:
        x = torch.empty(1000, requires_grad=True)
        y = x.exp().exp()
        assert memory.alive_bytes == 3 * 4000
        y.backward(torch.empty(1000))
        assert memory.peak_bytes == 6 * 4000  # when x's gradient comes, the call still holds y's
        assert memory.alive_bytes == 3 * 4000  # x, y, x's gradient: the graph has let go of exp(x)


def allocated(events, in_kernel=False):
    """What the allocator has given out, whenever it takes or gives outside of a convolution."""
    for event in events:
        if event.tag == _EventType.Allocation and not in_kernel:
            change = event.extra_fields
            yield change.total_allocated + max(-change.alloc_size, 0)  # before a release, not after
        yield from allocated(event.children, in_kernel or "convolution" in event.name)


def allocator_peak(work, method, recompute):
    """Bytes that torch's allocator reports while a real step runs, and what was there before.

    Which workspace a convolution takes, and in which layout it returns a gradient, every processor
    chooses anew: the workspace is left out, and the kernels are those that know one layout only.
    """
    model = work.model(method, recompute)
    images = torch.randn(work.batch_size, 3, work.image_size, work.image_size)
    alive = sum(t.nbytes for t in [images, *model.parameters(), *model.buffers()])
    gc.collect()  # what another test left would count as given back
    with warnings.catch_warnings(), torch.backends.mkldnn.flags(enabled=False):
        warnings.simplefilter("ignore")
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            first = torch.empty(1)
            take_step(model, method, images, "float32")
    tree = profiler.profiler.kineto_results.experimental_event_tree()
    before, *rest = allocated(tree)
    return alive + max(rest) - (before - first.nbytes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "method", "recompute"),
    [
        ("presnet_tiny", "simclr", ()),
        ("presnet_tiny", "simclr", ("res2", "res3")),
        ("presnet_tiny", "loco", ("res2", "res3")),
        ("presnet_tiny", "loco_naive", ()),
        ("resnet_tiny", "loco", ()),
        ("resnet_tiny", "gim", ()),
        ("resnet_tiny", "loco_naive", ()),
    ],
)
def test_the_count_is_what_the_allocator_reports(encoder, method, recompute):
    """To 0.9 % at most, the workspaces of convolutions apart, which it does not count."""
    work = Workload(encoder, 8, 112 if encoder.startswith("p") else 64)
    counted = count_step(work, STEPS[method], recompute).peak_bytes
    assert counted == pytest.approx(allocator_peak(work, STEPS[method], recompute), rel=0.01)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_backward_pass_costs_twice_the_forward(groups):
    with FakeTensorMode(), MultiplyAdds() as work:
        conv = nn.Conv2d(8, 16, 3, padding=1, groups=groups, bias=False)
        linear = nn.Linear(16, 5, bias=False)
        x = torch.empty(2, 8, 10, 10, requires_grad=True)
        y = linear(conv(x).mean((2, 3)))
        forward = 2 * 16 * 100 * 9 * 8 // groups + 2 * 16 * 5
        assert work.macs == forward
        y.sum().backward()
        assert work.macs == 3 * forward


def resnet50_stage(number, width, depth, side):
    """Multiply-adds an image of a stage by its table, and those that its two first layers have."""
    below = 64 if number == 0 else 2 * width  # channels that come in
    side_below = side if number == 0 else 2 * side  # the stride is in the 3x3 convolution
    squeeze = side_below**2 * below * width
    shortcut = side**2 * below * 4 * width
    first = squeeze + side**2 * (9 * width**2 + width * 4 * width) + shortcut
    other = side**2 * (4 * width * width + 9 * width**2 + width * 4 * width)
    return first + (depth - 1) * other, squeeze + shortcut


@pytest.mark.slow
def test_the_parts_of_a_step_worked_out_by_hand():
    """LoCo on ResNet-50: one more input-gradient pass through res3 and res4, and three decoders."""
    batch = 8
    stages, firsts = zip(
        *(resnet50_stage(k, 64 * 2**k, (3, 4, 6, 3)[k], 56 // 2**k) for k in range(4)), strict=True
    )
    stem = 112**2 * 64 * 3 * 7 * 7
    forward = stem + sum(stages)
    # The last pass through a shared stage ends at its first layers: their input is another unit's.
    again = stages[1] - firsts[1] + stages[2] - firsts[2]
    nce = 128 * batch  # an image's embedding with every other one's

    def decoder(channels, side):
        """A bottleneck of stride 2, then two linear layers and the loss, forward and backward."""
        half = -(-side // 2)
        base = channels // 4
        convs = side**2 * channels * base + half**2 * (
            9 * base**2 + base * channels + channels * channels
        )
        return 3 * (convs + channels * channels + channels * 128 + nce)

    expected = {
        "simclr": {
            "forward": forward,
            "input_gradients": forward - stem,
            "weight_gradients": forward,
            "decoders": 3 * (2048 * 2048 + 2048 * 128 + nce),
        },
        "loco": {
            "forward": forward,
            "input_gradients": forward - stem + again,
            "weight_gradients": forward,
            "decoders": decoder(512, 28) + decoder(1024, 14) + decoder(2048, 7),
        },
    }
    for name, parts in expected.items():
        work, method = Workload("resnet50", batch), STEPS[name]
        step = count_step(work, method)
        found = work_parts(step, decoder_macs(work, method))
        assert found == {part: batch * macs for part, macs in parts.items()}
        assert sum(found.values()) == step.macs


@pytest.mark.slow
def test_recomputation_shows_as_forward_work_and_nothing_else():
    work = Workload("presnet_tiny", 8, 112)
    parts = [
        work_parts(count_step(work, STEPS["loco"], stages), decoder_macs(work, STEPS["loco"]))
        for stages in ((), ("res3", "res7"))
    ]
    more = {name: parts[1][name] - parts[0][name] for name in parts[0]}
    assert more.pop("forward") > 0
    assert not any(more.values())


def test_the_table_tells_what_a_method_adds_to_simclrs_work():
    parts = {"forward": 0.33, "input_gradients": 0.33, "weight_gradients": 0.33, "decoders": 0.01}
    methods = {
        "simclr": {"work_parts": parts},
        "loco": {"work_parts": {**parts, "input_gradients": 0.48, "decoders": 0.15}},
    }
    told = where_the_work_goes(methods).splitlines()[1:]
    assert [" ".join(line.split()) for line in told] == [
        "LoCo: input gradients +0.150, decoders +0.140"
    ]


# What the methods save


@pytest.mark.slow
def test_the_methods_come_in_the_known_order():
    """Prototype at batch 64, MiB: SimCLR 5433, GIM 3262, LoCo 4784, naive 8073."""
    work = Workload("resnet50", 64)
    known = {"gim": 3262, "loco": 4784, "simclr": 5433, "loco_naive": 8073}
    peaks = {name: count_step(work, STEPS[name]).peak_memory_mib for name in known}
    assert list(peaks) == sorted(peaks, key=lambda name: peaks[name])
    for name, mib in known.items():
        assert peaks[name] == pytest.approx(mib, rel=0.015)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "method", "recompute", "at_least"),
    [
        ("resnet50", "loco", ("res2",), 1.5),
        ("resnet50", "gim", ("res2",), 2.4),
        ("presnet50", "loco", ("res2", "res4", "res5", "res6"), 2.76),
        ("presnet50", "gim", ("res2", "res4", "res5", "res6", "res7"), 4.56),
    ],
)
def test_recomputation_saves_what_it_must(encoder, method, recompute, at_least):
    assert saving(encoder, method, recompute) >= at_least


@pytest.mark.slow
def test_the_search_finds_the_best_of_all_sets(monkeypatch):
    monkeypatch.setattr(step_cost, "count_step", cache(count_step))
    work, method = Workload("resnet_tiny", 32, 64), STEPS["loco_recompute"]
    names = build_encoder("resnet_tiny").stage_names
    sets = [chosen for size in (1, 2, 3, 4) for chosen in combinations(names, size)]
    counts = [
        step_cost.count_step(work, method),
        *(step_cost.count_step(work, method, s) for s in sets),
    ]
    budget = sorted(count.macs for count in counts)[10]
    lowest = min(count.peak_bytes for count in counts if count.macs <= budget)
    found = best_recomputation(work, method, budget)
    assert found.macs <= budget
    assert found.peak_bytes <= 1.005 * lowest


@pytest.mark.slow
def test_a_process_holds_its_share_of_the_batch():
    one = count_step(Workload("resnet_tiny", 64, 64), STEPS["loco"])
    many = count_step(Workload("resnet_tiny", 64 * 64, 64, world_size=64), STEPS["loco"])
    bucket = sum(
        p.nbytes for p in Workload("resnet_tiny", 64, 64).model(STEPS["loco"]).parameters()
    )
    assert one.peak_bytes <= many.peak_bytes <= one.peak_bytes + bucket + 2**21
    with pytest.raises(ValueError, match="batch size 100 over 64 processes"):
        Workload("resnet_tiny", 100, world_size=64)


def peak_of_units(first, stop, batch=256):
    """Peak bytes of one step of PResNet-50's LoCo units ``first`` up to ``stop``, and of no others.

    They stand on a tensor of the size that the stage below puts out. The whole model's parameters
    are there in any case.
    """
    with FakeTensorMode(), PeakMemory() as memory:
        model = Workload("presnet50", batch).model(STEPS["loco"])
        encoder, units = model.encoder, model.units[first:stop]
        channels, side = (3, *encoder.out_channels)[first], (224, *encoder.stage_sides(224))[first]
        low, high = units[0].start, units[-1].stop
        memory.forget_peak()
        streamed_backward(
            torch.empty(batch, channels, side, side),
            cut_into_segments(
                encoder.blocks()[low:high],
                [Unit(unit.name, unit.start - low, unit.stop - low) for unit in units],
            ),
            list(model.decoders)[first:stop],
            [lambda embeddings: info_nce(embeddings, 0.1)] * len(units),
        )
    return memory.peak_bytes


@pytest.mark.slow
def test_the_peak_does_not_grow_with_the_units_beyond_the_largest_neighbouring_pair():
    """PResNet-50 cut off after four and five stages and whole, against its pairs of units.

    Cut off after three stages it is the first pair. What a longer chain may have besides: the
    images, the gradients of all parameters and one gradient that waits at a stage's output for the
    unit above.
    """
    batch = 256
    pairs = [peak_of_units(unit, unit + 2) for unit in range(4)]
    model = Workload("presnet50", batch).model(STEPS["loco"])
    maps = zip(model.encoder.out_channels, model.encoder.stage_sides(224), strict=True)
    waiting = max(4 * batch * channels * side**2 for channels, side in maps)
    images = 4 * batch * 3 * 224**2
    rest = images + waiting + sum(p.nbytes for p in model.parameters())
    for units in (3, 4, 5):
        largest = max(pairs[: units - 1])
        peak = peak_of_units(0, units)
        assert 0.99 * largest <= peak <= min(1.07 * largest, largest + rest), units
    assert peak == count_step(Workload("presnet50", batch), STEPS["loco"]).peak_bytes


# The command


@pytest.mark.slow
def test_the_command_writes_report_and_plot(tmp_path, capsys):
    file, picture = tmp_path / "out" / "footprint.json", tmp_path / "plot.png"
    footprint.main(
        ["--encoder", "resnet_tiny", "--batch-size", "8", "--image-size", "64", "--measure",
         "--recompute", "res2", "--repeats", "1", "--json", str(file), "--plot", str(picture)]
    )  # fmt: skip
    report = json.loads(file.read_text())
    assert {"encoder", "batch_size", "image_size", "flops_g", "stages", "methods", "machine",
            "versions"} <= report.keys()  # fmt: skip
    assert report["methods"].keys() == STEPS.keys() == STEP_METHODS.keys()
    for method in report["methods"].values():
        assert method.keys() >= KEYS
        assert method["step_seconds"] > 0
    assert report["methods"]["simclr"]["step_ratio"] == 1
    assert report["methods"]["loco_recompute"]["setting"] == "recompute res2"
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "batch 8 = 4 photographs in two views each" in printed
    assert where_it_pays(report["methods"]) in printed
    assert where_the_work_goes(report["methods"]) in printed
    assert report["command"].startswith("python -m pretrain.footprint --encoder resnet_tiny ")
    for method in report["methods"].values():
        assert sum(method["work_parts"].values()) == pytest.approx(method["work_ratio"], abs=3e-4)
    texts = [text.get_text() for axes in memory_against_time(report).axes for text in axes.texts]
    for label in STEP_METHODS.values():
        assert any(text.startswith(label) for text in texts), label


@pytest.mark.slow
def test_what_is_not_measured_is_null_and_not_plotted(tmp_path):
    file = tmp_path / "footprint.json"
    footprint.main(
        ["--encoder", "resnet_tiny", "--batch-size", "8", "--image-size", "64", "--json", str(file),
         "--recompute", "res3"]
    )  # fmt: skip
    report = json.loads(file.read_text())
    assert all(method["step_seconds"] is None for method in report["methods"].values())
    with pytest.raises(ValueError, match="--measure"):
        memory_against_time(report)


def plotted(points):
    """A report with the methods at these (time ratio, MiB)."""
    report = {"encoder": "e", "image_size": 1, "precision": "float32", "batch_size": 2}
    methods = {
        name: {"step_ratio": ratio, "peak_memory_mib": mib, "saving_ratio": 1.0, "step_seconds": 1,
               "setting": ""}
        for name, (ratio, mib) in zip(STEPS, points, strict=True)
    }  # fmt: skip
    return {**report, "measured_batch_size": 2, "methods": methods}


@pytest.mark.parametrize(
    "points",
    [
        [(1 + 0.01 * k, 3000 + 20 * k) for k in range(7)],  # nearly a point
        [(1 + 0.1 * k, 2000) for k in range(7)],  # all on the line of checkpointing
        [(1, 5400), (1.28, 1760), (1.06, 3280), (1.27, 1800), (1.27, 4800), (1.3, 3300), (2, 8000)],
        [(1, 4550), (1.36, 1510), (0.91, 1247), (1.28, 979), (1.17, 2100), (1.71, 1530), (2, 7500)],
    ],
)  # fmt: skip
def test_no_label_covers_another_or_a_point(points):
    figure = memory_against_time(plotted(points))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == len(STEPS) + 1  # and the remark on the line
    for first, second in combinations(boxes, 2):
        assert not first.overlaps(second)
    for box in boxes:
        assert axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
        assert not any(box.contains(*axes.transData.transform((x, y / 1024))) for x, y in points)


@pytest.mark.parametrize("encoder", ["resnet50", "presnet50"])
def test_a_report_is_drawn_again(encoder, tmp_path):
    picture = tmp_path / "out" / "plot.png"
    footprint_plot.main([str(MEASURED / f"footprint_{encoder}_cpu.json"), str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_report_that_cannot_be_drawn_is_refused(tmp_path):
    for text, words in ((None, "No such file"), ("{", "Expecting property name")):
        file = tmp_path / "report.json"
        if text:
            file.write_text(text)
        with pytest.raises(SystemExit, match=f"^error: .*{words}"):
            footprint_plot.main([str(file), str(tmp_path / "plot.png")])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "x.png"], "add --measure"),
        (["--batch-size", "7"], "even number of images"),
        (["--recompute", "res9"], "res2, res3, res4, res5"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, capsys, arguments, words):
    command = ["--encoder", "resnet_tiny", "--image-size", "64", "--json", str(tmp_path / "x.json")]
    with pytest.raises(SystemExit):
        footprint.main([*command, *arguments])
    assert words in capsys.readouterr().err


def test_the_papers_contradiction_is_told():
    method = {"peak_memory_mib": 1.0, "saving_ratio": 1.0, "work_ratio": 1.0, "work_parts": {},
              "setting": ""}  # fmt: skip
    report = {
        "encoder": "presnet50", "batch_size": 4, "image_size": 224, "world_size": 1,
        "precision": "float32", **footprint.stage_report(Workload("presnet50", 4)),
        "methods": {n: {**method, "step_seconds": None, "step_ratio": None} for n in STEPS},
    }  # fmt: skip
    printed = table(report)
    assert "contradicts itself in res4" in printed
    assert "144 base channels" in printed


@pytest.mark.slow
def test_every_count_is_announced_on_stderr(tmp_path, capsys):
    """Of four stages: the plain step and one a stage, then the sets within the budget."""
    footprint.main(["--encoder", "resnet_tiny", "--batch-size", "4", "--image-size", "64",
          "--json", str(tmp_path / "r.json")])  # fmt: skip
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[0].startswith("resnet_tiny: counting the stages")
    for place, name in enumerate(STEPS, start=1):
        assert any(f"counting {name} (method {place} of 7), " in line for line in lines)
    steps = [line for line in lines if "simclr_checkpoint" in line and ": step " in line]
    assert ": step 1 of 5, about " in steps[0] and " s left, " in steps[0]
    assert all(line.endswith(" s so far") for line in lines) and "counting" not in captured.out
