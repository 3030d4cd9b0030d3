"""Commands that take a model: `stillroom sample`, `pull`, `release`, `distil` and `ema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.options import Folder, enter
from flows.workspace import exits

Model = Annotated[str, typer.Option(help="models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a pipeline.")]
# Spelled out, since the modules that define them need seconds to import; tests/model/test_drawing.py compares.
SamplerName = Literal[
    "ddpm", "ddim", "euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "euler_ancestral", "churn", "pc_ve", "pc_vp",
    "consistency",
]  # fmt: skip


Size = Annotated[
    str | None, typer.Option(metavar="WxH", help="Width and height in pixels.", show_default="the model's")
]  # fmt: skip
Prompt = Annotated[
    list[str] | None, typer.Option(help="What to draw, in words; may be repeated.", show_default="nothing is said")
]  # fmt: skip
PromptFile = Annotated[
    Path | None, typer.Option(help="A file with a prompt a line.", dir_okay=False, show_default="none")
]  # fmt: skip
Negative = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What guidance leads away from, in words.", show_default="no caption"),
]  # fmt: skip
Init = Annotated[
    list[Path] | None,
    typer.Option(metavar="PICTURE", help="Begin from this picture; may be repeated, in turn.", dir_okay=False,
                 show_default="from noise alone"),
]  # fmt: skip
Mask = Annotated[
    Path | None,
    typer.Option(metavar="PICTURE", help="Draw anew where this picture is white, and keep the rest of --init.",
                 dir_okay=False, show_default="all of it"),
]  # fmt: skip
Strength = Annotated[
    float | None,
    typer.Option(help="Share of the steps that are taken from --init on; less keeps more of it.", min=0.01, max=1,
                 show_default="0.6, with --mask 1"),
]  # fmt: skip
Repeats = Annotated[
    int | None,
    typer.Option(help="With --mask, take each step so often, by Euler's method, so that the parts fit; 1: the sampler.",
                 min=1, max=50, show_default="5"),
]  # fmt: skip
Autoguidance = Annotated[
    float | None,
    typer.Option(help="Push away from the model's guide; 1 is none.", min=1, max=50, show_default="the model's"),
]  # fmt: skip
Levels = Annotated[
    Literal["log", "karras", "time"] | None,
    typer.Option(
        help="Noise levels in equal steps of log sigma, of sigma ** (1 / 7), or of the schedule's time.",
        show_default="log, or a distilled model's own",
    ),
]  # fmt: skip
Eta = Annotated[
    float | None,
    typer.Option(
        help="Share of fresh noise in each step of ddim, ddpm and euler_ancestral.", min=0, max=1,
        show_default="0 for ddim, 1 for the others",
    ),
]  # fmt: skip


def sample(
    directory: Folder = Path(),
    model: Model = "models:/denoiser@champion",
    num: Annotated[int, typer.Option(help="Pictures.", min=1, max=10000)] = 16,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "--labels", help="Class to draw; may be repeated.", show_default="every class in turn"),
    ] = None,
    prompt: Prompt = None,
    prompt_file: PromptFile = None,
    negative: Negative = None,
    init: Init = None,
    mask: Mask = None,
    strength: Strength = None,
    repeats: Repeats = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures, whatever --num is.", min=0)] = 0,
    sampler: Annotated[
        SamplerName | None,
        typer.Option(help="Sampling method (docs/sampling.md).", show_default="the model's"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the sampler.", min=1, max=1000, show_default="the model's")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Classifier-free guidance; 1 is none.", min=0, max=50, show_default="the model's"),
    ] = None,
    autoguidance: Autoguidance = None,
    levels: Levels = None,
    eta: Eta = None,
    engine: Annotated[
        Literal["auto", "torch", "onnx"],
        typer.Option(help="What computes the network; auto takes the faster one on this machine."),
    ] = "auto",
    out: Annotated[Path, typer.Option(help="The sheet to write, PNG.", dir_okay=False)] = Path("samples.png"),
    film: Annotated[
        Path | None,
        typer.Option(help="Also write the first 8 at several noise levels, PNG.", dir_okay=False, show_default="none"),
    ] = None,
    each: Annotated[
        Path | None,
        typer.Option(help="Also write every picture into this folder, PNG.", file_okay=False, show_default="none"),
    ] = None,
    scale: Annotated[int, typer.Option(help="Screen pixels for each pixel.", min=1, max=16)] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be drawn, and draw nothing.")] = False,
) -> None:
    """Draw pictures with a registered denoiser into one PNG sheet."""
    from flows.model import begin, sample

    request = sample.Request(
        model=model, num=num, labels=tuple(label or ()), seed=seed, sampler=sampler, steps=steps, guidance=guidance,
        autoguidance=autoguidance, spacing=levels, eta=eta, engine=engine, scale=scale, size=size,
        prompts=sample.prompts(prompt or (), prompt_file), negative=negative,
        start=begin.Start(tuple(init or ()), mask, strength, repeats),
    )  # fmt: skip
    outputs = sample.Outputs(
        sheet=out.resolve(), film=film.resolve() if film else None, each=each.resolve() if each else None
    )
    sample.sample(enter(directory), request, outputs, dry_run=dry_run)


def pull(
    model: Annotated[str, typer.Argument(help="NAME@ALIAS, or NAME with --pin.")],
    to: Annotated[Path, typer.Option(help="Folder to make, mend or bring up to date.", file_okay=False)],
    directory: Folder = Path(),
    pin: Annotated[
        int | None, typer.Option(help="Number of the version, whatever the alias says.", min=1, show_default="none")
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            help="Address of an MLflow server, or folder of a mirror.", show_default="this checkout's registry"
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Public ed25519 key, or its file: refuse what its owner has not signed.", show_default="none"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be pulled, and write nothing.")] = False,
) -> None:
    """Put a registered version into a folder, every byte checked, and keep what is there until it is whole."""
    from flows.model import pull

    print(pull.pull(enter(directory), model, to.absolute(), pin=pin, uri=uri, key=key, dry_run=dry_run))


def release(
    to: Annotated[
        str,
        typer.Argument(
            metavar="TO", help="Mirror: a folder, new, empty or one that this command wrote, or s3://bucket/prefix."
        ),
    ],
    directory: Folder = Path(),
    version: Annotated[
        list[int] | None,
        typer.Option(help="Also release this version; may be repeated.", min=1, show_default="those with an alias"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be released, and write nothing.")
    ] = False,
) -> None:
    """Write the versions that have an alias into a folder that consume/pull.py reads without a server."""
    from flows.model import release

    place = to if "://" in to else Path(to).absolute()
    print(release.release(enter(directory), place, version or (), dry_run=dry_run, say=exits.note))


def distil(
    out: Annotated[Path, typer.Option(help="Model folder to write; a student there is replaced.", file_okay=False)],
    directory: Folder = Path(),
    model: Model = "models:/denoiser@champion",
    images: Annotated[
        int | None,
        typer.Option(help="Images the student sees.", min=1, show_default="distil.images of params.yaml"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Sampling steps of the student.", min=1, max=16, show_default="distil.steps of params.yaml"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
) -> None:
    """Train a student of a denoiser that samples in few steps, and print how the two compare."""
    from flows.model import distil

    distil.distil(enter(directory), model, out.resolve(), images=images, steps=steps, dry_run=dry_run)


def ema(
    model: Annotated[
        Path, typer.Argument(help="Folder of a model trained with train.ema_snapshots.", file_okay=False, exists=True)
    ],
    half_life: Annotated[float, typer.Option(help="Half-life of the averaged weights, as a share of the images seen.")],
    out: Annotated[Path, typer.Option(help="Folder to write; what is there is replaced.", file_okay=False)],
) -> None:
    """Write the model with another half-life of its averaged weights (EMA), without training again."""
    from components.train import averages

    averages.remake(model, half_life, out)
    deviation = averages.relative_deviation(half_life)
    print(f"{out}: averaged with half-life {half_life:g} (sigma_rel {deviation:.3f}); `stillroom sample --model {out}`")
