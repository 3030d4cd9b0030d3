"""How quickly a report opens in headless Chromium: python benchmarks/page.py reports/data.html ...

Processor seconds of the page's main thread until the load event (DevTools `Performance.getMetrics`, threadTicks) and
first contentful paint by the clock, 1280 x 900 px; the best of five cold starts.  The peer is what one writes by hand:
a page with as many pictures of the embedded data set, each an `<img>` with its PNG in a data address.
"""

from __future__ import annotations

import base64
import itertools
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import peers

sys.path.insert(0, str(peers.ROOT / "tests"))

from browser import Browser

PAINT = "(performance.getEntriesByName('first-contentful-paint')[0] || {}).startTime"
STARTS = 5


def main() -> int:
    """Open each page and print a row for it."""
    if not sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    print("| page | thumbnails | MB: peer, ours, ratio | CPU s until loaded: the same | first paint, s: the same |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in map(Path, sys.argv[1:]):
            thumbnails = int(_opened(path)[2])
            by_hand = _by_hand(Path(folder) / path.name, thumbnails)
            theirs, ours = _best(by_hand), _best(path)
            columns = (f"{a:.2f}, {b:.2f}, {a / b:.1f}" for a, b in zip(theirs, ours, strict=True))
            print(f"| {path.name} | {thumbnails:,} | {' | '.join(columns)} |", flush=True)
    print(f"\n{peers.machine()}")
    return 0


def _by_hand(path: Path, pictures: int) -> Path:
    """A page with that many pictures, each an element of its own."""
    with zipfile.ZipFile(peers.ROOT / "data/samples/noto-emoji-64.zip") as held:
        names = [name for name in held.namelist() if name.endswith(".png")]
        blobs = [base64.b64encode(held.read(name)).decode() for name in names]
    cells = (f'<img width="64" src="data:image/png;base64,{blob}">' for blob in itertools.cycle(blobs))
    path.write_text(f"<!doctype html><title>by hand</title>{''.join(itertools.islice(cells, pictures))}", "utf-8")
    return path


def _best(path: Path) -> tuple[float, float, float]:
    """Megabytes, processor seconds until loaded and seconds to the first paint: the least of several cold starts."""
    found = [_opened(path) for _ in range(STARTS)]
    return path.stat().st_size / 1e6, min(one[0] for one in found), min(one[1] for one in found)


def _opened(path: Path) -> tuple[float, float, int]:
    """Processor seconds, seconds to the first paint, thumbnails on the page."""
    with Browser() as browser:
        target = browser._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = browser._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime"):
            browser._call(f"{domain}.enable", {}, session)
        size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser._call("Emulation.setDeviceMetricsOverride", size, session)
        browser._call("Performance.enable", {"timeDomain": "threadTicks"}, session)
        browser._call("Page.navigate", {"url": path.resolve().as_uri()}, session)
        browser._until("Page.loadEventFired", session)
        metrics = browser._call("Performance.getMetrics", {}, session)["metrics"]
        paint, end = None, time.monotonic() + 20
        while paint is None and time.monotonic() < end:
            paint = browser._script(PAINT, session)
        cells = browser._script("document.querySelectorAll('[style*=\"--c\"]').length", session)
        return next(each["value"] for each in metrics if each["name"] == "TaskDuration"), paint / 1000, cells


if __name__ == "__main__":
    sys.exit(main())
