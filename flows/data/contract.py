"""Check section `contract` of params.yaml before training; not a DVC stage, since it guards shared state.

The data is compared with the profile of the latest pipeline run that the gate has decided on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.base import config, files
from components.base.errors import UserError
from components.collect.params import CollectParams
from components.contract import page
from components.contract.clauses import Clause, broken, judge, line
from components.contract.params import ContractParams
from flows.history import store


class ContractBroken(UserError):
    """The data does not satisfy the contract: nothing is trained, and another try changes nothing."""


PROFILE = "data/profile/profile.json"
PAGE = "reports/contract.html"
"""Exists only while the data does not satisfy the contract."""


def check(root: Path) -> str:
    """A line when the contract holds; else UserError with the first clause that does not, and a page of all."""
    now, before, clauses = _clauses(root)
    bad = broken(clauses)
    if not bad:
        remove_page(root)
        held = (clause.found for clause in clauses if not clause.wanted.startswith("any"))
        return f"contract holds: {'; '.join(held)}"
    files.write_text(root / PAGE, page.render(clauses, now, before))
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    raise ContractBroken(f"{line(bad[0])}{more}: nothing was trained; see {PAGE}")


def violations(root: Path) -> list[str]:
    """What `check` would find in the present profile: a line for each clause that does not hold."""
    return [line(clause) for clause in broken(_clauses(root)[2])]


def _clauses(root: Path) -> tuple[dict[str, Any], dict[str, Any] | None, list[Clause]]:
    sections = config.of(root)
    params = config.section(sections, "contract", ContractParams)
    sources = {source.name for source in config.section(sections, "collect", CollectParams).sources}
    now = _read((root / PROFILE).read_bytes())
    before = baseline(root)
    return now, before, judge(now, before, params, sources=sources)


def baseline(root: Path) -> dict[str, Any] | None:
    """The profile of the latest pipeline run that the gate has decided on; None before the first."""
    last = store.last_decided(root)
    return _read(last.files[PROFILE]) if last and PROFILE in last.files else None


def remove_page(root: Path) -> None:
    """Remove the page: the gate has decided on the run in ``root``."""
    (root / PAGE).unlink(missing_ok=True)


def _read(text: bytes) -> dict[str, Any]:
    try:
        profile = json.loads(text)
        if profile["format"] != 1:
            raise ValueError(f"format {profile['format']}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{PROFILE}: not the profile of a data set ({error}): run stage 'profile' again") from None
    return profile
