"""The paths of a checkout's own files, and the environment that keeps every tool quiet and offline."""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from components import NO_TELEMETRY
from components.base import files, versions
from components.base.errors import UserError
from components.pipeline import STATE

QUIET = {
    **NO_TELEMETRY,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # Results persisted by Prefect are pickles; DVC keeps the outputs, so nothing of it is needed.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
}
"""No telemetry, no update check, no download: a value that the user has set stays."""

_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class State:
    """The paths below one checkout's git-ignored folder."""

    root: Path

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.root / STATE

    @property
    def lock(self) -> Path:
        """The file that one run at a time holds."""
        return self.folder / "lock"

    @property
    def events(self) -> Path:
        """The events of the running stages."""
        return self.folder / "events.jsonl"

    @property
    def looked(self) -> Path:
        """Hashes of the sources' files, by size and time of change; in the scratch folder of stage `collect`."""
        return self.folder / "collect" / ".looked.json"

    @property
    def servers(self) -> Path:
        """Which servers `stillroom ui` runs, and where."""
        return self.folder / "servers.json"

    @property
    def database(self) -> str:
        """The MLflow database as a URI."""
        return f"sqlite:///{self.folder / 'mlflow' / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """Where the local MLflow keeps artifacts."""
        return self.folder / "mlflow" / "artifacts"

    def identity(self) -> str:
        """A name of this checkout that no other has, a copy of its folder least of all; made at the first call."""
        found = self.folder.stat()
        own = f"{found.st_dev}-{found.st_ino}"
        path = self.folder / "checkout"
        held = path.read_text("utf-8").split() if path.exists() else []
        if len(held) != 2 or held[1] != own:
            held = [uuid.uuid4().hex, own]
            files.write_text(path, " ".join(held) + "\n")
        return held[0]

    def enter(self, *, writes: bool = True) -> None:
        """Make the folder and point Prefect, DVC and MLflow at it; idempotent, before any of them is imported.

        Without ``writes`` it may be one that this user can only read, or not be there: what the tools remember is then
        in a temporary folder until this process ends.
        """
        if "?" in str(self.root):  # where the address of a database ends: it would lie outside, for others to meet
            raise UserError(f"{self.root}: a checkout cannot lie where a name has a question mark: rename the folder")
        place = self.folder
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            if writes:
                raise UserError(f"{place}: cannot be made: {error.strerror}") from None
        if not (writes or os.access(place, os.W_OK)):
            place = _apart()
        entered[:] = [self]
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            Path.home()
        except RuntimeError:  # an account without a name, as in a container: MLflow could not even be imported
            os.environ["HOME"] = str(place / "home")
        try:
            getpass.getuser()
        except (KeyError, OSError):  # nor DVC ask for it
            os.environ["LOGNAME"] = f"user {os.getuid()}"
        os.environ.setdefault("PREFECT_HOME", str(place / "prefect"))
        # Else Prefect unpacks its pages into its own installed package, which may not be writable.
        os.environ.setdefault("PREFECT_UI_STATIC_DIRECTORY", str(place / "prefect" / "pages"))
        os.environ.setdefault("DVC_SITE_CACHE_DIR", str(place / "dvc"))
        # Else torch leaves a folder of each user's in the machine's folder for temporary files.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place / "torchinductor"))
        os.environ.setdefault("MLFLOW_TRACKING_URI", self.database)
        # DVC hands the stages' commands to it, and that of a service account may be /usr/sbin/nologin.
        os.environ["SHELL"] = "/bin/sh"
        # Prefect's and MLflow's clients would ask a proxy for the servers that run here.
        direct = [name for name in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")).split(",") if name]
        direct += [name for name in _HERE if name not in direct]
        os.environ |= dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(direct))
        # `python` in dvc.yaml is the Python that runs this, also when its environment is not activated.
        here = str(Path(sys.executable).parent)
        if os.environ.get("PATH", "").split(os.pathsep)[0] != here:
            os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])


entered: list[State] = []
"""The checkout that this process works in, once it has entered one."""


@functools.cache
def _apart() -> Path:
    """A folder that goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="stillroom-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def find(start: Path) -> State:
    """The state of the checkout that ``start`` lies in; UserError outside of one."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and ((folder / "components").is_dir() or versions.is_project(folder)):
            return State(folder)
    raise UserError(
        f"{start}: not inside a checkout of Stillroom or a project (no dvc.yaml here or above): cd into one, or "
        "make one by `stillroom init`"
    )
