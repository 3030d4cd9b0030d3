"""The part of the model report that shows quality against the way of drawing, its number of steps above all."""

from __future__ import annotations

from typing import Any

from components.html import charts
from components.html.charts import Series
from components.html.page import Child, Section, el, figure, figures, note, table
from components.report.outcome import Outcome

_WAY = ("steps", "sampler", "guidance", "autoguidance")


def sweep(data: Outcome) -> Section | None:
    """The kernel distance by steps or ways, and the knee by name; None where nothing was swept."""
    points = data.scores.get("sweep") or []
    if not points:
        return None
    return _by_steps(data, points) if len({_rest(point) for point in points}) == 1 else _by_way(data, points)


def _rest(point: dict[str, Any]) -> tuple[object, ...]:
    return tuple(point[name] for name in _WAY[1:])


def _is_knee(data: Outcome, point: dict[str, Any]) -> bool:
    return all(point[name] == data.scores["knee"][name] for name in _WAY)


def _by_steps(data: Outcome, points: list[dict[str, Any]]) -> Section:
    knee = data.scores["knee"]["steps"]
    curve = [(point["steps"], point["value"], point["low"], point["high"]) for point in points]
    rows = [[f"{point['steps']}", *_distance(point), "the knee" if _is_knee(data, point) else ""] for point in points]
    return Section("sweep", "Quality by sampling steps", [
        el("p", f"The knee lies at {knee} steps: the fewest that are not worse than the best beyond chance. "
                f"The scores are of samples in {data.scores['sampler']['steps']} steps, and the version is registered "
                "with them: who pulls it draws in so many unless told otherwise."),
        note(f"The same {points[0]['samples']:,} pictures, from the same noise for the same labels, drawn in more and "
             "more steps; time grows with the steps. Lower is better."),
        figure(charts.lines("Kernel distance by steps", [Series(name="kernel distance", points=curve, marks=True)],
                            x_unit="steps (log scale)", log_x=True, y_unit="squared distance"),
               f"Whiskers are {data.confidence} intervals of each by itself; the table has those of the difference."),
        table(["Steps", "Kernel distance", "Interval", "More than the best, interval", ""], rows,
              caption="Kernel distance by sampling steps", numbers=[0, 1, 2, 3]),
    ])  # fmt: skip


def _distance(point: dict[str, Any]) -> list[Child]:
    low, high = (figures(point["change"][end]) for end in ("low", "high"))
    own = f"{figures(point['low'], 4)} to {figures(point['high'], 4)}"
    return [figures(point["value"], 4), own, f"{low} to {high}"]


def _by_way(data: Outcome, points: list[dict[str, Any]]) -> Section:
    knee = data.scores["knee"]
    rows: list[list[Child]] = [
        [str(point["calls"]), str(point["steps"]), point["sampler"], figures(point["guidance"]),
         figures(point["autoguidance"]), *_distance(point), _agreement(point),
         "the knee" if _is_knee(data, point) else ""]
        for point in sorted(points, key=lambda point: (point["calls"], point["value"]))
    ]  # fmt: skip
    said = f"{knee['steps']} steps of {knee['sampler']}, guidance {figures(knee['guidance'])}, autoguidance "
    return Section("sweep", "Quality by way of drawing", [
        el("p", f"The knee: {said}{figures(knee['autoguidance'])}. Of the ways that agree with the label no less than "
                "the model's own, beyond chance, it takes the fewest calls of a network among those that are not worse "
                "than the best beyond chance. The scores are of samples drawn so, and the version is registered with "
                "it: who pulls it draws so unless told otherwise."),
        note(f"The same {points[0]['samples']:,} pictures, from the same noise for the same labels. Calls are those of "
             "the network and its guide for one picture; time grows with them. Agreement is the share that a "
             "classifier takes for their label, and how far it lies above that of the model's own way."),
        table(["Calls", "Steps", "Sampler", "Guidance", "Autoguidance", "Kernel distance", "Interval",
               "More than the best, interval", "Agreement", ""], rows,
              caption="Kernel distance and agreement by way of drawing", numbers=[0, 1, 3, 4, 5, 6, 7, 8]),
    ])  # fmt: skip


def _agreement(point: dict[str, Any]) -> str:
    if "agreement" not in point:
        return ""
    change = point["agreement"]["change"]
    return f"{point['agreement']['value']:.0%} ({change['low']:+.0%} to {change['high']:+.0%})"
