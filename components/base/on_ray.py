"""A pure function over batches on a Ray cluster, by Ray Data: the results and their order are those of one machine.

A thread of this process puts the batches into a queue in the cluster.  A read task of Ray Data takes them from there,
one block each, and `map_batches` spreads the blocks.  A few are under way at a time, so neither this process nor the
object store holds them all.  In each Ray worker the function runs in a child process (components/base/workers.py): a
decoder that crashes costs one image, and Ray sees no crash.

Ray sends everything as pickle: use only a cluster that you trust.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from components.base import processes
from components.base.errors import UserError
from components.base.workers import Function, Item, LimitedWorker, Lost, Result

LOCAL = "local"
"""The address that means: processes of this machine, started for this stage and ended with it."""

_LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray takes localhost and 127.0.0.1 for this machine's outer address, and would listen there."""

_AHEAD = 2  # batches that wait in the cluster, for each of its cores


class Parcel:
    """Carries an object through a table of Ray Data unchanged."""

    def __init__(self, content: Any) -> None:
        self.content = content


def ordered(
    function: Function[Item, Result],
    batches: Iterable[list[Item]],
    *,
    address: str,
    lost: Lost[Item, Result] | None = None,
    preload: Sequence[str] = (),
) -> Iterator[list[Result]]:
    """``function`` of each batch, in order, from the cluster at ``address`` (see `parallel.ordered`)."""
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        return
    ray = _connected(address)
    from ray.util.queue import Queue

    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    queue = Queue(maxsize=_AHEAD * cores, actor_options={"num_cpus": 0})
    try:
        feeding = _Feeding(chain([first], rest), queue)
        answers = _dataset(queue, partial(_answer, function=function, lost=lost, preload=tuple(preload)))
        for row in answers.iter_rows():
            went_well, result = row["parcel"].content
            if not went_well:
                raise result
            yield result
        feeding.end()
    finally:
        queue.shutdown(force=True)  # this also ends a feeding thread that waits for room in the queue


def _dataset(queue: Any, answer: Any) -> Any:
    import pandas as pd
    import ray
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # bytes: each batch is its own block
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    def read() -> Iterator[pd.DataFrame]:
        while (parcel := queue.get()) is not None:
            yield pd.DataFrame({"parcel": [parcel]})

    class Batches(Datasource):
        """One read task that yields a block for each batch, as the queue gives them."""

        def get_name(self) -> str:
            return "Batches"

        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(read, unknown)]

    batches = Batches()  # type: ignore[no-untyped-call]  # Ray's class has no types
    found = ray.data.read_datasource(batches, override_num_blocks=1, num_cpus=0)
    return found.map_batches(answer, batch_size=None, batch_format="pandas", num_cpus=1)


class _Feeding:
    """A thread that puts the batches into the queue; `end` raises what went wrong in it."""

    def __init__(self, batches: Iterable[list[Item]], queue: Any) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._feed, args=(batches, queue), daemon=True)
        self._thread.start()

    def _feed(self, batches: Iterable[list[Item]], queue: Any) -> None:
        try:
            for batch in batches:
                queue.put(Parcel(batch))
        except BaseException as error:  # raised again in the thread that waits for results
            self._error = error
        with contextlib.suppress(Exception):  # the cluster may be gone
            queue.put(None)

    def end(self) -> None:
        """Wait until all batches are in the queue; raise what went wrong."""
        self._thread.join()
        if self._error:
            raise self._error


_limited: dict[bytes, LimitedWorker[Any, Any]] = {}


def _answer(table: Any, *, function: Function[Any, Any], lost: Lost[Any, Any] | None, preload: tuple[str, ...]) -> Any:
    """In a Ray worker: the results of the batches in ``table``, or what the function raised."""
    import pandas as pd
    from ray import cloudpickle

    # A Ray worker lives on and gets other functions later.
    key = cloudpickle.dumps((function, lost))  # type: ignore[no-untyped-call]  # Ray's copy has no types
    if key not in _limited:
        while _limited:
            _limited.popitem()[1].end()
        _limited[key] = LimitedWorker(function, lost=lost, preload=preload)
    answers = []
    for parcel in table["parcel"]:
        try:
            answers.append(Parcel((True, _limited[key](parcel.content))))
        except Exception as error:
            answers.append(Parcel((False, error)))
    return pd.DataFrame({"parcel": answers})


def _connected(address: str) -> Any:
    """Ray, connected to the cluster at ``address`` or started here; it lasts until this process ends."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("engine 'ray' needs the package ray: `pip install 'stillroom[ray]'`, or use engine 'local'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    if ray.is_initialized():
        return ray
    if address == LOCAL:
        path = os.pathsep.join(filter(None, sys.path))
        how: dict[str, Any] = {"num_cpus": processes.cores(), "include_dashboard": False, "_node_ip_address": _LOOPBACK,
               "runtime_env": {"env_vars": {"PYTHONPATH": path}}}  # fmt: skip
    else:  # the other machines get this code too: the same code gives the same bytes
        how = {"runtime_env": {"py_modules": [str(Path(__file__).parents[1])]}}
        if address.startswith("127."):
            how["_node_ip_address"] = address.rsplit(":", 1)[0]
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # Ray's workers look for code first in the folder that this process stands in: have it be where this code is,
        # which is not the checkout when the stage works from a snapshot.
        with contextlib.chdir(Path(__file__).parents[2]):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"no Ray cluster answers at {address!r} ({line}): start one with `ray start --head`, "
            "or use address 'local', which needs none"
        ) from None
    if threading.current_thread() is threading.main_thread():
        for number, handler in ours.items():  # Ray has set its own
            signal.signal(number, handler)
    return ray
