"""Where versions are pulled from: an MLflow server, a mirror's folder, or this checkout's own registry."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from components.base.errors import UserError, environment_error
from consume import pull
from flows.registry import address
from flows.workspace.paths import State


class Local(pull.Mirror):
    """The registry of this checkout, read from its files: no server has to run."""

    def __init__(self, state: State, uri: str) -> None:
        missing = address.lost(uri)
        if missing:
            raise missing
        from flows.registry.mlflow import Tracker

        super().__init__(state.artifacts)
        self.tracker = Tracker(state, uri)

    def resolve(self, name: str, alias: str, pin: int | None) -> tuple[int, str, str, str]:
        """Number, SHA-256 of the manifest, folder and signature of the version of ``alias``, or of version ``pin``."""
        from flows.registry.mlflow import MANIFEST_TAG
        from flows.registry.versions import Versions

        found = Versions(self.tracker, name).resolve(f"@{alias}" if pin is None else f"/{pin}")
        folder = self.tracker.local_folder(found.source)
        if folder is None:
            raise UserError(f"{name} version {found.version}: lies at {found.source}, not in this checkout")
        inside = str(folder.relative_to(self.location))
        return int(found.version), found.tags.get(MANIFEST_TAG, ""), inside, found.tags.get(pull.SIGNATURE, "")


def registry(state: State, uri: str | None) -> pull.Server | pull.Mirror:
    """What ``uri`` names: a server's address, a mirror's folder, a database; None: the registry of this checkout."""
    uri = uri or os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("sqlite:"):
        return Local(state, uri)
    with explained():
        return pull.Server(uri) if uri.startswith("http") else pull.Mirror(uri.removeprefix("file://"))


def check(state: State, registry: pull.Server | pull.Mirror, name: str, number: int, digest: str, what: str) -> None:
    """UserError when version ``number`` of ``name`` is not what the ledger says; ``what`` is then not done with it.

    Of this checkout's own registry the ledger has to know it; of another it may not.  Bytes are compared with
    ``digest`` by who reads them.
    """
    from flows.history.known import History
    from flows.registry import chain
    from flows.registry.versions import Versions

    if isinstance(registry, Local):
        versions = Versions(registry.tracker, name)
        chain.refuse(versions, versions.resolve(f"/{number}"), what, only=("version", "ledger"))
        return
    for one in History(state.root).decided(name):
        manifest = one.intent.body["manifest"]
        if one.counts and one.version == number and manifest not in (None, digest):
            raise UserError(f"{name} version {number} is not {what}: {registry.location} has manifest {digest}, and on "
                            f"record is {manifest}")  # fmt: skip


def aliases(registry: pull.Server | pull.Mirror, name: str) -> dict[str, int]:
    """The aliases of model ``name`` and the number of the version that each points to."""
    if isinstance(registry, Local):
        found = registry.tracker.client.search_registered_models(f"name = '{name}'")
        return {alias: int(number) for model in found for alias, number in model.aliases.items()}
    if isinstance(registry, pull.Server):
        model = registry.ask("mlflow/registered-models/get", name=name)["registered_model"]
        return {each["alias"]: int(each["version"]) for each in model.get("aliases", [])}
    raise UserError(f"{registry.location}: is a mirror: release from a registry")


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what a registry, a disk or a network did wrong into one line."""
    try:
        yield
    except pull.PullError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        known = environment_error(error)
        raise known or UserError(f"{error.filename or 'registry'}: {error.strerror or error}") from error
    except pull.MISTAKES as error:  # answers of another shape than MLflow's
        raise UserError(f"not the answer of a registry: {type(error).__name__}: {error}") from error
