"""`stillroom data status`, within a second at 60,000 images: neither DVC nor MLflow is imported."""

from __future__ import annotations

from collections import Counter
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.pipeline import PIPELINE, Stage, stage
from components.samples import decisions, withdrawn
from flows.data import edited
from flows.dvc.freshness import Freshness
from flows.workspace.paths import State


def stages() -> tuple[Stage, ...]:
    """The stages from the sources to the data report, in order."""
    return PIPELINE[: 1 + PIPELINE.index(stage("describe"))]


STATES = ("kept", "rejected", "gone", "withdrawn")
"""What an image that came in is: used, left out, in its source no more, or withdrawn by hand."""


def status(state: State) -> dict[str, Any]:
    """Images by verdict, by source and by split, and which data stages are stale; plain data."""
    fresh = Freshness(state.root, state.folder / "fresh.json")
    try:
        stale = fresh.stale()
        verdicts = fresh.digest("data/clean")
        sources = fresh.known(f"sources {verdicts}", lambda: _sources(state)) if verdicts else []
        broken = contract(state, fresh)
    finally:
        fresh.save()
    numbers = {name: _metrics(state, name) for name in ("collect", "split")}
    return {
        "images": {name: sum(source[name] for source in sources) for name in STATES},
        "refused": numbers["collect"].get("refused", 0),
        "sources": sources,
        "splits": {name: numbers["split"].get(name, 0) for name in ("train", "val", "test", "quarantine")},
        "stale": [name for name in stale if stage(name) in stages()],
        "contract": broken,
        "by_hand": len(withdrawn.names(state.root / edited.RECORD)),
        "decisions": len(decisions.standing(state.root / edited.DECISIONS)),
    }


def lines(found: dict[str, Any]) -> str:
    """What `status` found, as lines for a terminal."""
    from components.html.page import visible

    counts = found["images"]
    came = sum(counts.values())
    rows = [("images", f"{came:,} collected: {_verdicts(counts)}; {found['refused']:,} refused")] if came else []
    rows += [("source", f"{visible(each['name'])} ({visible(each['licence'])}): {_verdicts(each)}")
             for each in found["sources"]]  # fmt: skip
    if came:
        rows.append(("splits", ", ".join(f"{name} {number:,}" for name, number in found["splits"].items())))
    else:
        rows.append(("images", "none yet: `stillroom data report` collects them, `dvc pull` fetches them"))
    if found["contract"] is not None:
        rows.append(("contract", "; ".join(map(visible, found["contract"])) or "holds"))
    rows.append(
        (
            "by hand",
            f"{found['by_hand']:,} withdrawn (data/withdrawn.jsonl), "
            f"{found['decisions']:,} decided by curators (data/decisions.jsonl)",
        )
    )
    stale = f"{', '.join(found['stale'])}: `stillroom run` brings them up to date" if found["stale"] else "nothing"
    rows.append(("stale", stale))
    return "\n".join(f"{name:>8}  {value}" for name, value in rows)


def _verdicts(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in STATES)


def _sources(state: State) -> list[dict[str, Any]]:
    """One entry a source and licence, by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # 0.3 s, only when the verdicts have changed

    path = state.root / "data/clean/verdicts.parquet"
    try:
        table = pq.read_table(path, columns=["source", "licence", "verdict", "reason"], use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]}): `dvc checkout` restores it") from None
    counts = Counter(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (name, licence, verdict, reason), number in counts.items():
        entry = found.setdefault((name, licence), {"name": name, "licence": licence, **dict.fromkeys(STATES, 0)})
        # Of the verdict `withdrawn` the reason says whether the source has it no more or somebody withdrew it.
        entry[reason if verdict == "withdrawn" else verdict] += number
    return [found[key] for key in sorted(found)]


def contract(state: State, fresh: Freshness) -> list[str] | None:
    """The clauses of section `contract` that do not hold for data/profile, a line each; None without a profile."""
    from flows.history import store

    profile = fresh.digest("data/profile")
    if not profile:
        return None
    tip = store.tip(state.root)

    def judge() -> list[str]:
        from flows.data.contract import violations

        return violations(state.root)

    return fresh.known(f"contract {profile} {fresh.digest('params.yaml')} {tip}", judge)


def _metrics(state: State, name: str) -> dict[str, Any]:
    """The numbers of stage ``name``, none before it has run; UserError when they are damaged."""
    path = state.root / stage(name).metrics
    return files.read_json_object(path, "`stillroom run` writes it again") if path.is_file() else {}
