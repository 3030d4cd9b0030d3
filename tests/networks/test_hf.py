"""diffusers comes without what no network here needs, and everything else still finds those packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.networks import hf

ROOT = Path(__file__).parents[2]


@pytest.mark.slow(6)
def test_the_networks_are_imported_without_what_none_needs_and_it_is_found_afterwards():
    code = """if True:
        import importlib.util, sys
        import components.networks.compact
        from components.networks.hf import NOT_NEEDED
        print(sorted(set(NOT_NEEDED) & set(sys.modules)))
        import components.networks.dit, components.networks.unet
        print(sorted({*NOT_NEEDED, "torchvision"} & set(sys.modules)))
        import diffusers
        print(diffusers.UNet2DModel is components.networks.unet.UNet2DModel, diffusers.Transformer2DModel.__name__)
        print([name for name in NOT_NEEDED if importlib.util.find_spec(name) is None])
        import importlib.metadata
        print("torch" in importlib.metadata.packages_distributions())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[]", "[]", "True Transformer2DModel", "[]", "True"]


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
    assert sorted(set(found) - {"components/distil/student.py", "components/model/lines.py"}) == [
        "components/networks/hf.py"
    ]
