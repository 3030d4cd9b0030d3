"""The stock scheduler of diffusers that samples each objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.objective import SIGMA_DATA, Objective
from components.schedule import EDM_SIGMAS, TIMESTEPS, VE_SIGMAS

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def stock(objective: Objective) -> SchedulerMixin:
    """A scheduler whose ``step`` takes what a network of ``objective`` predicts."""
    import diffusers

    if objective.kind == "edm":
        return diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=EDM_SIGMAS[0], sigma_max=EDM_SIGMAS[1], sigma_data=SIGMA_DATA, prediction_type="epsilon"
        )
    if objective.kind == "flow":
        return diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=TIMESTEPS)
    if objective.schedule.name == "exponential":
        return diffusers.ScoreSdeVeScheduler(sigma_min=VE_SIGMAS[0], sigma_max=VE_SIGMAS[1])
    return diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_schedule=BETAS[objective.schedule.name],
        prediction_type=PREDICTIONS[objective.kind],
        algorithm_type="dpmsolver++",
        solver_order=2,
        # Equal steps of log sigma. Equal steps of time leave Gaussians of std 0.1 at 0.6 of their width after 12.
        use_lu_lambdas=True,
    )
