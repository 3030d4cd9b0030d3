"""Sets that must not be trained on: their images are kept apart, and so is whatever shows what one of them shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from components.base.errors import UserError, nearest
from components.base.grouping import Groups
from components.clean.verify import METHODS

HELD_OUT, CONTAMINATED = "against", "contaminated"
"""The reasons of an image of such a set, and of one that shows the same or a part of it."""
_BY_WORD = [METHODS.index(name) for name in ("group", "withdrawn")]  # pairs that nobody looked at


def held_out(index: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Which rows of ``index`` are of the sources ``names``, gone ones too; UserError for a name that no source has."""
    if not names:
        return np.zeros(len(index), bool)
    known = sorted(index["source"].unique().to_pylist())
    for name in names:
        if name not in known:
            raise UserError(f"clean.against: no source is called '{name}'{nearest(name, known)}; images came from "
                            f"{', '.join(known)} (params.yaml)")  # fmt: skip
    return np.asarray(pa.compute.is_in(index["source"], pa.array(names)).to_numpy())


def contaminated(index: pa.Table, pairs: np.ndarray, held: np.ndarray) -> dict[int, str]:
    """The rows that show what a row of ``held`` shows, each with what it shows; ``pairs`` has pairing.PAIR.

    A picture of equal or of the same look as one of them counts, and so does what resembles it (a crop, a turn).
    """
    if not held.any():
        return {}
    looked = pairs[~np.isin(pairs["how"], _BY_WORD)]
    groups = Groups(len(held))
    same = looked[looked["same"]]
    groups.join_all(zip(same["a"].tolist(), same["b"].tolist(), strict=True))
    source: dict[int, int] = {}
    for position in np.flatnonzero(held).tolist():
        source.setdefault(groups.founder(position), position)
    direct = dict(source)
    for one, other in zip(looked["a"].tolist(), looked["b"].tolist(), strict=True):
        for mine, theirs in ((one, other), (other, one)):
            if groups.founder(mine) in source:
                direct.setdefault(groups.founder(theirs), source[groups.founder(mine)])
    names, keys = index["source"], index["source_key"]
    found = {}
    for position in np.unique(np.concatenate([looked["a"], looked["b"]])).tolist():
        other = direct.get(groups.founder(position))
        if other is not None and not held[position]:
            found[position] = f"shows what {names[other]}:{keys[other]} shows"
    return found
