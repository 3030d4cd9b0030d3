"""The names of objectives, schedules, weightings, samplers and spacings, and which fit together; without torch."""

from __future__ import annotations

from typing import Literal

Objective = Literal["eps", "x0", "v", "edm", "flow"]
Weighting = Literal["plain", "velocity", "min_snr", "edm", "soft"]
Schedule = Literal["linear", "cosine", "exponential", "log_normal", "logit_normal"]
Distribution = Literal["schedule", "uniform", "normal"]
"""Of the noise levels in training."""

Sampler = Literal[
    "ddpm", "ddim", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "euler_ancestral", "churn", "pc_ve", "pc_vp",
    "consistency",
]  # fmt: skip

Spacing = Literal["log", "karras", "time"]
"""Of the noise levels in sampling."""

SCHEDULES: dict[Objective, tuple[Schedule, ...]] = {
    "eps": ("linear", "cosine", "exponential"),
    "x0": ("linear", "cosine"),
    "v": ("linear", "cosine"),
    "edm": ("log_normal",),
    "flow": ("logit_normal",),
}
"""The schedules that a stock scheduler of diffusers can sample, for each objective."""


def check(objective: Objective, schedule: Schedule) -> None:
    """ValueError when no stock scheduler samples the two together."""
    if schedule not in SCHEDULES[objective]:
        raise ValueError(
            f"objective {objective} needs schedule {' or '.join(SCHEDULES[objective])}, not {schedule!s:.40}"
        )
