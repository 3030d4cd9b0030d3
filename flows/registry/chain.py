"""The chain from a registered version to its images, each link checked: `stillroom lineage`.

A version holds when every link does: what the ledger decided, MLflow's run, the commit of the code, dvc.lock, each
object in DVC's cache against its hash, every file of the model against its manifest, and the sources with licences.
What people withdrew or decided by hand is named with the hash of its record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.base import files
from components.base.errors import UserError
from flows.dvc import engine, package
from flows.history import built, decisions, git, ledger, store
from flows.history.known import History
from flows.history.store import PipelineRun
from flows.registry import bundle, impact
from flows.registry.mlflow import MANIFEST_TAG, MODEL_PATH, RUN_KEY
from flows.registry.versions import Versions


@dataclass(frozen=True)
class Link:
    """One link of the chain: what was ``found``, and if it does not hold, how to ``mend`` it."""

    name: str
    holds: bool
    found: str
    mend: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)


BYTES = ("version", "ledger", "files")
"""The links without which a version is not what its number says."""
QUICK = (*BYTES, "MLflow run", "commit", "dvc.lock", "by hand", "sources")
"""All but those that hash what lies in DVC's cache."""


def verify_chain(versions: Versions, version: Any, *, only: Container[str] | None = None) -> list[Link]:
    """Every link of ``version``, in order from the registry to the sources; those that a broken one hides are left out.

    ``only`` names the links to look at; None for all.  Nothing is written and nothing is mended.
    """
    root = versions.tracker.state.root
    key, digest = version.tags.get(RUN_KEY, ""), version.tags.get(MANIFEST_TAG)
    run = versions.history.run(key)
    checks: list[tuple[str, Callable[[], Iterable[Link]]]] = [
        ("version", lambda: [_version(versions, version, key, digest)]),
        ("ledger", lambda: [on_record(versions.history, versions.name, int(version.version), digest, key)]),
        ("files", lambda: [_bytes(versions, version, digest)]),
        ("MLflow run", lambda: [_mlflow(versions, version, key)]),
    ]
    if run is not None:
        checks += [
            ("commit", lambda: [_package(run) if package.of_project(run.stages) else _commit(root, run)]),
            ("dvc.lock", lambda: [_lock(run)]),
            ("objects", lambda: _objects(root, run)),
            ("model", lambda: [_model(versions, version, run)]),
            ("knee", lambda: _knee(root, run)),
            ("by hand", lambda: [by_hand(run)]),
            ("sources", lambda: [_sources(run)]),
        ]
        if json.loads(run.files.get("data/start.json", b"null")):
            checks.append(("start", lambda: [_start(versions.history, run)]))
    return [link for name, check in checks if only is None or name in only for link in check()]


def refuse(versions: Versions, version: Any, what: str, *, only: Container[str] = BYTES) -> None:
    """UserError, with the first link of ``only`` that does not hold; ``what`` is what is then not done with it."""
    first = broken(verify_chain(versions, version, only=only))
    if first:
        raise UserError(f"{versions.name} version {version.version} is not {what}: {first.name}: {first.found}: "
                        f"{first.mend}")  # fmt: skip


def broken(links: list[Link]) -> Link | None:
    """The first link that does not hold."""
    return next((link for link in links if not link.holds), None)


def _version(versions: Versions, version: Any, key: str, digest: str | None) -> Link:
    return Link("version", bool(key and digest), f"{versions.name} version {version.version}, manifest {digest}",
                "it was not registered by Stillroom: register it by `stillroom run`")  # fmt: skip


def on_record(history: History, name: str, number: int, digest: str | None, key: str) -> Link:
    """Whether the ledger says that version ``number`` of ``name`` was made by the run ``key`` with that manifest."""
    run, decided = history.run(key), decisions.of_key(history.decided(name), key)
    if run is None or decided is None:
        return Link("ledger", False, "no decision on this version is on record here",
                    f"fetch the ledger: {ledger.FETCH_COMMAND}" if run is None
                    else "`stillroom run` decides on it")  # fmt: skip
    held = (decided.version, decided.intent.body["manifest"])
    if held[0] is not None and held != (number, digest):
        return Link("ledger", False, f"on record is version {held[0]} with manifest {held[1]}",
                    "`stillroom sync` puts right what the ledger knows")  # fmt: skip
    return Link("ledger", True, f"record {decided.intent.id[:12]} by {decided.intent.body['by']}: "
                f"{decided.intent.body['decision']['reason']}")  # fmt: skip


def _bytes(versions: Versions, version: Any, digest: str | None) -> Link:
    fault = versions.fault(version, digest)
    if fault:
        return Link("files", False, fault, "`stillroom sync` takes them from DVC's cache again")
    with versions.tracker.pulled(version.source) as folder:
        listed = json.loads((folder / bundle.MANIFEST).read_text("utf-8"))["files"]
    return Link("files", True, f"{len(listed)} files, {sum(one['bytes'] for one in listed.values()):,} bytes, "
                "each with the SHA-256 of the manifest")  # fmt: skip


def _mlflow(versions: Versions, version: Any, key: str) -> Link:
    mend = "`stillroom sync` writes it again"
    run = versions.tracker.run(version.run_id)
    if run is None:
        return Link("MLflow run", False, f"{version.run_id} is not there", mend)
    if run.info.lifecycle_stage != "active" or run.data.tags.get(RUN_KEY) != key:
        return Link("MLflow run", False, f"{version.run_id} is deleted or of another pipeline run", mend)
    return Link("MLflow run", run.info.status == "FINISHED", f"{version.run_id}, {run.info.status}", mend)


def _commit(root: Path, run: PipelineRun) -> Link:
    if not run.commit or not git.commit(root, run.commit):
        return Link("commit", False, f"{run.commit or 'none'} is not in this repository", "fetch the branch it lies on")
    if run.dirty:
        return Link("commit", False, f"{run.commit}, with changes that no commit holds",
                    "commit the code and run `stillroom run --force train`")  # fmt: skip
    other = store.missing_code(root, run)
    if other:
        return Link("commit", False, f"{run.commit} does not hold {other[0]} as it was",
                    "commit the code and run `stillroom run --force train`")  # fmt: skip
    inside = git.git(root, "for-each-ref", "--contains", run.commit, "--format=%(refname:short)",
                     "refs/heads", "refs/remotes", "refs/tags").split()  # fmt: skip
    if not inside:
        return Link("commit", False, f"{run.commit} lies on no branch or tag: git removes it one day",
                    f"`git tag made-{run.key[:8]} {run.commit}`")  # fmt: skip
    return Link("commit", True, f"{run.commit}, clean, on {', '.join(inside[:3])}")


def _package(run: PipelineRun) -> Link:
    """Of a run in a project: its code is an installed package's."""
    version = run.about.get("libraries", {}).get(package.NAME)
    if not version:
        return Link("package", False, "which version of Stillroom made it is not on record",
                    "`stillroom run --force train` puts one on record")  # fmt: skip
    if run.dirty:
        return Link(
            "package",
            False,
            f"{package.NAME} {version}, but its files were others",
            "install a wheel, or commit what is changed in the clone, and `stillroom run --force train`",
        )
    other = package.unlike(run.stages)
    here = f"; {built.version()}, installed here, has other code for {', '.join(other)}" if other else ""
    return Link("package", True, f"{package.NAME} {version}, no file of it changed{here}")


def _lock(run: PipelineRun) -> Link:
    found = engine.key(run.stages)
    same = found == run.key
    return Link("dvc.lock", same, f"its inputs have the key {found[:12]}" + ("" if same else f", not {run.key[:12]}"),
                "" if same else "the record was changed: fetch the ledger again")  # fmt: skip


def _objects(root: Path, run: PipelineRun) -> Iterator[Link]:
    for stage, entry in run.stages.items():
        for out in entry.get("outs", []):
            digest = out.get("md5", "")
            if not digest or out["path"].startswith("metrics/"):
                continue
            name = f"{stage}: {out['path']}"
            held = engine.cached(root, digest)
            if not held:
                yield Link(name, False, f"{digest} is not whole in DVC's cache", "`dvc pull` fetches it")
                continue
            wrong = damaged(root, digest, held)
            yield Link(name, not wrong, f"{digest}, {len(held)} files" + (f": {wrong} is damaged" if wrong else ""),
                       f"remove {wrong} and `dvc pull`, or run stage {stage} again" if wrong else "")  # fmt: skip


def damaged(root: Path, digest: str, held: Mapping[str, Path]) -> str:
    """The first object whose content has not the hash in its name; empty when each has."""
    places = list(held.values())
    if digest.endswith(".dir"):
        places.append(engine.listing(root, digest))
    for place in places:
        with place.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != place.parent.name + place.name.removesuffix(".dir"):
            return str(place.relative_to(root) if place.is_relative_to(root) else place)
    return ""


def _model(versions: Versions, version: Any, run: PipelineRun) -> Link:
    """Whether the files that consumers get are those that the pipeline run made: each of them, and no other."""
    root, stages = versions.tracker.state.root, run.stages
    model = engine.cached(root, engine.output(stages, "train", "models/candidate"))
    evaluation = engine.cached(root, engine.output(stages, "evaluate", "models/evaluation"), bundle.OF_EVALUATION)
    if not model or not evaluation:
        return Link("model", False, "not in DVC's cache", "`dvc pull`")
    held = bundle.contents(model, evaluation)
    with versions.tracker.pulled(version.source) as folder:
        try:
            listed = json.loads((folder / bundle.MANIFEST).read_text("utf-8"))["files"]
        except (OSError, ValueError, KeyError) as error:
            return Link("model", False, f"{MODEL_PATH}/{bundle.MANIFEST}: {error}", "`stillroom sync` writes it again")
    mend = "`stillroom sync` puts right what the ledger knows"
    for name, place in sorted(held.items()):
        stage = "train" if place == model.get(name) else "evaluate"
        if listed.get(name, {}).get("sha256") != files.sha256(place):
            return Link("model", False, f"{name} is not the file that stage {stage} made", mend)
    if more := sorted(listed.keys() - held.keys()):
        return Link("model", False, f"{more[0]} was made by no stage", mend)
    made = sum(place == model.get(name) for name, place in held.items())
    return Link("model", True, f"{made} files of stage train, {len(held) - made} of stage evaluate")


def _knee(root: Path, run: PipelineRun) -> Iterator[Link]:
    """Where the version draws in another way than it was trained for: whether that is all, and the knee."""
    swept = engine.cached(root, engine.output(run.stages, "evaluate", "models/evaluation"), bundle.OF_EVALUATION)
    if bundle.KNEE_NOTES not in swept:
        return
    model = engine.cached(root, engine.output(run.stages, "train", "models/candidate"))
    if bundle.NOTES not in model:
        yield Link("knee", False, f"{bundle.NOTES} of stage train is not in DVC's cache", "`dvc pull`")
        return
    places = (model[bundle.NOTES], swept[bundle.KNEE_NOTES], swept["scores.json"])
    before, after, scores = (json.loads(path.read_text("utf-8")) for path in places)
    knee = scores["knee"]
    way = {"steps": knee} if isinstance(knee, int) else knee  # a number of steps is what sweeps chose at first
    holds = after == {**before, **way}
    other = [f"{name} {after[name]}" for name in way if name != "steps" and after[name] != before.get(name)]
    drawn = ", ".join([f"{after['steps']} steps", *other])
    yield Link("knee", holds, f"{drawn}, by the sweep of stage evaluate (scores.json, SHA-256 "
               f"{files.sha256(swept['scores.json'])[:12]}); stage train wrote {before['steps']}",
               "" if holds else "the sweep says something else: run stage evaluate again")  # fmt: skip


def _sources(run: PipelineRun) -> Link:
    sources = run.sections.get("collect", {}).get("sources", [])
    looked = {one["name"]: one for one in json.loads(run.files.get("data/source.json", b"{}")).get("sources", [])}
    unseen = [one["name"] for one in sources if one["name"] not in looked]
    said = ", ".join(
        f"{one['name']} ({one['licence']}), {looked[one['name']]['files']:,} files, "
        f"SHA-256 {looked[one['name']]['sha256'][:12]}"
        for one in sources
        if one["name"] in looked
    )
    mend = f"no record of {', '.join(unseen)}: run `stillroom look` and `stillroom run`" if unseen else ""
    return Link("sources", bool(sources) and not unseen, said or "none on record", mend)


def by_hand(run: PipelineRun) -> Link:
    """The records of what people did to the data, as the run read them; one of an earlier version may lack them."""
    said = []
    for path, what in (("data/withdrawn.jsonl", "withdrawn"), ("data/decisions.jsonl", "decided by curators")):
        text = run.files.get(path, b"")
        count = sum(bool(line.strip()) for line in text.split(b"\n"))
        said.append(
            f"{count:,} {what}" + (f" ({path}, SHA-256 {hashlib.sha256(text).hexdigest()[:12]})" if count else "")
        )
    return Link("by hand", True, ", ".join(said))


def _start(history: History, run: PipelineRun) -> Link:
    begun = json.loads(run.files["data/start.json"])
    origin = impact.started(history.root, [run], history.records).get(run.key, "")
    return Link("start", bool(origin), f"{begun['model']}, made by pipeline run {origin[:8]}" if origin
                else f"{begun['model']}: what it was trained on is not on record",
                "start from a version that is registered here")  # fmt: skip


def image(root: Path, word: str) -> set[str]:
    """The SHA-256 of the image that ``word`` names: a file, a SHA-256 or source:name."""
    from components.samples import catalogue

    path = Path(word)
    if path.is_file():
        return {files.sha256(path)}
    return catalogue.read(raw=root / "data/raw", clean=root / "data/clean").named(word)
