"""How quickly a report opens in headless Chromium: python benchmarks/page.py reports/data.html ...

Processor seconds of the page's main thread until the load event (DevTools `Performance.getMetrics`, threadTicks) and
first contentful paint by the clock, 1280 x 900 px; the best of five cold starts.
"""

from __future__ import annotations

import sys
import time
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
    print("| page | file, MB | thumbnails | CPU s until loaded | first paint, s |\n|---|---|---|---|---|")
    for name in sys.argv[1:]:
        path = Path(name)
        found = [_opened(path) for _ in range(STARTS)]
        cpu, paint = min(one[0] for one in found), min(one[1] for one in found)
        print(f"| {path.name} | {path.stat().st_size / 1e6:.2f} | {found[0][2]:,} | {cpu:.2f} | {paint:.2f} |")
    print(f"\n{peers.machine()}")
    return 0


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
