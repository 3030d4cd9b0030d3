"""Where a stage that is run by hand keeps what torch.compile compiles."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import python_path

ROOT = Path(__file__).resolve().parents[2]
STAGE = """
import sys
from components import __main__, pipeline
class Asks(pipeline.Stage):
    def run(self, params, root):
        from torch._inductor.runtime.cache_dir_utils import cache_dir
        print(cache_dir())
pipeline.stage = lambda name: Asks(name=name, reads={}, writes={})
sys.exit(__main__.main(["resize"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "wanted"), [({}, ".stillroom/torchinductor"), ({"TORCHINDUCTOR_CACHE_DIR": "own"}, "own")]
)
def test_torch_compiles_into_the_checkout_unless_the_environment_names_a_folder(tmp_path, own, wanted):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    own = {name: str(tmp_path / folder) for name, folder in own.items()}
    environment = {"PYTHONPATH": python_path(ROOT), "PATH": os.defpath, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", STAGE], cwd=tmp_path, env=environment | own, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{tmp_path / wanted}\n"
