"""The footprint as text, beside Tables 6 and 7."""

from collections.abc import Sequence
from typing import Any

from pretrain.costs.footprint_plot import where_it_pays
from results.record.labels import STEP_METHODS

# Table 6: memory and FLOPs of each stage in percent, the total in G.
TABLE_6 = {
    "resnet50": ((43.64, 29.09, 21.82, 5.45), (19.39, 25.09, 35.80, 19.73), 4.14),
    "presnet50": (
        (15.46, 10.96, 19.48, 17.31, 19.48, 17.31),
        (13.50, 14.63, 14.77, 16.62, 20.45, 20.04),
        4.16,
    ),
}
# Section 5.6 and Table 7: saving ratios.
TABLE_7 = {"resnet50": {"gim": 1.81, "loco": 1.28}, "presnet50": {"gim": 4.56, "loco": 2.76}}
NOTES = {
    "presnet50": (
        "The paper contradicts itself in res4: section 5.6 and Table 8 give it 144 base channels, "
        "as here, but Table 6's memory column holds for 128 (19.48 %); it changes every share."
    )
}


def table(report: dict[str, Any]) -> str:
    """The report as text, beside the paper's figures where it has any."""
    encoder = report["encoder"]
    memory, flops, total = TABLE_6.get(encoder, ((), (), None))
    batch, processes = report["batch_size"], report["world_size"]
    lines = [
        f"{encoder}, {report['image_size']} px, batch {batch} = {batch // 2} photographs in two "
        f"views each, {processes} process{'es' if processes > 1 else ''}, {report['precision']}",
        "",
        f"{report['flops_g']:.3f} G multiply-adds an image in convolutions"
        + (f" (the paper: {total:.2f} G)" if total else ""),
        "",
        "stage   memory %   paper    FLOPs %   paper   really kept %       MiB",
    ]
    for k, stage in enumerate(report["stages"]):
        lines.append(
            f"{stage['name']:6}{stage['memory_percent']:10.2f}{_number(memory[k : k + 1]):>8}"
            f"{stage['flops_percent']:11.2f}{_number(flops[k : k + 1]):>8}"
            f"{stage['kept_percent']:16.2f}{stage['kept_mib']:10.0f}"
        )
    lines += [
        "memory: elements of the main branches' convolutions (Table 6's arithmetic); really kept: "
        "bytes alive after the stage's forward pass, stem, norms and shortcuts included",
        *([NOTES[encoder]] if encoder in NOTES else []),
        "",
        "method              peak MiB  saving   paper    work   seconds    time  setting",
    ]
    for name, row in report["methods"].items():
        paper = TABLE_7.get(encoder, {}).get(name)
        lines.append(
            f"{name:18}{row['peak_memory_mib']:10.0f}{row['saving_ratio']:7.2f}x"
            f"{_number([paper] if paper else []):>8}{row['work_ratio']:7.2f}x"
            f"{_number([row['step_seconds']] if row['step_seconds'] else []):>10}"
            f"{_number([row['step_ratio']] if row['step_ratio'] else []):>8}  {row['setting']}"
        )
    lines += [
        "peak: bytes alive at once in one process, without optimizer state; saving: SimCLR's peak "
        "over it; work: multiply-adds of the step over SimCLR's; time: seconds over SimCLR's",
        "",
        where_the_work_goes(report["methods"]),
        "",
        where_it_pays(report["methods"]),
    ]
    return "\n".join(lines)


def where_the_work_goes(methods: dict[str, dict[str, Any]]) -> str:
    """What every method computes beyond SimCLR's step or spares of it, in parts of that step."""
    simclr = methods["simclr"]["work_parts"]
    lines = ["work beyond SimCLR's, whose step is 1 (decoders: with the losses; the rest: encoder)"]
    for name, method in methods.items():
        beyond = {part: ratio - simclr[part] for part, ratio in method["work_parts"].items()}
        told = [
            f"{part.replace('_', ' ')} {ratio:+.3f}"
            for part, ratio in beyond.items()
            if abs(ratio) >= 0.0005
        ]
        if told:
            lines.append(f"{STEP_METHODS[name] + ':':20}{', '.join(told)}")
    return "\n".join(lines)


def _number(values: Sequence[float]) -> str:
    return f"{values[0]:.2f}" if values else "—"
