"""reports/decision.html: what the gate decided, written after it, from the bytes of the versions themselves."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.report.decision import Compared, page
from flows.history import decisions
from flows.history.store import PipelineRun
from flows.registry import bundle, changes
from flows.registry.mlflow import MANIFEST_TAG, RUN_KEY
from flows.registry.versions import Versions

PAGE = Path("reports/decision.html")


def write(versions: Versions, version: Any, run: PipelineRun, decision: dict[str, Any]) -> None:
    """Show ``decision`` on ``version`` of ``run`` beside the champion that it was compared with."""
    number = (decision["against"] or "").rpartition(" ")[2]
    other = versions.numbered(int(number)) if number and int(number) != int(version.version) else None
    now, champion = (_compared(versions, one) if one else None for one in (version, other))
    if now is None:
        (versions.tracker.state.root / PAGE).unlink(missing_ok=True)  # else it would be of another decision
        return
    before = versions.history.run(other.tags.get(RUN_KEY)) if other else None
    changed = changes.between(before, run) if before else []
    rows = [(one.kind, *one.words()) for one in changed]
    text = page(decision, now, champion, changes=rows, origin=_origin(versions, version, run))
    files.write_text(versions.tracker.state.root / PAGE, text)


def _compared(versions: Versions, version: Any) -> Compared | None:
    """What is shown of ``version``; None where its bytes are damaged, which `verify` tells, or from before the page."""
    with (
        contextlib.suppress(UserError, OSError, LookupError, TypeError, ValueError),
        versions.folder(version) as folder,
    ):
        scores = json.loads((folder / "scores.json").read_text("utf-8"))
        return Compared(
            name=f"{versions.name} version {version.version}", scores=scores["scores"],
            samples=(folder / "samples.png").read_bytes(), seed=int(scores["sampler"]["seed"]),
        )  # fmt: skip
    return None


def _origin(versions: Versions, version: Any, run: PipelineRun) -> list[tuple[str, str]]:
    decided = decisions.of_key(versions.history.decided(versions.name), run.key)
    sources = [f"{one['name']} ({one['licence']})" for one in bundle.sources(run)]
    return [
        ("decided", f"{decided.date}, by {decided.intent.body['by']}" if decided else "not on record"),
        ("pipeline run", run.key),
        ("MLflow run", version.run_id),
        ("code", run.code),
        ("sources and licences", ", ".join(sources) or "none on record"),
        ("manifest, SHA-256", version.tags.get(MANIFEST_TAG, "none")),
    ]
