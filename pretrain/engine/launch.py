"""What the two trainers share around mmengine's Runner: arguments, work folder, start."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from mmengine.config import Config
from mmengine.dist import is_main_process

from pretrain.engine.atomic_files import AtomicRunner
from pretrain.engine.documented_names import Names, check_options, forget_what_is_set
from pretrain.engine.finite import NotFinite
from pretrain.engine.loaders import guard_workers, worker_fault
from pretrain.engine.options import Options, merge
from pretrain.engine.processes import join_processes, speaks
from pretrain.engine.refresh import refresh_tables
from pretrain.engine.resume import checkpoint_to_resume, refuse_another, refuse_existing
from pretrain.engine.run_folder import LAST, check_files, last_good, lock_folder
from pretrain.engine.same_config import config_text
from pretrain.engine.same_run import Facts, facts_of, settle, words_of
from pretrain.engine.stopping import STOP, TRY_AGAIN
from pretrain.engine.stored_tensors import check_readable
from pretrain.engine.watchdog import Watchdog
from pretrain.images.decode import UnreadableImage
from results.record.files import write_atomically
from results.record.run_record import FILE_NAME

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def argument_parser(description: str, default_config: str | None = None) -> argparse.ArgumentParser:
    """The command line of ``tools/pretrain.sh`` and the others that take a config.

    Args:
        description: for ``--help``.
        default_config: what stands for a config that is left out; None: it must be there.
    """
    parser = argparse.ArgumentParser(description=description)
    nargs = None if default_config is None else "?"
    parser.add_argument("config", nargs=nargs, default=default_config, help="config file")
    parser.add_argument(
        "--work-dir",
        help="folder of the run; default: work_dirs/NAME_OF_CONFIG, with _Nep behind it where "
        "--cfg-options sets epochs=N, other than the config's",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=LAST,
        metavar="CHECKPOINT",
        help="continue the run in the work folder, if there is one, from its last checkpoint or "
        "from the one named",
    )
    parser.add_argument("--cfg-options", nargs="+", action=Options, metavar="NAME=VALUE")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    return parser


Prepare = Callable[[Config, int], None]
"""Puts the values of the documented names (``data_root``, ...) where they belong and checks the
inputs; fingerprints of the data become part of the config. Is given the config and the number of
processes; raises ValueError or FileNotFoundError for a user's mistake."""


def main(
    description: str, prepare: Prepare, names: Names, args: argparse.Namespace | None = None
) -> None:
    """Read the config, prepare it, run it.

    Args:
        description: for ``--help``.
        prepare: see :data:`Prepare`.
        names: the documented ones, see :mod:`pretrain.engine.documented_names`.
        args: of :func:`argument_parser`, where a command has read its own arguments already.
    """
    args = args or argument_parser(description).parse_args()
    start = Start(args, prepare, names)
    try:
        watchdog = join_processes(args.launcher)
        start.world_size = watchdog.world_size
        with named_faults(watchdog):
            settle(start.find_out)
            settle(start.take_folder)
    except ValueError as error:
        sys.exit(f"error: {error}" if speaks(error) else 1)
    with start.lock or nullcontext():
        if not start.finished:
            train(start.cfg, watchdog)
    watchdog.stop()
    if is_main_process():
        refresh_tables(Path(start.cfg.work_dir))


class Unrecordable(ValueError):
    """A run that no record could describe at its end; found before its first iteration."""


@contextmanager
def named_faults(watchdog: Watchdog, then: Callable[[], str] = str) -> Iterator[None]:
    """One line for what torch raises where another process, or a loader's worker, has ended.

    Args:
        watchdog: of this process.
        then: gives a sentence on what is left.
    """
    try:
        yield
    except RuntimeError as error:
        fault = worker_fault(error)
        words = f"{watchdog.here()}{fault}" if fault else watchdog.missing()
        if words and STOP.told:  # and so were the others
            sys.exit(TRY_AGAIN)
        if words:
            sys.exit(" ".join([f"error: {words}.", then()] + [f"({error})"] * (not fault)))
        raise


class Start:
    """What one process does before a run begins.

    Args:
        args: of :func:`argument_parser`.
        prepare: see :data:`Prepare`.
        names: the documented ones.
    """

    def __init__(self, args: argparse.Namespace, prepare: Prepare, names: Names) -> None:
        self.args, self.prepare, self.names = args, prepare, names
        self.world_size = 1
        self.finished = False
        self.lock: TextIO | None = None

    def find_out(self) -> Facts:
        """Prepare the config, and look whether it has run already.

        Returns:
            What has to be equal in all processes.

        Raises:
            ValueError, FileNotFoundError: a user's mistake.
        """
        self.cfg = load_config(self.args, self.names)
        self.prepare(self.cfg, self.world_size)
        folder = Path(self.cfg.work_dir)
        check_files(folder)
        self.finished = (folder / FILE_NAME).is_file()
        if self.finished:
            refuse_another(folder / FILE_NAME, config_text(self.cfg))
            print(f"{folder} holds the finished run of this config; nothing to do", flush=True)
        return facts_of(config_text(self.cfg)) | {"finished already": str(self.finished)}

    def take_folder(self) -> Facts:
        """Keep other runs out of the work folder, and find what to continue from.

        Returns:
            What has to be equal in all processes.

        Raises:
            ValueError, OSError: another run is at work there, or from
                :func:`pretrain.engine.resume.checkpoint_to_resume` and ``refuse_existing``.
        """
        if self.finished:
            return {}
        cfg, folder = self.cfg, Path(self.cfg.work_dir)
        self.lock = lock_folder(folder) if is_main_process() else None
        if not self.args.resume:
            refuse_existing(folder)
            return {}
        found = checkpoint_to_resume(folder, self.args.resume, config_text(cfg), self.world_size)
        if is_main_process():
            begins = f"no checkpoint in {folder} yet: begins anew"
            print(f"continues from {found}" if found else begins)
            if found and self.args.resume == LAST and not (folder / LAST).exists():
                write_atomically(folder / LAST, str(found).encode())
        cfg.resume = found is not None
        cfg.load_from = str(found) if found else None
        return {"continues from": str(found)}


def train(cfg: Config, watchdog: Watchdog) -> None:
    """Run it, under guard; a fault that the run itself found ends it with one line."""
    for loader in (cfg[name] for name in cfg if name.endswith("_dataloader") and cfg[name]):
        guard_workers(loader)
    try:
        runner = AtomicRunner.from_cfg(cfg)
    except ValueError as error:  # an option that the model cannot honour
        sys.exit(f"error: {error}" if is_main_process() else 1)
    except OSError as error:  # in one: no room for the config, or for the log
        sys.exit(f"error: {words_of(error)}")
    try:
        with named_faults(watchdog, lambda: last_good(Path(cfg.work_dir))):
            runner.train()
    except (NotFinite, Unrecordable) as error:  # in all processes
        sys.exit(f"error: {error}" if is_main_process() else 1)
    except (OSError, UnreadableImage) as error:  # in one: a full disk, files that have vanished
        words = str(error).rpartition(f"{type(error).__name__}: ")[2]  # no worker's traceback
        sys.exit(f"error: {words.strip()}. {last_good(Path(cfg.work_dir))}")
    except SystemExit as stop:
        if stop.code == TRY_AGAIN:  # told to stop, and saved
            watchdog.end_all(stop.code)
        raise
    finally:
        STOP.saves = False
        watchdog.begin("the end of the run", slow=True)


def load_config(args: argparse.Namespace, names: Names) -> Config:
    """The config file with the command line's changes; ``args.work_dir`` becomes the run's folder.

    Args:
        args: of :func:`argument_parser`.
        names: the documented ones.

    Raises:
        FileNotFoundError, PermissionError: there is no such file, or it may not be read.
        ValueError: an option names something that the config does not have, or the config says
            what only the command line may.
    """
    if not Path(args.config).is_file():
        raise FileNotFoundError(f"no config at {args.config}; the configs are under {CONFIGS}")
    check_readable(Path(args.config))
    cfg = Config.fromfile(args.config)
    if "config_file" in cfg:  # a run left it in its folder
        forget_what_is_set(cfg, names)
        cfg.work_dir = cfg.resume = cfg.load_from = None
    usual = cfg.get("epochs")
    options = args.cfg_options or {}
    check_options(cfg, options, names, args.config)
    merge(cfg, options, args.config, names)
    if not args.work_dir:
        block = "" if cfg.get("epochs") == usual else f"_{cfg.epochs}ep"  # see results/plan
        args.work_dir = f"work_dirs/{Path(args.config).stem}{block}"
    for name, value, way in (
        ("work_dir", args.work_dir, "--work-dir FOLDER"),
        ("resume", args.resume, "--resume, or --resume CHECKPOINT"),
    ):
        if cfg.get(name) and cfg[name] != value:
            raise ValueError(
                f"{args.config} sets {name} to {cfg[name]!r}, which the command line decides: "
                f"leave it out there and add {way}"
            )
    cfg.config_file = args.config
    cfg.launcher = args.launcher
    cfg.resume = args.resume
    cfg.work_dir = args.work_dir
    return cfg


def per_process(global_batch_size: int, world_size: int) -> int:
    """Images of each process.

    Raises:
        ValueError: the processes do not divide the batch.
    """
    if global_batch_size < 1 or global_batch_size % world_size:
        raise ValueError(
            f"{world_size} processes cannot share a global batch of {global_batch_size} images "
            "evenly; choose another number of processes or --cfg-options global_batch_size=N"
        )
    return global_batch_size // world_size
