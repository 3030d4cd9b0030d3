"""The training loop: from a checkpoint or from nothing to the averaged weights, one step at a time.

What a step does is in step.py, what it is fed in feed.py, what guards it in guards.py, when it stops in stopping.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from components.base import events
from components.base.errors import UserError
from components.base.params import Params
from components.dataset import tensors
from components.networks import registry
from components.samples import latents, pack
from components.train import aims, averages, checkpoint, guards, history, sheets, stopping
from components.train import start as beginning
from components.train.accumulate import OutOfMemory
from components.train.captured import Steps
from components.train.distributed import sharding
from components.train.distributed.ranks import OUT_OF_MEMORY, Group, together
from components.train.feed import Feed
from components.train.optim import flat
from components.train.params import TrainParams
from components.train.profiling import Profile
from components.train.state import State, build, start
from components.train.step import Step, operations
from components.train.throughput import Throughput

NAMED = 16
"""Images of a window left out that the log names; skipped.json has them all."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to fit to what, and where to keep checkpoints."""

    params: TrainParams
    pixels: Path
    splits: Path
    folder: Path
    start: Path | None = None
    """data/start.json, or None to start from nothing."""
    text: Path | None = None
    """data/text, or None where there is none."""
    latents: Path | None = None
    """data/latents, whose pack ``pixels`` then is; None where that is one of pictures."""
    tuning: aims.Tuning | None = None
    """How the network of ``start`` becomes a student of few steps; None: it learns to denoise."""

    @property
    def what(self) -> str:
        """What the progress line calls it."""
        return "distil" if self.tuning else "train"

    def command(self) -> list[str]:
        """Arguments of Python that start one more rank of this job."""
        named = {name: getattr(self, name) for name in ("pixels", "splits", "folder", "start", "text", "latents")}
        paths = {name: str(path.absolute()) for name, path in named.items() if path}
        models = {name: getattr(self, name) for name in ("params", "tuning")}
        plain = {name: model.model_dump(mode="json") for name, model in models.items() if model}
        return ["-m", "components.train.loop", json.dumps(plain | paths)]

    @classmethod
    def told(cls, argument: str) -> Job:
        """The job whose :meth:`command` ends in ``argument``."""
        fields: dict[str, Any] = json.loads(argument)
        kinds: dict[str, type[Params]] = {"params": TrainParams, "tuning": aims.Tuning}
        for name, value in fields.items():
            kind = kinds.get(name)
            fields[name] = kind.model_validate_json(json.dumps(value)) if kind else Path(value)
        return cls(**fields)


def told(
    params: TrainParams, pixels: Path, text: Path | None, space: latents.Latents | None = None
) -> tensors.Pixels:  # fmt: skip
    """The pack, with what its rows are told by ``params.conditions`` and nothing else.

    ``space``: the latents, where it is a pack of those.
    """
    found = tensors.Pixels(pixels)
    if space and space.mirrored and params.augment.on:
        found.mirror(space.mirrored)
    if "label" not in params.conditions:
        found.number(())
    latent = params.space == "latents"
    found.null_class = registry.null_class(params.network.kind, len(found.header.classes), latents=latent)
    if "text" in params.conditions:
        found.tell(text, pixels)
    return found


def fit(job: Job, group: Group) -> State:
    """Train to the end of the budget; SystemExit 128 + n, with all saved, when signal n asks to stop."""
    with stopping.Signals() as signals:
        training = Training(job, group, signals)
        training.profile.start()
        try:
            return training.run()
        finally:
            training.profile.close()
            training.feed.close()


class Training:
    """A training under way on one rank."""

    def __init__(self, job: Job, group: Group, signals: stopping.Signals) -> None:
        self.job, self.params, self.group, self.signals = job, job.params, group, signals
        self.space = latents.held(job.latents) if job.latents else None
        self.pixels = told(job.params, job.pixels, job.text, self.space)
        if job.tuning:
            self.pixels.number(job.tuning.classes)
        rows = torch.tensor(list(pack.read_split(job.splits, "train")))
        objective = beginning.objective(job.start, job.params.objective_at(self.pixels.header.spec.sigma_data))
        # Loaders are forked before this process has threads and buffers that they would share.
        self.feed = Feed(job.params, self.pixels, rows, group, objective.schedule)
        self.told = sheets.told(job.params, self.pixels, pack.read_split(job.splits, "val"))
        self.checked = history.checked(job.pixels, job.splits, job.params.validate_images)
        self.state = start(job.params, self.pixels, group, job.start)
        resumed = _resume(job, self.state, group)
        before = (self.state.ranks, self.state.micro)
        self.step = Step(job.params, self.state, group, self._aim())
        self.steps = Steps(self.step, self.feed)
        if resumed:
            self._taken_over(before)
        self.readback = guards.DelayedReadback(group.device)
        self.profile = Profile(0 if group.rank else job.params.profile, job.folder.parent, group.device)
        self.samples = job.folder.with_name("samples")
        if group.rank == 0:
            sheets.fresh(self.samples, self.state.images_seen)
            sheets.warn_of_none(job.params, self.state, self.pixels.header, decoded=self.space is not None)
            self.feed.tell_shapes()
        self.stop = 0
        self.speed = Throughput(
            lambda: self.step.aim.work * operations(self.state), group.device, precision=job.params.precision,
            ranks=group.size, remembered=job.folder.parent.with_name("peaks.json"),
        )  # fmt: skip

    def run(self) -> State:
        """Step until the end, a signal, or the end of patience."""
        params, state = self.params, self.state
        total, count = params.total_steps * params.batch, params.validations
        line_every = max(1, params.total_steps // history.LINES) * params.batch
        checks, snapshots = (
            {round(params.total_steps * (i + 1) / times) * params.batch for i in range(times)}
            for times in (count, params.ema_snapshots)
        )
        saved, pause = state.images_seen, checkpoint.Pause(self.group.device.type == "cuda" and self.group.size == 1)
        with _progress(self.group, self.job.what, total, state.images_seen) as progress:
            while True:
                seen = state.images_seen
                line, check = seen % line_every == 0 or seen == total, seen in checks and state.checked != seen
                due = seen == total or (seen - saved >= params.checkpoint_images and pause.over())
                kept = seen in snapshots or seen == params.guide_at
                if self._look(all_now=line or check or due or kept) or (self.stop and self._look(all_now=True)):
                    saved = min(saved, state.images_seen)
                    continue
                if line:
                    history.note(state, params, self.group)
                if check and not self.stop:  # stopped in it, it is made again
                    self.stop = history.validate(state, params, self.checked, self.pixels, self.group, self._poll)
                    state.checked = state.checked if self.stop else seen
                    if not self.stop:
                        sheets.draw(
                            state, params, self.pixels.header, self.samples, self.group, self.signals.any,
                            sigmas=self.job.tuning.sigmas if self.job.tuning else None, told=self.told,
                            space=self.space,
                        )  # fmt: skip
                if kept and not self.stop:
                    self._keep(seen in snapshots)
                over = seen == total or self._impatient()
                if (due or over or self.stop) and saved != seen:
                    saved = seen
                    with pause:
                        self._save()
                if self.stop:
                    self._stopped()
                if over:
                    return self._finished()
                self._one()
                self.profile.step()
                if progress:
                    self.speed.advance(params.batch, seen=state.images_seen)
                    note = ", ".join(filter(None, (history.in_words(state), self.speed.note)))
                    progress.advance(state.images_seen - progress.done, note=note)

    def _aim(self) -> aims.Aim | None:
        """What the steps make small, None: the usual."""
        if self.job.tuning is None:
            return None
        teacher = self._beside(build(self.params, self.pixels, self.job.start))
        guide = beginning.guide(self.job.start)
        return aims.Consistency(
            self.job.tuning, self.state.objective, self.state.network, teacher, guide and self._beside(guide)
        )

    def _beside(self, network: nn.Module) -> nn.Module:
        """``network``, which does not learn, where the one lies that does."""
        network.to(self.group.device)
        if not self.state.in_one:
            network.to(memory_format=registry.memory_format(network))
        return network

    def _one(self) -> None:
        """One step."""
        state, batch = self.state, self.params.batch
        place = state.guard.after(state.place)
        if place != state.place:
            history.skipped(state, place - state.place, self.group)
        row = self.steps(place, state.guard.after(place + batch), self.signals.arrived())
        self.readback.push(guards.StepStats(state.images_seen, place, row))
        state.images_seen += batch
        state.place = place + batch

    def _look(self, *, all_now: bool) -> bool:
        """Take in the numbers of finished steps; whether the training went back because of them."""
        asked = self._poll() if self.group.size == 1 else 0  # more ranks agree by what their steps tell
        for stats in self.readback.pop(all_now=all_now or bool(asked)):
            self.stop = self.stop or stopping.chosen(*stats.arrived())
            spike = self.state.guard.see(stats)
            if spike:
                self._go_back(spike)
                return True
            history.add(self.state, stats)
        self.stop = self.stop or asked
        return False

    def _poll(self) -> int:
        return self.signals.agreed(self.group)

    def _impatient(self) -> bool:
        return self.params.patience is not None and self.state.best.worse >= self.params.patience

    def _finished(self) -> State:
        """The state, its average that of the best check where there is patience, and on rank 0 whole."""
        state, best = self.state, self.state.best
        if best.weights:
            state.average.load_state_dict(best.weights)
            if self.group.rank == 0:
                early = f"stopped at image {state.images_seen}: " if self._impatient() else ""
                words = "%sthe weights are those after %d images, of the best x0 error, %.4f"
                _log.info(words, early, best.images_seen, best.error)
        make = functools.partial(build, self.params, self.pixels, self.job.start)
        state.averages.first = sharding.gathered(state.average, make, keep=self.group.rank == 0)
        flat.part(state.average)
        return state

    def _keep(self, snapshot: bool) -> None:
        """Store the averages as they are now, as a ``snapshot``, as the guide or as both."""
        state, seen, write = self.state, self.state.images_seen, self.group.rank == 0
        if snapshot:
            averages.store(self.job.folder / averages.FOLDER, state.averages, seen, write=write)
        if seen == self.params.guide_at:
            folder = self.job.folder / averages.GUIDE
            averages.store(folder, state.averages, seen, write=write, dtype=torch.float32)

    def _save(self) -> None:
        """Write a checkpoint: rank 0, or sharded each rank its part of it."""
        state, folder, keep = self.state, self.job.folder, self.params.keep
        apart = (guards.SKIPPED - 1) * self.params.batch
        if state.sharded:
            checkpoint.save_parts(folder, state.images_seen, state.pack(), self.group, keep=keep, apart=apart)
        elif self.group.rank == 0:
            checkpoint.save(folder, state.images_seen, state.pack(), keep=keep, apart=apart)

    def _stopped(self) -> NoReturn:
        """End for the signal on which the ranks agreed."""
        if self.group.rank == 0:
            name, seen = signal.Signals(self.stop).name, self.state.images_seen
            _log.warning("stopped by %s; all %d images are saved: run it again, it goes on", name, seen)
        raise SystemExit(128 + self.stop)

    def _taken_over(self, before: tuple[int, int]) -> None:
        """Put on record where the checkpoint was made by other ranks, or in other pieces, ``before``."""
        state = self.state
        state.ranks, state.micro = self.group.size, self.step.micro
        if before != (state.ranks, state.micro):
            history.regrouped(state, before, self.group)

    def _go_back(self, spike: guards.Spike) -> None:
        """Become what a checkpoint before ``spike`` holds; the window of data that led to it will be left out."""
        state, job, rank = self.state, self.job, self.group.rank
        skips = [*state.guard.skips, [spike.first, spike.last]]
        if len(skips) > self.params.guard.give_up:
            raise UserError(
                f"training leapt at image {state.images_seen}: {spike.why}, after it went back "
                f"{self.params.guard.give_up} times: lower train.learning_rate, or raise train.guard.spike"
            )
        if _resume(job, state, self.group, most=spike.images_seen):
            self._taken_over((state.ranks, state.micro))
        else:
            state.restart(start(self.params, self.pixels, self.group, job.start))
            state.micro = self.step.micro
        state.guard.skips = skips
        self.steps.forget()
        self.readback.clear()
        if rank == 0:
            checkpoint.forget(job.folder, state.images_seen)
            rows = self.feed.rows_at(spike.first, spike.last).tolist()
            keys = pack.read_keys(job.pixels)
            names = ", ".join(f"{row} ({keys[row][:12]})" for row in rows[:NAMED])
            _log.warning(
                "%s: back to image %d; the %d images of the window are left out, rows %s%s", spike.why,
                state.images_seen, len(rows), names, " and so on (skipped.json)" if len(rows) > NAMED else "",
            )  # fmt: skip
        self.group.wait()


def _resume(job: Job, state: State, group: Group, *, most: int | None = None) -> bool:
    """Become the last whole checkpoint (of at most ``most`` images), if there is one; every rank the same."""
    # Where the weights are elsewhere, or a part of them is here, they go there from the file, one after the other.
    mapped = state.sharded or group.device.type != "cpu"
    saved = checkpoint.load(job.folder, most=most, mapped=mapped, group=group, like=state.alike)
    if saved:
        state.unpack(saved)
        if group.rank == 0:
            _log.info("going on from the checkpoint after %d images", state.images_seen)
    return bool(saved)


@contextlib.contextmanager
def _progress(group: Group, what: str, total: int, start: int) -> Iterator[events.Progress | None]:
    if group.rank:
        yield None
        return
    with events.Progress(total, what=what, start=start) as progress:
        yield progress


def _follow() -> None:
    """Be one more rank of the job in the first argument."""
    job = Job.told(sys.argv[1])
    logging.disable(logging.INFO)
    with together(job.params.ranks, job.folder, []) as group:
        try:
            fit(job, group)
            group.wait()
        except OutOfMemory as error:  # of this rank alone
            _log.error("rank %d: %s", group.rank, error)
            sys.stderr.flush()
            os._exit(OUT_OF_MEMORY)  # at once: the group would wait for collective calls that are under way
        except UserError:
            return  # it meets rank 0 too, which says it


if __name__ == "__main__":
    _follow()
