"""``python -m components NAME``: run one stage. dvc.yaml and GPU workers call it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from components import config, events, pipeline
from components.errors import UserError, environment_error
from components.processes import die_with_parent


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
        events.emit(kind="start", stage=stage.name)
        stage.run(params, Path.cwd())
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        line = f"stage '{options.stage}' was stopped by {name}: run it again, it goes on from what is whole"
        return _fail(line, 128 + stopped.number)
    except UserError as error:
        return _fail(str(error), 2)
    except Exception as error:
        mine = environment_error(error)
        if mine is None:
            raise
        return _fail(f"stage '{options.stage}': {mine}", 2)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _fail(line: str, code: int) -> int:
    if not events.emit(kind="error", message=line):  # a flow that follows this stage tells it
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
