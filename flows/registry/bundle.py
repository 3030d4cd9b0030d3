"""The files of a registered version: a plain folder whose manifest lists every file with its SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.base import files, processes
from components.base.errors import UserError
from components.samples import drawn
from consume import pull
from flows.dvc import engine, package
from flows.history import built
from flows.history.store import PipelineRun

MANIFEST = pull.MANIFEST
_LIBRARIES = ("diffusers", "numpy", "pillow", "safetensors", "torch", "torchvision")
_BESIDE = ("scores.json", "samples.png", "film.png")
_TABLES = (drawn.SAMPLES_FILE, drawn.HELD_OUT_FILE)
"""What the gate decides on beside the scores; evaluations of before they were written have none."""
NOTES = "stillroom.json"
KNEE_NOTES = f"knee/{NOTES}"
_KNEE = {KNEE_NOTES: NOTES, **{f"knee/{name}": name for name in ("README.md", "onnx/levels.json")}}
"""What an evaluation that swept the number of steps may have in the place of the model's own files."""
OF_EVALUATION = (*_BESIDE, *_TABLES, *_KNEE)
"""The files of an evaluation that a version has."""
_ARITHMETIC = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Flags of a processor by which torch chooses its kernels."""


def contents(model: Mapping[str, Path], evaluation: Mapping[str, Path]) -> dict[str, Path]:
    """The files of a version, but for its manifest, from those of the two outputs, all by name."""
    beside = {name: evaluation[name] for name in (*_BESIDE, *_TABLES) if name in _BESIDE or name in evaluation}
    knee = {name: evaluation[source] for source, name in _KNEE.items() if source in evaluation}
    return {**model, **beside, **knee}


def build(
    folder: Path, *, run: PipelineRun, model: Mapping[str, Path], evaluation: Mapping[str, Path],
    recorded: bytes | None = None,
) -> bytes:  # fmt: skip
    """Write the version of pipeline run ``run`` into ``folder`` and return its manifest.

    ``model`` and ``evaluation`` are the files of the two outputs, by name.  With ``recorded``, the manifest that the
    version had when it was made, it is made again: UserError when one file is not the same.
    """
    with files.replacing_folder(folder) as beside:
        for name, source in contents(model, evaluation).items():
            target = beside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        text = recorded or (json.dumps(manifest(beside, run), indent=1, sort_keys=True) + "\n").encode()
        (beside / MANIFEST).write_bytes(text)
        if recorded:
            verify(beside)
    return text


def digest(manifest: bytes) -> str:
    """The SHA-256 of a manifest's text: it names every byte of a version."""
    return hashlib.sha256(manifest).hexdigest()


def libraries(root: Path | None = None) -> dict[str, str]:
    """The versions of the libraries that decide what a training makes, as they are installed now.

    Where ``root`` is a project, Stillroom itself is one of them; in a checkout the commit says what it is.
    """
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return found | ({package.NAME: built.version()} if root and package.is_project(root) else {})


def machine() -> str:
    """The kind of machine that this is, as far as it decides the bytes that a run makes; no name of its own.

    How many threads there are is part of it: sums of floats in numpy and torch depend on how they are shared out.
    """
    cpu, flags = platform.processor(), set[str]()
    with contextlib.suppress(OSError):
        rows = [line.partition(":") for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()]
        said = {name.strip(): value.strip() for name, _, value in rows}
        cpu, flags = said.get("model name", cpu), set(said.get("flags", said.get("Features", "")).split())
    able = [name for name in _ARITHMETIC if name in flags]
    boards = sorted(
        value.strip()
        for path in Path("/proc/driver/nvidia/gpus").glob("*/information")
        for name, _, value in (line.partition(":") for line in path.read_text("utf-8", "replace").splitlines())
        if name == "Model"
    )
    threads = f"{os.environ.get('OMP_NUM_THREADS') or processes.cores()} threads"
    return ", ".join([f"{platform.system()} {platform.machine()}", cpu or "unknown processor", *able, threads, *boards])


def manifest(folder: Path, run: PipelineRun) -> dict[str, Any]:
    """Every file of ``folder`` with hash and size, and what the version was made from."""
    stages = run.stages
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "format": 1,
        "files": {
            path.relative_to(folder).as_posix(): {"sha256": files.sha256(path), "bytes": path.stat().st_size}
            for path in found
        },
        "data": {
            name: engine.output(stages, stage, path)
            for name, stage, path in (
                ("raw", "collect", "data/raw"),
                ("verdicts", "clean", "data/clean"),
                ("pixels", "resize", "data/pixels"),
                ("splits", "split", "data/splits"),
            )
        },
        "sources": sources(run),
        "start": json.loads(run.files.get("data/start.json", b"null")),
        "git_commit": run.commit,
        "git_dirty": run.dirty,
        "params_sha256": params_hash(run),
        "pass": run.key,
        "libraries": run.about.get("libraries") or libraries(),
    }


def sources(run: PipelineRun) -> list[dict[str, Any]]:
    """The sources of the images, with licence and SHA-256."""
    sources = run.sections.get("collect", {}).get("sources", [])
    looked = json.loads(run.files.get("data/source.json", b"{}")).get("sources", [])
    prints = {each["name"]: each["sha256"] for each in looked}
    return [{"name": each["name"], "licence": each["licence"], "sha256": prints.get(each["name"])} for each in sources]


def params_hash(run: PipelineRun) -> str:
    """SHA-256 of params.yaml as it was in ``run``."""
    return hashlib.sha256(run.files["params.yaml"]).hexdigest()


def verify(folder: Path, wanted: str | None = None) -> dict[str, Any]:
    """The manifest of the version in ``folder``, every file compared with it; UserError names the first that differs.

    ``wanted`` is the SHA-256 that the manifest itself must have, where it is known.
    """
    path = folder / MANIFEST
    found = files.read_json_object(path, "not a version that Stillroom registered")
    if wanted is not None and files.sha256(path) != wanted:
        raise UserError(f"{path}: its SHA-256 is {files.sha256(path)}, not {wanted} as on record: do not trust it")
    listed = found.get("files")
    if not isinstance(listed, dict):
        raise UserError(f"{path}: names no files: not a version that Stillroom registered")
    for name, promised in sorted(listed.items()):
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{path}: names {name!r}, which lies outside: do not trust this folder")
        if not target.is_file():
            raise UserError(f"{target}: missing: pull the version again")
        if target.stat().st_size != promised["bytes"] or files.sha256(target) != promised["sha256"]:
            raise UserError(f"{target}: differs from what {MANIFEST} promises: pull the version again")
    for extra in sorted(item for item in folder.rglob("*") if not item.is_dir()):
        name = extra.relative_to(folder).as_posix()
        if name != MANIFEST and name not in listed:
            raise UserError(f"{extra}: {MANIFEST} does not list it: do not trust this folder")
    return found
