"""diffusers comes without what no network here needs, and everything else still finds those packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.networks import hf

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("network", "left_out"),
    [
        ("compact", hf.NOT_NEEDED),
        ("unet", [name for name in hf.NOT_NEEDED if name != "torch._dynamo"]),
        ("dit", [name for name in hf.NOT_NEEDED if name != "torch._dynamo"]),
    ],
)
def test_a_network_is_imported_without_what_none_needs(network, left_out):
    code = f"""if True:
        import sys, components.networks.{network} as module
        print(sorted(set({list(left_out)!r}) & set(sys.modules)))
        import peft, torch._dynamo
        print(peft.__name__)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["[]", "peft"]


def test_what_was_imported_before_stays():
    with hf._hidden("sys", "a_package_of_nobody"):
        assert sys.modules["sys"] is sys
        with pytest.raises(ModuleNotFoundError):
            import a_package_of_nobody  # noqa: F401
    assert "a_package_of_nobody" not in sys.modules


def test_diffusers_is_imported_in_one_place():
    found = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "components").rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if line.strip().startswith(("import diffusers", "from diffusers"))
    ]
    assert sorted(set(found) - {"components/model/card.py"}) == ["components/networks/hf.py"]  # the card's is a text
