"""config.json: the config that a run resolved, with its tuples, and nothing that could run."""

import pytest
from mmengine.config import Config

from pretrain.engine.stored_config import read_config, write_config

CONFIGS = ["configs/pretrain/loco_r50.py", "configs/mask_rcnn_loco_r50_frozen.py"]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_read_is_what_mmengine_had(name, tmp_path):
    """mmengine's own text is the oracle: it tells tuples from lists."""
    cfg = Config.fromfile(name, import_custom_modules=False)
    write_config(cfg, tmp_path / "config.json")
    assert Config(read_config(tmp_path / "config.json")).pretty_text == cfg.pretty_text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no config that a run wrote"),
        (b"\xff\x00", "no config that a run wrote"),
        (b"[" * 100_000, "no config that a run wrote"),
        (b'{"tuple": [1]}', "holds a tuple"),
        (b"3", "holds a int"),
        (b" " * ((16 << 20) + 1), "larger than 16 MiB"),
    ],
)
def test_what_is_no_config_is_refused_by_name(content, words, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"config.json .*{words}"):
        read_config(tmp_path / "config.json")
