"""Write to MLflow and read from it; the only module that imports it.

Nothing is in MLflow alone: `stillroom sync` writes everything again from git and DVC.
Local artifacts are copied straight into the folder that `stillroom ui` serves, so that no server has
to run while training, and a consumer elsewhere gets them from the server all the same.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from components.base.processes import uncollected
from consume import pull
from flows.dvc import engine
from flows.history.store import PipelineRun
from flows.registry import pages
from flows.registry.address import shown, without_login
from flows.workspace import lock
from flows.workspace.paths import State

EXPERIMENT = "stillroom"
MODEL_PATH = "denoiser"
RUN_KEY, CHECKOUT, COMPLETE, MANIFEST_TAG = "stillroom.pass", "stillroom.checkout", "stillroom.complete", pull.TAG
_EXPERIMENT_TAGS = {
    "mlflow.note.content": "Runs of the pipeline, written by `stillroom run`; `stillroom sync` writes them again.",
}
_METRICS, _PARAMS = 900, 90  # MLflow takes at most 1,000 metrics and 100 parameters in one call
TRAININGS = "?workflowType=machine_learning"
"""The end of an address that opens on trainings: without it MLflow shows its pages for language models."""


class Tracker:
    """One checkout's view of an MLflow server or of its own database; reading makes no run there."""

    def __init__(self, state: State, uri: str) -> None:
        with uncollected():
            from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)

        self.state, self.uri = state, uri
        self.local = uri.startswith("sqlite:")
        with explained(uri), self._alone(), uncollected():  # which imports the stores
            self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            found = self.client.get_experiment_by_name(EXPERIMENT)  # the first call makes the tables of a new database
        if found and not found.experiment_id:  # as of a proxy: each further question would be answered "none"
            raise Unreachable(f"MLflow at {shown(uri)}: empty answers: something else than MLflow answers there")
        self._experiment: str | None = found.experiment_id if found and found.lifecycle_stage == "active" else None
        self.streaming: str | None = None

    @property
    def experiment(self) -> str:
        """The id of the experiment, which is made at the first use."""
        if self._experiment is None:
            # Served artifacts: a URI that means the same to every machine, and no path of this one.
            location = f"mlflow-artifacts:/{EXPERIMENT}" if self.local else None
            with explained(self.uri), self._alone():
                found = self.client.get_experiment_by_name(EXPERIMENT)
                if found and found.lifecycle_stage == "deleted":  # by hand; its name stays taken
                    self.client.restore_experiment(found.experiment_id)
                if not found:
                    with _unless_there():
                        self.client.create_experiment(EXPERIMENT, artifact_location=location)
                    found = self.client.get_experiment_by_name(EXPERIMENT)
                assert found is not None
                self._experiment = found.experiment_id
                for name, value in _EXPERIMENT_TAGS.items():
                    self.client.set_experiment_tag(self._experiment, name, value)
        return self._experiment

    @property
    def page(self) -> str:
        """The end of an address that opens on the runs."""
        where = f"experiments/{self._experiment}/runs" if self._experiment else "experiments"
        return f"/#/{where}{TRAININGS}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes of this checkout out: two that make the tables of a database at once break it."""
        if not self.local:
            yield
            return
        self.state.artifacts.mkdir(parents=True, exist_ok=True)
        path = self.state.folder / "mlflow.lock"
        with lock.held(path, what="making the MLflow database", wait=True, say=lambda _: None):
            yield

    # Metrics while a stage runs

    def stream(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Add the points of ``values`` at ``step`` to the MLflow run of the pipeline run in progress."""
        points = {f"{stage}/{name}": [(step, value)] for name, value in values.items()}
        self._log(self._in_progress(stage), pages.shown_first(points))

    def keep(self, stage: str, path: Path, folder: str) -> None:
        """Store the file ``path`` in ``folder`` of that MLflow run."""
        run_id, place = self._in_progress(stage), f"{stage}/{folder}"
        here = self.local_folder(self.client.get_run(run_id).info.artifact_uri)
        if here is None:
            self.client.log_artifact(run_id, str(path), place)
            return
        with files.replacing(here / place / path.name) as beside:
            shutil.copyfile(path, beside)

    def _in_progress(self, stage: str) -> str:
        """The id of the MLflow run of the pipeline run in progress, which is created by its first point or file."""
        if self.streaming is None:
            tags = {CHECKOUT: self.state.identity(), "stillroom.stage": stage}
            run = self.client.create_run(self.experiment, run_name="pipeline run in progress", tags=tags)
            self.streaming = run.info.run_id
        return self.streaming

    def stop_streaming(self, status: str) -> None:
        """End the MLflow run of a pipeline run that failed, with ``status`` ``KILLED`` or ``FAILED``."""
        if self.streaming:
            with contextlib.suppress(Exception):  # the error that stopped the run counts; `repair` ends it later
                self.client.set_terminated(self.streaming, status)
            self.streaming = None

    def repair(self) -> int:
        """End the MLflow runs that a killed process of this checkout left RUNNING; returns how many."""
        if self._experiment is None:
            return 0
        # In a database of its own all are this checkout's, which may have been moved since.
        mine = "LIKE '%'" if self.uri == self.state.database else f"= '{self.state.identity()}'"
        query = f"attributes.status = 'RUNNING' and tags.`{CHECKOUT}` {mine}"
        left = [run for run in self.client.search_runs([self.experiment], query)
                if run.info.run_id != self.streaming]  # fmt: skip
        for run in left:
            self.client.set_terminated(run.info.run_id, "KILLED")
        return len(left)

    # One MLflow run for each pipeline run

    def ensure(self, pipeline_run: PipelineRun) -> str:
        """The id of the MLflow run of ``pipeline_run``, which is created or completed where needed."""
        run = self._find(pipeline_run.key)
        streamed, self.streaming = self.streaming, None
        if run is None:
            run_id = streamed or self._create(pipeline_run)
            if streamed:
                self.client.set_tag(run_id, RUN_KEY, pipeline_run.key)
        else:
            run_id = run.info.run_id
            if streamed and streamed != run_id:
                self.client.delete_run(streamed)  # the same pipeline run once more: its metrics are there already
        seal = pages.seal(pipeline_run, cached=bool(self._trained(pipeline_run)))
        if run is None or run.data.tags.get(COMPLETE) not in (seal, seal.removesuffix(pages.BARE)):
            self._complete(run_id, pipeline_run)
            self.client.set_tag(run_id, COMPLETE, seal)
        for name, value in pages.label(pipeline_run).items():  # what was decided since it was complete
            if run is None or run.data.tags.get(name) != value:
                self.client.set_tag(run_id, name, value)
        return run_id

    def _find(self, key: str) -> Any:
        found = self.client.search_runs([self.experiment], f"tags.`{RUN_KEY}` = '{key}'", max_results=1)
        return found[0] if found else None

    def _create(self, pipeline_run: PipelineRun) -> str:
        # With its tags: a run that is created before them is lost to a kill in between.
        tags = {RUN_KEY: pipeline_run.key, CHECKOUT: self.state.identity()}
        run = self.client.create_run(self.experiment, start_time=pipeline_run.when * 1000, tags=tags)
        return run.info.run_id

    def _complete(self, run_id: str, pipeline_run: PipelineRun) -> None:
        from mlflow.entities import Param

        run = self.client.get_run(run_id)
        missing = {k: v for k, v in pages.parameters(pipeline_run).items() if k not in run.data.params}
        rows = [Param(name, value) for name, value in sorted(missing.items())]
        for at in range(0, len(rows), _PARAMS):
            self.client.log_batch(run_id, params=rows[at : at + _PARAMS])
        stages = pipeline_run.stages
        training = pages.shown_first(pages.of_training(self._trained(pipeline_run).get("history.jsonl")))
        finals = {name: [(0, value)] for name, value in pipeline_run.metrics.items() if name not in training}
        self._log(run_id, {**training, **finals}, known=run.data.metrics)
        tags = {
            "mlflow.source.name": "stillroom run",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": pipeline_run.commit,
            "stillroom.git_dirty": str(pipeline_run.dirty).lower(),
            CHECKOUT: self.state.identity(),
            **({"mlflow.user": pipeline_run.about["user"]} if pipeline_run.about.get("user") else {}),
            **{f"stillroom.stage.{name}": how for name, how in pipeline_run.about.get("stages", {}).items()},
        }
        for name, value in tags.items():
            self.client.set_tag(run_id, name, value)
        self._dataset(run_id, stages)
        self._artifacts(run_id, pipeline_run)
        self.client.set_terminated(run_id, "FINISHED", end_time=max(run.info.start_time, pipeline_run.when * 1000))

    def _trained(self, pipeline_run: PipelineRun) -> dict[str, Path]:
        """What DVC's cache has of the files that training made."""
        return engine.cached(self.state.root, engine.output(pipeline_run.stages, "train", "models/candidate"))

    def _artifacts(self, run_id: str, pipeline_run: PipelineRun) -> None:
        with tempfile.TemporaryDirectory(dir=self.state.folder) as name:
            folder = Path(name)
            for path, content in pipeline_run.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            stages = pipeline_run.stages
            for stage, path in (("describe", "reports/data.html"), ("report", "reports/model.html")):
                source = engine.cached(self.state.root, engine.output(stages, stage, path)).get("")
                if source:
                    (folder / "reports").mkdir(exist_ok=True)
                    shutil.copyfile(source, folder / path)
            evaluation = engine.cached(self.state.root, engine.output(stages, "evaluate", "models/evaluation"))
            for picture in ("samples.png", "film.png", "scores.json"):
                if picture in evaluation:
                    shutil.copyfile(evaluation[picture], folder / picture)
            self.upload(run_id, folder, "")

    def _dataset(self, run_id: str, stages: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        digest = engine.output(stages, "split", "data/splits")[:36]
        source = json.dumps({"uri": "dvc.lock", "path": "data/splits"})
        dataset = Dataset(name="splits", digest=digest, source_type="dvc", source=source)
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset)])

    def _log(self, run_id: str, points: Mapping[str, list[tuple[int, float]]], known: Mapping[str, float] = {}) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = []
        for name, values in points.items():
            there = {m.step for m in self.client.get_metric_history(run_id, name)} if name in known else set()
            rows += [Metric(name, value, now, step) for step, value in values if step not in there]
        for at in range(0, len(rows), _METRICS):
            self.client.log_batch(run_id, metrics=rows[at : at + _METRICS])

    # Artifacts

    def upload(self, run_id: str, folder: Path, path: str) -> None:
        """Copy what is in ``folder`` to ``path`` among the run's artifacts; a local ``path`` holds nothing else."""
        local_folder = self.local_folder(self.client.get_run(run_id).info.artifact_uri)
        if local_folder is None:
            self.client.log_artifacts(run_id, str(folder), path or None)
            return
        if path:
            with files.replacing_folder(local_folder / path) as beside:
                shutil.copytree(folder, beside, dirs_exist_ok=True)
            return
        for source in sorted(item for item in folder.rglob("*") if item.is_file()):
            with files.replacing(local_folder / source.relative_to(folder)) as beside:
                shutil.copyfile(source, beside)

    def erase_reports(self) -> int:
        """Remove the copies of the reports, which show images, from every run; returns how many runs had some.

        They do not come back: `ensure` leaves a run alone that is complete.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        count, token = 0, ""
        while self._experiment is not None:
            found = self.client.search_runs([self._experiment], page_token=token or None)
            for run in found:
                seal = run.data.tags.get(COMPLETE, "")
                if seal.endswith(pages.BARE):  # nor does that which is not complete yet
                    self.client.set_tag(run.info.run_id, COMPLETE, seal.removesuffix(pages.BARE))
                folder = self.local_folder(run.info.artifact_uri)
                with explained(self.uri):
                    if folder is not None and (folder / "reports").is_dir():
                        shutil.rmtree(folder / "reports")
                    elif folder is None and self.client.list_artifacts(run.info.run_id, "reports"):
                        get_artifact_repository(run.info.artifact_uri, self.uri).delete_artifacts("reports")
                    else:
                        continue
                count += 1
            token = found.token
            if not token:
                break
        return count

    def erase(self, uri: str) -> None:
        """Remove the artifacts at ``uri``; nothing happens where there are none."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        folder = self.local_folder(uri)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        with explained(self.uri):
            get_artifact_repository(uri, self.uri).delete_artifacts()

    def deleted(self, days: float) -> list[tuple[str, Path]]:
        """The runs of the local database that were deleted ``days`` ago or earlier, with the folder of their files.

        Those of a server are its owner's (`mlflow gc`).
        """
        if not self.local:
            return []
        every = self.client._tracking_client.store._get_deleted_runs(older_than=int(days * 86_400_000))
        found = [(run_id, self.client.get_run(run_id).info.artifact_uri) for run_id in every]
        return [(run_id, folder) for run_id, uri in found if (folder := self.local_folder(uri)) is not None]

    def forget(self, run_id: str) -> None:
        """Remove a deleted run of the local database for good, with its files first."""
        self.erase(self.client.get_run(run_id).info.artifact_uri)
        self.client._tracking_client.store._hard_delete_run(run_id)

    def local_folder(self, uri: str) -> Path | None:
        """Where an artifact URI of the local database lies on this machine; None for a server's."""
        prefix = "mlflow-artifacts:/"
        if not self.local or not uri.startswith(prefix):
            return None
        return self.state.artifacts / uri.removeprefix(prefix).lstrip("/")

    @contextlib.contextmanager
    def pulled(self, uri: str) -> Iterator[Path]:
        """A folder with the artifacts at ``uri`` while the body runs."""
        local_folder = self.local_folder(uri)
        if local_folder is not None:
            yield local_folder
            return
        import mlflow.artifacts

        with tempfile.TemporaryDirectory(dir=self.state.folder) as name, explained(self.uri):
            yield Path(mlflow.artifacts.download_artifacts(uri, dst_path=name, tracking_uri=self.uri))

    def run(self, run_id: str) -> Any | None:
        """The MLflow run ``run_id``, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def ensure_model(self, name: str) -> None:
        """Register the model ``name``, unless it is."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            with _unless_there():
                self.client.create_registered_model(name)

    def version(self, name: str, reference: str) -> Any | None:
        """The version of model ``name`` that ``@alias`` or ``/number`` points to, or None."""
        from mlflow.exceptions import MlflowException

        try:
            if reference.startswith("@"):
                return self.client.get_model_version_by_alias(name, reference[1:])
            return self.client.get_model_version(name, reference.lstrip("/"))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


@contextlib.contextmanager
def _unless_there() -> Iterator[None]:
    """Make something of a name, where another machine may be quicker."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn a refusal into a UserError of one line, and a server that does not answer into Unreachable.

    The error that it was is not kept with it: Prefect stores the whole chain, and the address has the password in it.
    """
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        line = without_login(str(error).splitlines()[0], uri)[:300]
        kind = Unreachable if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") else UserError
        raise kind(f"MLflow at {shown(uri)}: {line}") from None
    except sqlalchemy.exc.DatabaseError as error:
        raise UserError(
            f"MLflow at {shown(uri)}: {error.orig}: move the file away, `stillroom sync` makes it again"
        ) from None


class Unreachable(UserError):
    """The server does not answer, or answers that it is broken: a later try may go well."""
