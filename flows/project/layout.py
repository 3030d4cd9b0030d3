"""The files of a new project, but for what git and DVC make: each is text or bytes, by its path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from components.base.config import FILE
from flows.dvc import package
from flows.history import ledger
from flows.project import presets

_GITIGNORE = f"""\
/.venv/
/.stillroom/
__pycache__/
# What is still being written, or was when its writer was killed.
.*.beside-*
# Outputs of the stages: DVC has them (dvc.lock), git has their hashes.
/data/raw
/data/clean
/data/pixels
/data/splits
/data/text
/data/latents
/data/profile
# What `stillroom start` brings: DVC has it (data/start.dvc).
/data/start
/models/
/reports/
# The pictures themselves: data/raw has what was taken in.
/{presets.PICTURES}/*
!/{presets.PICTURES}/README.txt
"""
_GITATTRIBUTES = """\
# What lies here is hashed: no line ends are converted.
* -text
# Where two branches both changed a file. Lines are only added to the first two, which then have those of both. The
# others are made by `stillroom run`: git keeps this branch's and calls it a conflict, `git add` ends that, and
# a run makes it right.
data/withdrawn.jsonl merge=union
data/decisions.jsonl merge=union
# Sources that both branches added; `stillroom` tells git the command.
params.yaml merge=stillroom
data/source.json -merge linguist-generated
metrics/*.json -merge linguist-generated
dvc.lock -merge linguist-generated
dvc.yaml -merge linguist-generated
algorithms/*.json -merge linguist-generated
params.schema.json -merge linguist-generated
"""
_DVCIGNORE = """\
# DVC reads every dvc.yaml below this folder, and `dvc repro -P` runs it: only the project's own counts, not one that
# came with a folder of images.
dvc.yaml
!/dvc.yaml
/.stillroom
"""
_DVC_CONFIG = """\
[core]
    analytics = false
    check_update = false
    # Outputs are git-ignored as a whole, and nobody but the developer stages a commit.
    autostage = false
[cache]
    type = reflink,copy
"""
_PICTURES = """\
Put pictures here, in folders below or not. The name of a picture's folder is its label; pictures that lie here
themselves have none. Captions and labels may also stand in metadata.csv beside the pictures, with a column file_name.
git ignores what lies here; `stillroom run` copies it to data/raw.
"""
_README = """\
# {name}

A project of Stillroom, made by `stillroom init --preset {preset}`: {line}.

{measured}

| file | what it is |
|---|---|
| `params.yaml` | every value that can change a result; yours to edit |
| `params.schema.json` | their units and ranges, for an editor |
| `{pictures}` | where the pictures lie (`collect.sources` in `params.yaml`) |
| `dvc.yaml`, `algorithms/` | rendered from the installed package: what each stage reads, versions of its algorithms |
| `dvc.lock`, `metrics/` | what was made from what; commit them after a run |
| `data/`, `models/`, `reports/` | outputs; DVC's cache has them (`dvc push` to a remote of yours shares them) |
| `.stillroom/` | servers, locks, checkpoints, the MLflow database; git ignores it |

```sh
stillroom run --dry-run   # which stages would run
stillroom run             # bring everything up to date and register the model
stillroom status          # also while a run goes on
stillroom ui              # MLflow and Prefect in the browser
stillroom sample --model models:/denoiser@champion --num 16 --out grid.png
```

Stop it when you like (Ctrl-C, a power cut): the same command goes on from the last checkpoint.

**Licence.** `licence` of each source in `params.yaml` goes with every version of the model. Write what holds for your
pictures.

**Another version of Stillroom** is an upgrade of the package: `pip install --upgrade stillroom`, then `stillroom run`.
It renders `dvc.yaml` and `algorithms/` anew and runs the stages whose code or algorithms are other ones; training runs
again only when the version of its algorithm changed. Commit these files afterwards. Where it has parameters that
`params.yaml` lacks, one line names them all, with the values that Stillroom's own file has.

**Others** clone this repository and install the version of Stillroom that `dvc.yaml` names; `stillroom run` then
fetches what was made from your DVC remote. The history of runs and decisions is in git below `refs/stillroom/runs`:
`git push origin 'refs/stillroom/runs/*'` shares it, {fetch} gets it.
"""


def files(name: str, title: str, *, location: str, licence: str) -> dict[str, bytes]:
    """The content of every file of a project of the preset ``name``, by path; ``title`` heads its README."""
    preset = presets.named(name)
    text = {
        **package.render(),
        FILE: presets.params(name, location=location, licence=licence),
        ".gitignore": _GITIGNORE, ".gitattributes": _GITATTRIBUTES, ".dvcignore": _DVCIGNORE,
        ".dvc/config": _DVC_CONFIG, ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        **package.RECORDS,
        "README.md": _README.format(
            name=title, preset=name, line=preset.line, measured=preset.measured, fetch=ledger.FETCH_COMMAND,
            pictures=f"data/samples/{presets.SAMPLES[0]}" if preset.samples else location,
        ),
    }  # fmt: skip
    if not preset.samples and location == presets.PICTURES:
        text[f"{presets.PICTURES}/README.txt"] = _PICTURES
    found = {path: content.encode() for path, content in text.items()}
    if preset.samples:
        inside = resources.files(__package__)
        found |= {f"data/samples/{each}": inside.joinpath(each).read_bytes() for each in presets.SAMPLES}
    return found


def local(place: Path) -> str:
    """The text of .dvc/config.local, which git ignores: a `dvc` by hand keeps its state in the project too."""
    quote = next((each for each in ('"', "'", "'''") if each not in str(place)), '"""')  # else # and , have a meaning
    return f"[core]\n    site_cache_dir = {quote}{place / '.stillroom' / 'dvc'}{quote}\n"
