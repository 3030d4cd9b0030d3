"""The stock scheduler and pipeline of diffusers that sample each objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from components.diffusion import names
from components.diffusion.objective import SIGMA_DATA, Objective, objective
from components.diffusion.schedule import EDM_SIGMAS, TIMESTEPS

PREDICTIONS: dict[names.Objective, str] = {
    "eps": "epsilon",
    "x0": "sample",
    "v": "v_prediction",
    "flow": "flow_prediction",
}
BETAS: dict[names.Schedule, str] = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def stock(objective: Objective) -> Any:
    """A scheduler of diffusers (a SchedulerMixin) whose ``step`` takes what a network of ``objective`` predicts."""
    from components.networks.hf import diffusers

    low, high = objective.schedule.ends or EDM_SIGMAS  # discrete ones take none
    if objective.kind == "edm":
        return diffusers.EDMDPMSolverMultistepScheduler(
            sigma_min=low, sigma_max=high, sigma_data=objective.sigma_data,
            prediction_type="epsilon",
            sigma_schedule="exponential",  # equal steps of log sigma; Karras' own spread Gaussians 9 % too wide in 16
        )  # fmt: skip
    if objective.schedule.name == "exponential":
        return diffusers.ScoreSdeVeScheduler(sigma_min=low / 2, sigma_max=high / 2)  # pixels in [0, 1]
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


def jumping(objective: Objective) -> Any:
    """A scheduler of diffusers that draws with a student of that objective, by jumps; None where it has none.

    Its own noise levels are equal steps of the timestep from 999; :func:`timesteps` are better ones.
    """
    from components.networks.hf import diffusers

    if not objective.schedule.discrete:
        return None
    return diffusers.LCMScheduler(
        num_train_timesteps=TIMESTEPS, beta_schedule=BETAS[objective.schedule.name], beta_start=1e-4, beta_end=0.02,
        prediction_type=PREDICTIONS[objective.kind], original_inference_steps=TIMESTEPS,
    )  # fmt: skip


def timesteps(objective: Objective, sigmas: Sequence[float]) -> list[int]:
    """The timesteps at which :func:`jumping` draws as a student does at ``sigmas``, the first of them pure noise."""
    found = objective.schedule.timestep(torch.tensor(sigmas[1:], dtype=torch.float64))
    return [TIMESTEPS - 1, *(round(each) for each in found.tolist())]


def pipeline(objective: Objective, kind: str, *, labelled: bool, latents: bool = False) -> str | None:
    """The class of diffusers that draws with a network of ``kind`` and :func:`stock`; None: it has none.

    ConsistencyModelPipeline is the plain loop that passes labels on, scales the first noise, and scales what the
    network gets, as the EDM schedulers ask for; DDPMPipeline does none of the three.  ScoreSdeVePipeline draws three
    channels and takes no labels.
    """
    if kind == "dit":  # it wants latents and labels, and does not scale the first noise, as the EDM schedulers ask for
        return "DiTPipeline" if latents and labelled and objective.kind != "edm" else None
    if kind != "unet":
        return None
    if latents:  # it knows no labels, and hands the network what the scheduler scaled alone
        return None if labelled or objective.schedule.name == "exponential" else "LDMPipeline"
    if objective.schedule.name == "exponential":
        return "ScoreSdeVePipeline"
    return "ConsistencyModelPipeline" if labelled or objective.kind == "edm" else "DDPMPipeline"


def derived(config: dict[str, Any]) -> Objective:
    """The objective of a network whose scheduler_config.json is ``config``; ValueError says what is not known here.

    Of any scheduler of diffusers: only what its config says of the network's prediction and of the noise is read.
    """
    name = str(config.get("_class_name"))
    steps = config.get("num_train_timesteps", TIMESTEPS)
    if name == "ScoreSdeVeScheduler":
        return objective("eps", "exponential", ends=_ends(config))
    if name.startswith("EDM"):
        if config.get("prediction_type", "epsilon") != "epsilon":
            raise ValueError(f"{name} with prediction_type {config['prediction_type']!r}, not epsilon")
        return objective("edm", "log_normal", float(config.get("sigma_data", SIGMA_DATA)), _ends(config))
    if steps != TIMESTEPS:
        raise ValueError(f"num_train_timesteps {steps!r}, not {TIMESTEPS}")
    predicted = config.get("prediction_type", "epsilon")
    if name.startswith("FlowMatch") or config.get("use_flow_sigmas") or predicted == PREDICTIONS["flow"]:
        return objective("flow", "logit_normal")
    kinds = {theirs: kind for kind, theirs in PREDICTIONS.items()}
    betas = (config.get("beta_schedule", "linear"), config.get("beta_start", 1e-4), config.get("beta_end", 0.02))
    schedules = {theirs: ours for ours, theirs in BETAS.items()}
    if predicted not in kinds:
        raise ValueError(f"prediction_type {predicted!r}")
    if betas[0] not in schedules or (betas[0] == "linear" and betas[1:] != (1e-4, 0.02)):
        raise ValueError(f"beta_schedule {betas[0]!r} from {betas[1]!r} to {betas[2]!r}")
    if config.get("trained_betas") is not None or config.get("rescale_betas_zero_snr"):
        raise ValueError("trained_betas or rescale_betas_zero_snr")
    return objective(kinds[predicted], schedules[betas[0]])


def _ends(config: dict[str, Any]) -> tuple[float, float]:
    """The ends of sigma that the config of a score or EDM scheduler names, for pixels in [-1, 1].

    A config that leaves them out has the defaults of diffusers.
    """
    if str(config.get("_class_name")) == "ScoreSdeVeScheduler":  # pixels in [0, 1]
        return 2 * float(config.get("sigma_min", 0.01)), 2 * float(config.get("sigma_max", 1348.0))
    return float(config.get("sigma_min", 0.002)), float(config.get("sigma_max", 80.0))
