"""``python -m components NAME``: run one stage. dvc.yaml and GPU workers call it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from components import pipeline
from components.base import config, events
from components.base.errors import UserError, environment_error
from components.base.processes import die_with_parent


class Stopped(BaseException):
    """SIGTERM or SIGINT arrived; not an Exception, so that no stage takes it for a bad image."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Run the stage that ``arguments`` name; 0, 2 for the user's mistake, 128 + n for signal n."""
    options = _parser().parse_args(arguments)
    handlers = [events.EventHandler()]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        stage = pipeline.stage(options.stage)
        params = config.section(config.read(options.params), stage.name, stage.params)
        stage.function  # noqa: B018  imported here, so that the next line knows whether it needs pyarrow
        _leave_pandas_out()
        events.emit(kind="start", stage=stage.name)
        stage.run(params, Path.cwd())
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
        pyarrow.array([])
    finally:
        del sys.meta_path[0]


class _NoPandas:
    """Makes an import of pandas fail, as if it were not installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raise ImportError for pandas, leave every other name to the next finder."""
        if name == "pandas":
            raise ImportError(name)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _fail(line: str, code: int) -> int:
    if not events.emit(kind="error", message=line):  # under a flow the flow prints it
        print(f"error: {line}", file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m components", description=__doc__)
    names = [stage.name for stage in pipeline.PIPELINE]
    parser.add_argument("stage", choices=names, help="the stage to run in this folder")
    parser.add_argument("--params", type=Path, default=Path(config.FILE), help="parameters (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
