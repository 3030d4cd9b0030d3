"""The stock scheduler and pipeline of diffusers that sample each objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.objective import SIGMA_DATA, Objective
from components.schedule import EDM_SIGMAS, TIMESTEPS, VE_SIGMAS

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction", "flow": "flow_prediction"}
BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def stock(objective: Objective) -> SchedulerMixin:
    """A scheduler whose ``step`` takes what a network of ``objective`` predicts."""
    import diffusers

    if objective.kind == "edm":
        return diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=EDM_SIGMAS[0], sigma_max=EDM_SIGMAS[1], sigma_data=SIGMA_DATA, prediction_type="epsilon",
            sigma_schedule="exponential",  # equal steps of log sigma; Karras' own spread Gaussians 9 % too wide in 16
        )  # fmt: skip
    if objective.schedule.name == "exponential":
        return diffusers.ScoreSdeVeScheduler(sigma_min=VE_SIGMAS[0] / 2, sigma_max=VE_SIGMAS[1] / 2)  # pixels in [0, 1]
    if objective.kind == "flow":
        # From time 0.999, the last that training meets; FlowMatchEulerDiscreteScheduler starts at 1, takes twice the
        # steps for the same spread, and has not what the pipelines for labels call.
        return diffusers.DPMSolverMultistepScheduler(
            num_train_timesteps=TIMESTEPS, prediction_type=PREDICTIONS["flow"], use_flow_sigmas=True, solver_order=2,
            algorithm_type="dpmsolver++",
        )  # fmt: skip
    return diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_schedule=BETAS[objective.schedule.name],
        prediction_type=PREDICTIONS[objective.kind],
        algorithm_type="dpmsolver++",
        solver_order=2,
        # Equal steps of log sigma. Equal steps of time leave Gaussians of std 0.1 at 0.6 of their width after 12.
        use_lu_lambdas=True,
    )


def pipeline(objective: Objective, *, labelled: bool) -> str:
    """The class of diffusers that draws with such a network and :func:`stock`; for model_index.json.

    ConsistencyModelPipeline is the plain loop that passes labels on, scales the first noise, and scales what the
    network gets, as the EDM schedulers ask for; DDPMPipeline does none of the three.  ScoreSdeVePipeline draws three
    channels and takes no labels.
    """
    if objective.schedule.name == "exponential":
        return "ScoreSdeVePipeline"
    return "ConsistencyModelPipeline" if labelled or objective.kind == "edm" else "DDPMPipeline"
