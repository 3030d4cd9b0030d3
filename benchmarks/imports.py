"""What importing a network costs: python benchmarks/imports.py

CPU seconds of a fresh process, the best of five.  The peer imports torch and the same class by `import diffusers`, as
a script of its user does.  Ours imports torch and the network as the stages do (components/networks/hf.py), while no
garbage is collected (components/base/processes.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

import peers

TIMES = 5
PEER = """
import json, time
import torch
{line}
print(json.dumps(time.process_time()))
"""
OURS = """
import json, sys, time
sys.path.insert(0, {root!r})
from components.base import processes
with processes.uncollected():
    import torch
    {line}
print(json.dumps(time.process_time()))
"""
ROWS = (
    ("torch alone", "pass", "pass"),
    ("compact", "from diffusers import ConfigMixin, ModelMixin", "import components.networks.compact"),
    ("unet", "from diffusers import UNet2DModel", "import components.networks.unet"),
    ("dit", "from diffusers import DiTTransformer2DModel", "import components.networks.dit"),
)
"""Network, what the peer imports for it, what we import."""


def main() -> int:
    """Print a row for each kind of network."""
    print("| network | CPU s: peer | ours | ratio |\n|---|---|---|---|")
    for name, theirs, ours in ROWS:
        peer, we = _best(PEER.format(line=theirs)), _best(OURS.format(root=str(peers.ROOT), line=ours))
        print(f"| {name} | {peer:.1f} | {we:.1f} | {peer / we:.2f} |", flush=True)
    print(f"\n{peers.machine()}")
    return 0


def _best(script: str) -> float:
    """The least CPU seconds of a process that runs ``script``."""
    return min(peers.run(Path(sys.executable), script) for _ in range(TIMES))


if __name__ == "__main__":
    sys.exit(main())
