"""The parts of the model report that are numbers: scores, noise levels, curves, settings, the model card."""

from __future__ import annotations

import re
from typing import Any

from components.html import charts
from components.html.charts import Series, Whisker
from components.html.page import (  # fmt: skip
    Child,
    Safe,
    Section,
    count,
    cut,
    el,
    empty,
    figure,
    figures,
    fold,
    note,
    share,
    side_by_side,
    table,
    tiles,
)
from components.report.outcome import Outcome

_POINTS = 400  # points of one curve, enough for its width in pixels
HEADLINES = ("x0_error", "kid_efficientnet_lite0", "coverage_efficientnet_lite0", "accuracy_efficientnet_lite0")
FEATURES = {"efficientnet_lite0": "EfficientNet-Lite0", "colours": "colours and edges", "inception": "Inception",
            "dinov2": "DINOv2"}  # fmt: skip


def summary(data: Outcome) -> Child:
    """The first screen: the headline scores with their intervals."""
    settings, counts = data.settings, data.scores["counts"]
    sentence = (
        f"A denoiser for images of {data.header.size} pixels, after "
        f"{settings['images_seen']:,} images seen. Scored on {counts['test']:,} held-out images and "
        f"{counts['samples']:,} samples; intervals hold at {data.confidence}."
    )
    entries = []
    for key, score in data.scores["scores"].items():
        if key not in HEADLINES:
            continue
        name, _, _ = score_words(key)
        floor = _of_real_images(score)
        remark = f"{figures(score['low'])} to {figures(score['high'])}"
        entries.append(
            (name, figures(score["value"]), f"{remark}; real images {figures(floor['value'])}" if floor else remark)
        )
    near = data.copies
    entries.append(("Close to a training image", share(near.share, 1), f"held-out images: {share(near.real_share, 1)}"))
    words = note(
        "x0 error: how far the clean image that the model expects is from the true one. Of errors and distances lower "
        "is better, of coverage and recognised labels higher. Real images: what they score against other real images; "
        "no model is expected to be better. Close to a training image: so near that the sample may be a copy of it."
    )
    return [el("p", sentence), tiles(entries), words]


def score_words(key: str) -> tuple[str, str, str]:
    """(name, unit, how to read it) of score ``key``; a name says which features it was measured with."""
    if key == "x0_error":
        return "x0 error", "mean squared error, pixels in [-1, 1]", (
            "How far the clean image that the model expects is from the true one, on held-out images with noise of "
            "eight fixed levels; geometric mean over the levels. Lower is better, 0 is perfect."
        )  # fmt: skip
    kind, _, features = key.partition("_")
    network = FEATURES.get(features, features)
    if kind not in _KINDS:
        return key, "", "Lower is better."
    name, unit, reading = _KINDS[kind]
    return f"{name} ({network})", unit.format(network), reading.format(network)


_KINDS = {
    "kid": ("Kernel distance", "squared distance, {} features", (
        "Do samples and held-out images look alike to {}? Lower is better. It has no bias of sample size, so it can be "
        "trusted with few images, and may fall a little below 0."
    )),
    "fd": ("Fréchet distance", "squared distance, {} features", (
        "The same question, by mean and covariance of {} features. Lower is better. With fewer than about 1,000 images "
        "most of it is bias of sample size: compare it with its floor, never with a number from elsewhere."
    )),
    "fid": ("FID", "squared distance, {} features", (
        "The Fréchet distance as it is usually given: standard network, weights and preprocessing, but of the images "
        "counted here. Lower is better. Compare it with one of as many images alone; below 10,000 bias is most of it."
    )),
    "precision": ("Precision", "share of the samples", (
        "Samples that lie among real images by {} features. Higher is better; low: pictures that are like none."
    )),
    "recall": ("Recall", "share of the held-out images", (
        "Held-out images that lie among samples. Higher is better; low: the model draws a part of the variety only."
    )),
    "density": ("Density", "real neighbourhoods around a sample", (
        "In how many neighbourhoods of real images a sample lies, by {} features, on average. Higher is better, and "
        "above 1 where samples crowd at common images. Like precision, but one odd real image does not move it."
    )),
    "coverage": ("Coverage", "share of the held-out images", (
        "Held-out images with a sample in their neighbourhood, by {} features. Higher is better. Like recall, but one "
        "odd sample does not move it."
    )),
    "accuracy": ("Label recognised", "share of the samples with a label", (
        "How often a simple classifier of {} features, which learnt from the training images, finds the label that a "
        "sample was drawn for. Higher is better; what it reaches on held-out images is the most to be expected."
    )),
    "retrieval": ("Found by its caption", "share of the test images", (
        "A picture is drawn of each caption, and the test images are ordered by their likeness to it, in {} features: "
        "how often the one that the caption is of stands among the first ten. Higher is better; chance is ten by the "
        "number of images."
    )),
}  # fmt: skip
_HIGHER = ("precision", "recall", "density", "coverage", "accuracy", "retrieval")
"""Scores of which more is better."""


def better(key: str) -> str:
    """Whether a ``higher`` or a ``lower`` value of score ``key`` is better."""
    return "higher" if key.partition("_")[0] in _HIGHER else "lower"


def scores(data: Outcome) -> Section:
    """Each score with its interval and, where there is one, what real images score against real images."""
    rows, plots = [], []
    for key, score in data.scores["scores"].items():
        name, unit, reading = score_words(key)
        floor = _of_real_images(score)
        rows.append([name, figures(score["value"], 4), _interval(score), figures(floor["value"], 4) if floor else "–",
                     _interval(floor) if floor else "–", better(key), _images(score)])  # fmt: skip
        entries = [_whisker("this model", score)]
        if floor:
            entries.append(_whisker("real images", floor, colour=4, hollow=True))
        plots.append(figure(charts.whiskers(name, entries, unit=unit), reading))
    counts = data.scores["counts"]
    return Section("scores", "Scores", [
        note(f"The dot is the score, the whisker its {data.confidence} interval: how far the score moves when the "
             "images that it is measured on are drawn anew (bootstrap). The hollow dot is what real images score: for "
             "a label, held-out images; else as many training images in place of the samples. A model whose whisker "
             "reaches it cannot be told from real images by this measure. Precision, recall, density and coverage "
             "depend on how many images there are: compare them at equal numbers only."),
        side_by_side(*plots),
        table(["Score", "Value", f"Interval ({data.confidence})", "Real images", "Interval of real images", "Better",
               "Images"], rows,
              caption=f"Scores on {counts['test']:,} test images and {counts['samples']:,} samples",
              numbers=[1, 2, 3, 4]),
    ])  # fmt: skip


def _of_real_images(score: dict[str, Any]) -> dict[str, Any] | None:
    """What real images score against real images: the least or the most that a model can reach; None if unknown."""
    found: dict[str, Any] | None = score.get("floor") or score.get("ceiling")
    return found


def _images(score: dict[str, Any]) -> str:
    """How many images the score was measured on."""
    against = f" against {score['against']:,}" if "against" in score else ""
    return f"{score['images']:,}{against}" if "images" in score else "–"


def by_noise_level(data: Outcome) -> Section:
    """Error and loss at each noise level, with intervals."""
    errors, losses = data.scores["x0_error_by_sigma"], data.scores["loss_by_level"]
    error_points = [(entry["sigma"], entry["value"], entry["low"], entry["high"]) for entry in errors]
    loss_points = [
        _whisker(f"sigma {figures(entry['sigma_low'], 2)}–{figures(entry['sigma_high'], 2)}", entry, colour=3)
        for entry in losses
    ]
    error_rows = [[figures(entry["sigma"]), figures(entry["value"], 4), _interval(entry)] for entry in errors]
    loss_rows = [
        [
            f"{figures(entry['sigma_low'])} to {figures(entry['sigma_high'])}",
            figures(entry["value"], 4),
            _interval(entry),
        ]
        for entry in losses
    ]
    return Section("levels", "By noise level", [
        note("Sigma is the standard deviation of the noise, in units in which pixels run from -1 to 1. At low "
             "sigma the model only removes grain; at high sigma it has to guess the image, so errors there are "
             "large for every model."),
        side_by_side(
            figure(charts.lines("x0 error by noise level", [Series(name="x0 error", points=error_points)],
                                x_unit="sigma (log scale)", log_x=True, log_y=True,
                                y_unit="mean squared error, pixels in [-1, 1] (log scale)"),
                   "On held-out images. Lower is better; whiskers are intervals."),
            figure(charts.whiskers("Loss by noise level", loss_points, unit="training loss on held-out images"),
                   "What training minimises, measured on held-out images. Each row is a bin of sigma, least noise "
                   "first."),
        ),
        fold("The same as numbers",
             table(["Sigma", "x0 error", f"Interval ({data.confidence})"], error_rows,
                   caption="x0 error by noise level", numbers=[0, 1, 2]),
             table(["Sigma", "Loss", f"Interval ({data.confidence})"], loss_rows, caption="Loss by bin of noise level",
                   numbers=[0, 1, 2])),
    ])  # fmt: skip


def curves(data: Outcome) -> Section:
    """What training logged: loss in all and by level, validation error, learning rate, gradient."""
    history = data.history
    if not history:
        return Section("curves", "Training curves", [empty("The history of this model is empty.")])
    by_level = [Series(name=_level_name(data, name), points=_smooth(_curve(history, name)), paint=f"t{at % 8}")
                for at, name in enumerate(_keys(history, "loss/level_"))]  # fmt: skip
    by_sigma = [Series(name=f"sigma {name.rsplit('_', 1)[1]}", points=_curve(history, name), paint=f"t{at % 8}")
                for at, name in enumerate(_keys(history, "x0_error/sigma_"))]  # fmt: skip
    plots = [
        ("Training loss", [Series(name="loss", points=_curve(history, "loss"))], "loss", True,
         "What training minimises, averaged between two log lines. It falls fast, then slowly; noise in it is normal."),
        ("Training loss by noise level", by_level, "loss", True,
         "The same in bins of sigma, smoothed over a twentieth of the run. All should fall; one that rises is "
         "being traded for another."),
        ("Validation x0 error", [Series(name="x0 error", points=_curve(history, "x0_error"), paint="s2", marks=True)],
         "mean squared error", True,
         "On validation images with the averaged weights. Lower is better; when it rises while the loss falls, the "
         "model overfits."),
        ("Validation x0 error by sigma", by_sigma, "mean squared error", True,
         "The same at each of the fixed noise levels."),
        ("Learning rate", [Series(name="learning rate", points=_curve(history, "learning_rate"), paint="s4")],
         "per step", False,
         "How large a step the optimiser takes: warm-up, constant, then falling."),
        ("Gradient norm", [Series(name="gradient norm", points=_curve(history, "grad_norm"), paint="s4")], "norm", True,
         "Before clipping. Spikes that do not come down are trouble."),
    ]  # fmt: skip
    made = [
        figure(charts.lines(title, series, x_unit="images seen", y_unit=unit + (" (log scale)" if log else ""),
                            log_y=log, from_zero=not log), words)
        for title, series, unit, log, words in plots
        if any(one.points for one in series)
    ]  # fmt: skip
    return Section("curves", "Training curves", [
        note("All curves run over images seen, so runs with different batch sizes can be compared."),
        side_by_side(*made),
    ])  # fmt: skip


def settings(data: Outcome, *, characters: int) -> Section:
    """Parameters of sampling and the shape of the network."""
    own, sampler = data.settings, data.scores["sampler"]
    epochs = own["images_seen"] / max(1, own["train_images"])
    rows: list[list[Child]] = [
        ["Sampling steps", str(sampler["steps"]), "calls of the network for one image; as many more with guidance, and "
                                                  "of the guide with autoguidance"],
        ["Guidance", figures(sampler["guidance"]), "1 is none; higher follows the label more and varies less"],
        ["Autoguidance", figures(sampler.get("autoguidance", 1.0)), "1 is none; how far from what the guide says"],
        ["Seed", str(sampler["seed"]), "of the noise that the samples start from"],
        ["Network", str(data.network.get("_class_name", "not known")), "who can load it: see the model card"],
        ["Image", data.header.size, "pixels"],
        ["Images seen", count(own["images_seen"]), "in training, repeats counted"],
        ["Training images", count(own["train_images"]), f"each seen about {epochs:.1f} times"],
        ["Labels", cut(", ".join(own["classes"]), characters) or UNCONDITIONAL, f"{len(own['classes'])} classes"],
    ]  # fmt: skip
    network = [
        [el("code", cut(key, 60)), cut(str(value), characters)]
        for key, value in sorted(data.network.items())
        if key[0] != "_" and value is not None
    ]
    details = table(["Setting", "Value"], network, caption="Its config.json")
    return Section("settings", "Sampling and network", [
        table(["Setting", "Value", "Meaning"], rows, caption="How the samples were drawn, and by what"),
        fold("Configuration of the network", details, count=len(network)) if network else None,
    ])  # fmt: skip


UNCONDITIONAL = "none: the model takes no label"


def card(data: Outcome) -> Section:
    """The model card that travels with the model, its Markdown drawn plainly."""
    return Section("card", "Model card", markdown(data.card) or [empty("The model card is empty.")])


def markdown(text: str) -> list[Safe]:
    """Headings, paragraphs, lists, fenced code and `code` of ``text``; anything else stays as it was written."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    blocks: list[Safe] = []
    for at, part in enumerate(re.split(r"^```[^\n]*\n?", text, flags=re.MULTILINE)):
        if at % 2:
            blocks.append(el("pre", _lines(part.rstrip("\n"))))
            continue
        for block in re.split(r"\n\s*\n", part.strip("\n")):
            if not block.strip():
                continue
            lines = block.strip().split("\n")
            if lines[0].startswith("#"):
                blocks.append(el("h3", lines.pop(0).lstrip("# ")))
            if lines and all(line.startswith(("- ", "* ", "  ")) for line in lines):
                items = re.split(r"^[-*] ", "\n".join(lines), flags=re.MULTILINE)[1:]
                blocks.append(el("ul", [el("li", _inline(" ".join(item.split()))) for item in items]))
            elif lines and lines[0].startswith("|"):
                blocks.append(el("pre", _lines("\n".join(lines))))
            elif lines:
                blocks.append(el("p", _inline(" ".join(lines))))
    return blocks


def _inline(text: str) -> list[Child]:
    parts = text.split("`")
    return [el("code", part) if at % 2 and at < len(parts) - 1 else part for at, part in enumerate(parts)]


def _lines(text: str) -> list[Child]:
    """Text of several lines; a newline of ours, since a newline in a text is made visible."""
    made: list[Child] = []
    for line in text.split("\n"):
        made += [line, Safe("\n")]
    return made[:-1]


def _keys(history: list[dict[str, float]], prefix: str) -> list[str]:
    found = {key for line in history for key in line if key.startswith(prefix)}
    return sorted(found, key=lambda key: float(key.rsplit("_", 1)[1]))


def _level_name(data: Outcome, key: str) -> str:
    level = int(key.rsplit("_", 1)[1])
    bins = {entry["level"]: entry for entry in data.scores["loss_by_level"]}
    if level not in bins:
        return f"level {level}"
    return f"sigma {figures(bins[level]['sigma_low'], 2)}–{figures(bins[level]['sigma_high'], 2)}"


def _curve(history: list[dict[str, float]], key: str) -> list[tuple[float, float]]:
    points = [(line["step"], line[key]) for line in history if line.get(key) is not None]
    stride = -(-len(points) // _POINTS) or 1
    # The last point always stays: it is the one that people read.
    return [point for at, point in enumerate(points) if (len(points) - 1 - at) % stride == 0]


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value replaced by the mean of a twentieth of the curve that ends there."""
    width = max(1, len(points) // 20)
    means = []
    for at, (step, _) in enumerate(points):
        window = [value for _, value in points[max(0, at + 1 - width) : at + 1]]
        means.append((step, sum(window) / len(window)))
    return means


def _whisker(name: str, score: dict[str, Any], *, colour: int = 1, hollow: bool = False) -> Whisker:
    value, low, high = score["value"], score["low"], score["high"]
    return Whisker(name=name, value=value, low=low, high=high, colour=colour, hollow=hollow)


def _interval(score: dict[str, Any]) -> str:
    return f"{figures(score['low'], 4)} to {figures(score['high'], 4)}"
