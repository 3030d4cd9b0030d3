"""What every section of params.yaml has in common."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

EXPLAINED = "explained"
"""The type of an error whose message is complete: the value itself is not printed, since it may be a secret."""


class Params(BaseModel):
    """Frozen, strict, nothing unknown, no defaults: what can change a result stands in params.yaml."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def explained(message: str, **context: str) -> PydanticCustomError:
    """The error that a validator raises to have ``message`` printed behind the parameter's name, and no more."""
    return PydanticCustomError(EXPLAINED, message, context or None)
