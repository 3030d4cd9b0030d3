"""The contract, held against the data before anything is trained; not a DVC stage, because it guards shared state.

What the data is compared with is the profile in the last pass that the gate has seen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.base import config, files
from components.base.errors import UserError
from components.contract import page
from components.contract.clauses import Clause, broken, judge, line
from components.contract.params import ContractParams
from flows.history import store

PROFILE = "data/profile/profile.json"
PAGE = "reports/contract.html"
"""There while the contract is broken, and only then."""


def check(root: Path) -> str:
    """Say that the contract holds; UserError naming the first clause that does not, with all of them on the page."""
    now, before, clauses = _clauses(root)
    bad = broken(clauses)
    if not bad:
        clear(root)
        return f"contract holds: {'; '.join(clause.found for clause in clauses)}"
    files.write_text(root / PAGE, page.render(clauses, now, before))
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    raise UserError(f"{line(bad[0])}{more}: nothing was trained; {PAGE} says what is behind it")


def foretell(root: Path) -> list[str]:
    """What `check` would find in the profile that lies in ``root``, a line for each clause that does not hold."""
    return [line(clause) for clause in broken(_clauses(root)[2])]


def _clauses(root: Path) -> tuple[dict[str, Any], dict[str, Any] | None, list[Clause]]:
    params = config.section(config.read(root / config.FILE), "contract", ContractParams)
    assert isinstance(params, ContractParams)
    now = _read((root / PROFILE).read_bytes())
    before = baseline(root)
    return now, before, judge(now, before, params)


def baseline(root: Path) -> dict[str, Any] | None:
    """The profile in the last pass that the gate has seen; None before the first."""
    last = store.last_judged(root)
    return _read(last.files[PROFILE]) if last and PROFILE in last.files else None


def clear(root: Path) -> None:
    """Take the page away: what lies in ``root`` is a pass that the gate has seen."""
    (root / PAGE).unlink(missing_ok=True)


def _read(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
        if told["format"] != 1:
            raise ValueError(f"format {told['format']}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{PROFILE}: not the profile of a data set ({error}): run stage 'profile' again") from None
    return told
