"""Task: one stage to be run from one commit; and its result, which is checked wherever it is read.

All that both ends say to each other are a commit, a digest and the name of a stage: no path, no command, no address.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.base.errors import UserError
from flows.dvc import engine

APART = ("train",)
"""The stages that may run on another machine."""
REFS = "refs/stillroom/tasks"
"""Where git's remote has the commits that workers work from: no branch, and gone when the work is done."""
RESULTS, CHECKPOINTS, WORKING = "results", "checkpoints", "working"
"""Folders of the shelf (flows/dvc/shelf.py)."""
PASSING = ("Unreachable", "Killed")
"""The names of the states of a worker's flow run that another try, here or elsewhere, may mend."""

_COMMIT, _DIGEST = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Task:
    """``stage`` at ``commit``, run from what has the digest ``inputs`` (:func:`digest`)."""

    commit: str
    inputs: str
    stage: str

    def checked(self) -> Self:
        """The task itself; UserError where one of the three is not what it has to be."""
        if not isinstance(self.commit, str) or not _COMMIT.fullmatch(self.commit):
            raise UserError(f"commit {_short(self.commit)}: wanted the 40 hex digits of a commit")
        if not isinstance(self.inputs, str) or not _DIGEST.fullmatch(self.inputs):
            raise UserError(f"inputs {_short(self.inputs)}: wanted the 64 hex digits of a SHA-256")
        if self.stage not in APART:
            raise UserError(f"stage {_short(self.stage)}: wanted one that runs on workers ({', '.join(APART)})")
        return self

    @property
    def ref(self) -> str:
        """Where git's remote has the commit."""
        return f"{REFS}/{self.commit}"

    @property
    def result(self) -> str:
        """Where the shelf has the result: the same inputs are the same task, whatever commit held them."""
        return f"{RESULTS}/{self.stage}/{self.inputs}.json"

    @property
    def checkpoints(self) -> str:
        """The folder of the shelf with the checkpoints."""
        return f"{CHECKPOINTS}/{self.inputs}"

    @property
    def working(self) -> str:
        """Where the shelf says who works on it now."""
        return f"{WORKING}/{self.inputs}.json"


def digest(stage: str, entry: Mapping[str, Any]) -> str:
    """The SHA-256 of what ``stage`` is run from: command, hashes of inputs and code, parameters."""
    return engine.key({stage: entry})


class _Plain(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_Text = Annotated[str, Field(max_length=2000)]


class _Out(_Plain):
    path: Annotated[str, Field(pattern=r"^[a-z]+/[a-z]+(\.json)?$", max_length=100)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
    text: Annotated[str, Field(max_length=100_000)] | None = None
    """Of a file that git keeps and not DVC."""


class Result(_Plain):
    """What a worker hands back beside the outputs, which lie in DVC's remote under their hashes."""

    format: Literal[1]
    commit: Annotated[str, Field(pattern=_COMMIT.pattern)]
    inputs: Annotated[str, Field(pattern=_DIGEST.pattern)]
    stage: Literal["train"]
    outs: Annotated[list[_Out], Field(min_length=1, max_length=20)]
    seconds: Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]
    libraries: Annotated[dict[_Text, _Text], Field(max_length=100)]
    machine: _Text
    mlflow: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """The MLflow run that its curves went to."""

    def text(self) -> bytes:
        """The result as the shelf holds it: JSON with the SHA-256 of itself."""
        said = self.model_dump(mode="json")
        return (json.dumps({**said, "sha256": _sum(said)}, indent=1, sort_keys=True) + "\n").encode()

    @property
    def hashes(self) -> dict[str, str]:
        """DVC's hash of each output by its path."""
        return {out.path: out.md5 for out in self.outs}

    @property
    def texts(self) -> dict[str, str]:
        """The text of each output that git keeps, by its path."""
        return {out.path: out.text for out in self.outs if out.text is not None}


def read(text: bytes, task: Task) -> Result:
    """The result of ``task`` in ``text``; UserError where it is none, was changed, or is that of another task."""
    try:
        said = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError("not an object")
        written = said.pop("sha256", None)
        found = Result.model_validate(said)
        if written != _sum(said):
            raise ValueError("it was changed: its SHA-256 is another")
        if (found.inputs, found.stage) != (task.inputs, task.stage):
            raise ValueError(f"it is of stage {found.stage} from inputs {found.inputs[:12]}")
        if len(found.hashes) != len(found.outs):
            raise ValueError("an output stands in it twice")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _refused(task, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise _refused(task, str(error)) from None
    return found


def _refused(task: Task, why: str) -> UserError:
    return UserError(f"the result of stage '{task.stage}' in DVC's remote, stillroom/{task.result}: {why}: "
                     "nothing of it is used; remove it there and run this again")  # fmt: skip


def _sum(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _short(value: object) -> str:
    return f"{str(value)[:80]!r}"
