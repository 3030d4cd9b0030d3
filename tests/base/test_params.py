"""The parameters of every section load without the libraries that the work needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.dvc import schema

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "pandas", "pyarrow", "PIL"}


@pytest.mark.parametrize("section", sorted(schema.models()))
def test_the_parameters_of_a_section_load_without_a_heavy_library(section):
    module = schema.models()[section].__module__
    code = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (module, done.stdout.strip()) == (f"components.{section}.params", "[]")
