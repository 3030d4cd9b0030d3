"""``python -m components NAME``: run one stage. dvc.yaml and GPU workers call it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components import pipeline
from components.base import config, events, imports, versions
from components.base.errors import UserError, environment_error
from components.base.processes import die_with_parent, uncollected
from components.base.starter import end_with_run
from components.base.stopping import SIGNALS, Stopped, held_back, ignore_signals, stop
from components.base.unchanged import Unchanged


def main(arguments: list[str] | None = None) -> int:
    """Run the stage that ``arguments`` name; 0, 2 for the user's mistake, 128 + n for signal n."""
    options = _parser().parse_args(arguments)
    handlers = [events.EventHandler()]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    die_with_parent()
    # torch.compile would take a folder in the system's temporary one, and never clear it.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(pipeline.STATE, "torchinductor").absolute()))
    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        try:
            end_with_run()
            _run(options)
        finally:  # the outcome stands: a signal that arrives from here on does not change it
            ignore_signals()
    except Stopped as stopped:
        return _fail(_stopped(options.stage, stopped.number), 128 + stopped.number)
    except SystemExit as ended:  # training saves its state before it stops
        if not isinstance(ended.code, int) or ended.code <= 128:
            raise
        return _fail(_stopped(options.stage, ended.code - 128), ended.code)
    except UserError as error:
        return _fail(str(error), 2)
    except Exception as error:
        mine = environment_error(error)
        if mine is None:
            raise
        return _fail(f"stage '{options.stage}': {mine}", 2)
    return 0


def _run(options: argparse.Namespace) -> None:
    stage = pipeline.stage(options.stage)
    with _inputs_kept(stage, options.params):
        params = config.section(_sections(options.params), stage.name, stage.params)
        with uncollected():
            stage.function  # noqa: B018  imported here, so that the next lines know whether it needs pyarrow
        _leave_pandas_out()
        _give_back_memory()
        events.emit(kind="start", stage=stage.name)
        stage.run(params, Path.cwd())


@contextlib.contextmanager
def _inputs_kept(stage: pipeline.Stage, params: Path | None) -> Iterator[None]:
    """UserError at the end when the stage's code or parameters changed meanwhile; those of a snapshot do not."""
    held = config.snapshot(Path.cwd())
    if held is None:
        _of_this_package(stage, Path.cwd())
        unchanged = Unchanged(stage.module_name, lambda: _sections(params).get(stage.name))
        yield
        unchanged.check(stage.name)
    elif held.parent != imports.ROOT:
        raise UserError(f"stage '{stage.name}': its Python does not import the snapshot of the code at {held.parent}")
    else:
        yield


def _of_this_package(stage: pipeline.Stage, root: Path) -> None:
    """UserError in a project whose record says of another package: DVC would put that on record as what ran."""
    if versions.is_project(root) and (root / versions.path(stage.name)).read_text("utf-8") != stage.record:
        raise UserError(f"{versions.path(stage.name)}: is of another version of Stillroom than the one that runs here: "
                        "`stillroom run` brings it up to date")  # fmt: skip


def _sections(params: Path | None) -> dict[str, Any]:
    return config.of(Path()) if params is None else config.read(params)


def _stopped(stage: str, number: int) -> str:
    name = signal.Signals(number).name
    return f"stage '{stage}' was stopped by {name}: run it again, it continues from what is finished"


def _leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas: 0.5 to 1 s, a third of the time of a small refresh.

    pyarrow imports pandas at its first list, only to find out whether the list is a Series.  If that import fails
    once, pyarrow never tries again.  With Ray Data pandas is needed.
    """
    if "pyarrow" not in sys.modules or "pandas" in sys.modules:
        return
    import pyarrow

    from components.base.parallel import engine

    if engine() == "ray":
        return

    sys.meta_path.insert(0, _NoPandas())
    try:
        with held_back():  # its C++ imports more than pandas, and clears whatever that raises: a SIGTERM would be lost
            pyarrow.array([])
    finally:
        del sys.meta_path[0]


def _give_back_memory() -> None:
    """Let pyarrow use the system's allocator: its own keeps some tens of MB that it once used."""
    if "pyarrow" in sys.modules:
        import pyarrow

        pyarrow.set_memory_pool(pyarrow.system_memory_pool())


class _NoPandas:
    """Makes an import of pandas fail, as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError for pandas, leave every other name to the next finder."""
        if name == "pandas":
            raise ImportError(name)


def _fail(line: str, code: int) -> int:
    if not events.emit(kind="error", message=line):  # under a flow the flow prints it
        print(f"error: {line}", file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__)
    names = [stage.name for stage in pipeline.PIPELINE]
    parser.add_argument("stage", choices=names, help="the stage to run in this folder")
    parser.add_argument("--params", type=Path, help=f"parameters ({config.FILE})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
