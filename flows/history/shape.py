"""What a record has to look like: it may come from another machine, and what it names is read and written here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Kind = Literal["run", "intent", "outcome"]
"""What was made; which alias is to move and why; what became of that."""
Result = Literal["promoted", "held", "overtaken", "refused", "adopted", "deleted"]
"""The alias was moved; it was not to be; somebody else moved it meanwhile, or the version's bytes were not those on
record, so the decision does not count; the registry held a decision that another machine had made and not shared; a
person had deleted the version, and what was decided on it counts no more."""

# A path below the folder that it is written to: no "..", no line break, nothing hidden.
_Path = Annotated[str, Field(pattern=r"^(\w[\w.+ -]*/)*\w[\w.+ -]*$", max_length=500)]
_Number = Annotated[int, Field(ge=1, lt=2**31)]
_Time = Annotated[int, Field(ge=0, lt=2**36)]


class _Plain(BaseModel):
    """What is not named here may be there too: newer versions may say more."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Record(_Plain):
    format: Literal[1]
    kind: Kind
    key: str
    number: _Number
    when: _Time
    body: dict[str, Any]


class _Body(_Plain):
    files: list[_Path] = []
    prefix: None = None  # only in records of the older chain, which are made here


class _Run(_Body):
    commit: str
    dirty: bool
    files: list[_Path]
    made: _Time = 0
    stages: dict[str, str] = {}
    seconds: dict[str, float] = {}
    libraries: dict[str, str] = {}
    machine: str = ""


class _Decision(_Plain):
    promote: bool
    reason: str
    waits: bool = False
    backfilled: bool = False
    against: Annotated[str | None, Field(pattern=r" version [0-9]{1,9}$")] = None
    evidence: dict[str, Any] = {}


class _Intent(_Body):
    name: str
    version: _Number
    manifest: str | None
    expected: _Number | None
    decision: _Decision
    by: str


class _Outcome(_Body):
    intent: str
    result: Result


_BODIES: dict[str, type[_Body]] = {"run": _Run, "intent": _Intent, "outcome": _Outcome}
assert set(_BODIES) == set(get_args(Kind))


def checked(text: bytes) -> dict[str, Any]:
    """The record in ``text`` as plain data; ValueError with one line when it has not the shape of one."""
    try:
        said = json.loads(text)
        record = _Record.model_validate(said)
        _BODIES[record.kind].model_validate(record.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    return dict(said)
