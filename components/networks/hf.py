"""diffusers, imported without the packages that no network here needs.

diffusers imports transformers, peft, accelerate and scipy where it finds them, which takes longer than torch itself.
It works without them. Here peft is there for adapters (components/networks/lora.py) and brings the others. So this
module hides them while it imports diffusers. For the rest of the process diffusers takes them as not installed, and
everything else finds them as usual. torch's compiler is hidden too: diffusers wants it for a decorator, which has the
compiler take a block of a transformer as it is, where otherwise it looks inside. And diffusers reads the lists of files
of all that is installed, to find the names of three packages that nobody here has: it is told that there are none.
A network of its is imported by :func:`network`, without the some hundred that lie beside it.
``benchmarks/imports.py`` prints what all this saves.

Import diffusers from here: the first import decides.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOT_NEEDED = ("accelerate", "peft", "scipy", "torch._dynamo", "transformers")


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Have an import of ``names`` fail as if they were not installed; those imported before stay as they are.

    ``importlib.util.find_spec``, by which diffusers asks, then says None; a finder that raises would end its import.
    (pyarrow has to be told by one: components/__main__.py.)
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: an import raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextlib.contextmanager
def _unlisted() -> Iterator[None]:
    """Have ``importlib.metadata`` know of no package's files."""
    known = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = dict
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = known


with _hidden(*NOT_NEEDED), _unlisted():
    import diffusers
    import diffusers.models
    import diffusers.models.modeling_outputs
    import diffusers.models.modeling_utils  # tries to import transformers itself

__all__ = ["NOT_NEEDED", "diffusers", "network"]

_PACKAGES = ("diffusers.models.autoencoders", "diffusers.models.transformers", "diffusers.models.unets")


def network(module: str) -> Any:
    """The module ``diffusers.models.MODULE`` of a network, without its neighbours.

    The packages of networks import all of theirs, and with them torch's compiler and torchvision: 3 CPU seconds.
    While ``module`` is imported they are empty; who asks for them afterwards finds them whole.
    """
    folder = Path(diffusers.models.__file__).parent
    absent = [name for name in _PACKAGES if name not in sys.modules]
    for name in absent:
        empty = types.ModuleType(name)
        empty.__path__ = [str(folder / name.rpartition(".")[2])]
        sys.modules[name] = empty
    try:
        return importlib.import_module(f"diffusers.models.{module}")
    finally:
        for name in absent:
            del sys.modules[name]
