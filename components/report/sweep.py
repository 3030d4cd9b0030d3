"""The part of the model report that shows quality against the number of sampling steps."""

from __future__ import annotations

from components.html import charts
from components.html.charts import Series
from components.html.page import Section, el, figure, figures, note, table
from components.report.outcome import Outcome


def sweep(data: Outcome) -> Section | None:
    """The kernel distance by steps, and the knee by name; None where nothing was swept."""
    points, knee = data.scores.get("sweep") or [], data.scores.get("knee")
    if not points:
        return None
    curve = [(point["steps"], point["value"], point["low"], point["high"]) for point in points]
    rows = [
        [f"{point['steps']}", figures(point["value"], 4), f"{figures(point['low'], 4)} to {figures(point['high'], 4)}",
         f"{figures(point['change']['low'])} to {figures(point['change']['high'])}",
         "the knee" if point["steps"] == knee else ""]
        for point in points
    ]  # fmt: skip
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
