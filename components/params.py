"""What every section of params.yaml has in common."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Frozen, strict, nothing unknown, no defaults: what can change a result stands in params.yaml."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
