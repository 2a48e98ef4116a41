"""``python tools/trainer_of.py CONFIG`` prints the module that trains what the config describes."""

import sys
from pathlib import Path

from mmengine.config import Config

TRAINERS = {
    "LocalContrastive": "pretrain.train",
    "LinearClassifiers": "pretrain.readout.linear_probe",
}
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DETECTORS = "transfer.train"


def trainer_of(path: str) -> str:
    """By the type of the config's model; every other one is mmdetection's.

    Raises:
        ValueError, FileNotFoundError: there is no such file, or it describes no model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no config at {path}; the configs are under {CONFIGS}")
    cfg = Config.fromfile(path, import_custom_modules=False)
    if "model" not in cfg:
        raise ValueError(f"{path} describes no model; take a config that is no _base_")
    return TRAINERS.get(cfg.model.type, DETECTORS)


if __name__ == "__main__":
    try:
        print(trainer_of(sys.argv[1]))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
