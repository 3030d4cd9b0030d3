"""The rules of the project, held against its own files."""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import starting
from ruamel.yaml import YAML

from components.base import config
from components.base.errors import UserError
from components.base.params import Params
from components.pipeline import PIPELINE, SECTIONS, writer
from flows.dvc import dvcyaml, schema
from flows.run import deployments

ROOT = Path(__file__).resolve().parent.parent
STAGES = {stage.name for stage in PIPELINE}
ADDED = {("register", "approval"), ("register", "signing_key")}
"""Came later than the params.yaml of others, to a section that no stage reads: DVC has nothing to see."""
GLUE = {"flows", "prefect", "mlflow", "dvc"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def test_dvc_yaml_is_what_the_table_says():
    assert (ROOT / "dvc.yaml").read_text("utf-8") == dvcyaml.render(), "run `make dvc`"


def test_the_deployments_are_what_their_table_says():
    assert (ROOT / "prefect.yaml").read_text("utf-8") == deployments.render(), "run `make dvc`"
    assert json.loads((ROOT / "deploy/pool-process.json").read_text("utf-8")) == deployments.JOB, "run `make dvc`"
    assert len({row.name for row in deployments.TABLE}) == len(deployments.TABLE)
    for row in deployments.TABLE:
        module, _, name = row.entrypoint.rpartition(".")
        text = (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
        (made,) = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name)
        taken = {argument.arg for argument in made.args.args}
        assert row.name.split("/")[0] in text and row.pool in deployments.POOLS
        assert not taken & {"root", "path", "folder", "directory", "command", "cmd", "url"}, f"{row.name} takes {taken}"


def test_the_schema_is_what_the_parameters_say():
    assert (ROOT / "params.schema.json").read_text("utf-8") == schema.render(), "run `make dvc`"


def test_every_section_of_params_yaml_loads_and_every_parameter_is_described():
    loaded = config.load(config.read(ROOT / "params.yaml"), schema.models())
    assert tuple(loaded) == SECTIONS
    for name, model in schema.models().items():
        for key, field in model.model_fields.items():
            assert field.description, f"{name}.{key} has no description"
            assert field.is_required() or (name, key) in ADDED, f"{name}.{key} has a default that DVC cannot see"


def test_two_yaml_parsers_agree_on_params_yaml():
    import yaml

    text = (ROOT / "params.yaml").read_text("utf-8")
    assert yaml.safe_load(text) == YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_a_stage_takes_just_what_the_table_gives_it(stage):
    wanted = {*stage.reads, *stage.writes, *(["scratch"] * stage.scratch), *(["facts"] * stage.facts)}
    found = inspect.signature(stage.function).parameters
    assert {name for name, value in found.items() if value.kind is value.KEYWORD_ONLY} == wanted
    assert len(found) == len(wanted) + 1


def test_every_input_is_written_by_an_earlier_stage_or_looked_at():
    written = {"data/source.json", "data/withdrawn.jsonl", "data/decisions.jsonl", "data/start.json"}
    for stage in PIPELINE:
        assert set(stage.reads.values()) <= written, stage.name
        written |= set(stage.writes.values())
    assert writer("data/raw").name == "collect"


@pytest.mark.parametrize(
    ("path", "command"),
    [("data/source.json", "`stillroom look`"), ("data/start.json", "`git checkout data/start.json`"),
     ("data/raw", "run stage 'collect', or `dvc pull`")],
)  # fmt: skip
def test_an_input_that_is_not_there_is_an_error_that_says_what_brings_it(tmp_path, path, command):
    stage = next(stage for stage in PIPELINE if path in stage.reads.values())
    for other in set(stage.reads.values()) - {path}:
        (tmp_path / other).mkdir(parents=True)
    with pytest.raises(UserError, match=f"stage '{stage.name}' needs .* at .*{path}, .*{command}"):
        stage.run(Params(), tmp_path)


def test_imports_only_go_down():
    for path in sorted((ROOT / "components").rglob("*.py")):
        names = imported(path)
        assert not {name.split(".")[0] for name in names} & GLUE, f"{path}: components/ knows nothing of the glue"
        room = path.relative_to(ROOT / "components").with_suffix("").parts[0]
        if room in STAGES:
            others = {f"components.{name}" for name in (STAGES - {room}) | {"pipeline"}}
            taken = {".".join(name.split(".")[:2]) for name in names}
            assert not taken & others, f"{path}: a stage imports no stage, nor the table"


def test_the_base_starts_without_a_heavy_library():
    names = ("base.files", "base.events", "base.config", "pipeline", "samples.pack", "register.gate")
    lines = [f"import components.{name}" for name in names]
    assert starting.first_with({"torch", "pandas", "PIL", "numpy", "pyarrow"}, lines) is None


def test_data_stages_start_without_torch():
    names = ("collect", "clean", "resize", "split", "profile", "describe", "encode", "report")
    lines = [f"from components.pipeline import stage; stage({name!r}).function" for name in names]
    assert starting.first_with({"torch", "torchvision"}, lines) is None


def test_parameters_load_without_torch():
    lines = [f"import components.{name}.params" for name in ("train", "dataset", "networks")]
    lines += ["import components.diffusion.names"]
    assert starting.first_with({"torch", "diffusers", "peft", "numpy"}, lines) is None


def test_a_stage_that_needs_no_pandas_does_not_import_it_to_write_a_table():
    code = """if True:
        import sys
        from components import __main__ as entry
        from components.samples import manifest
        entry._leave_pandas_out()
        manifest.rows([{"row": 1, "x": 0.5, "y": 0.5}], manifest.MAP)
        print("pandas" in sys.modules)
        import pandas
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


def test_only_one_module_knows_each_tool():
    users = {tool: [] for tool in ("mlflow", "dvc", "prefect")}
    for path in sorted((ROOT / "flows").rglob("*.py")):
        for tool in users:
            if tool in tops(path):
                users[tool].append(path.relative_to(ROOT).as_posix())
    assert users["mlflow"] == ["flows/registry/mlflow.py"]
    assert {Path(user).parent.as_posix() for user in users["dvc"]} == {"flows/dvc"}


def test_nothing_is_unpickled_and_no_yaml_is_loaded_unsafely():
    for path in [*(ROOT / "components").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        text = path.read_text("utf-8")
        assert "pickle" not in tops(path), path
        assert not re.search(r"yaml\.load\(", text), path
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, path
        assert "shell=True" not in text, path


def test_every_stage_is_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for stage in PIPELINE:
        assert f"`{stage.name}`" in text, stage.name


def test_the_lock_file_pins_everything_with_hashes_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in text
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert len(blocks) > 150
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


def test_metrics_lie_under_the_name_of_their_stage():
    assert [stage.metrics for stage in PIPELINE] == [f"metrics/{stage.name}.json" for stage in PIPELINE]
