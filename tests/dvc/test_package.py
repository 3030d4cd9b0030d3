"""A project beside the installed package: which stages another package makes stale, and what is rendered from it."""

import hashlib
import shutil
from pathlib import Path

import pytest

from components import __main__ as entry
from components.base import imports, versions
from components.base.algorithms import Algorithm
from components.base.config import FILE
from components.base.errors import UserError
from components.pipeline import PIPELINE, stage
from flows.dvc import package, schema, snapshot
from flows.dvc.freshness import Freshness
from flows.workspace import paths

ROOT = Path(__file__).resolve().parents[2]
RECORD = versions.path("train")


@pytest.fixture(scope="module")
def mine():
    """What a project has of the package as it is."""
    return package.render()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The code that records are made from, as another version of the package; to be changed, but for imports."""
    shutil.copytree(ROOT / "components", tmp_path / "site/components", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(imports, "ROOT", tmp_path / "site")
    return tmp_path / "site/components"


@pytest.fixture
def project(tmp_path, mine):
    """A project as `stillroom init` leaves it, without git."""
    root = tmp_path / "project"
    (root / ".stillroom").mkdir(parents=True)
    for path, text in mine.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    shutil.copyfile(ROOT / FILE, root / FILE)
    return root


def change(path, old, new):
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_record_that_a_later_package_reads_is_there_after_the_upgrade_and_a_lost_one_stays_lost(project):
    table, record = project / "dvc.yaml", project / "data/decisions.jsonl"
    package.refresh(project, pytest.fail)
    assert not record.exists(), "the project had it: who lost it is told so by the stage"
    table.write_text(table.read_text().replace("    - data/decisions.jsonl\n", ""))
    package.refresh(project, lambda line: None)
    assert record.read_text() == "" and "data/decisions.jsonl" in table.read_text()


def changed(before):
    now = {one.name: one.record for one in PIPELINE}
    return {name for name, text in now.items() if text != before[versions.path(name)]}


def test_the_same_package_in_another_place_changes_no_record(installed, mine):
    assert changed(mine) == set()


@pytest.mark.parametrize(
    ("path", "old", "new", "stale"),
    [
        ("train/stage.py", 'Algorithm("train", ', 'Algorithm("train", 9', {"train"}),
        ("train/loop.py", '"""', '"""A comment. ', set()),
        ("split/stage.py", '"""', '"""A comment. ', {"split"}),
        ("decode/images.py", 'Algorithm("decode", ', 'Algorithm("decode", 9', {"clean", "resize", "describe"}),
    ],
)
def test_a_package_makes_stale_what_it_makes_otherwise(installed, mine, path, old, new, stale):
    change(installed / path, old, new)
    assert changed(mine) == stale


def test_a_record_names_the_versions_that_the_code_declares():
    from components.clean import alignment, keypoints, pairs, search, verify
    from components.decode import images

    found = versions.declared(imports.reached(stage("clean").module_name))
    for module in (alignment, keypoints, pairs, search, verify, images):
        declared = [value for value in vars(module).values() if isinstance(value, Algorithm)]
        assert declared and {each.name: each.version for each in declared}.items() <= found.items()


def test_a_declaration_that_is_not_written_out_is_an_error(installed):
    change(installed / "train/stage.py", 'Algorithm("train", ', 'Algorithm("train", VERSION + ')
    with pytest.raises(ValueError, match=r"components\.train\.stage: Algorithm"):
        stage("train").record  # noqa: B018


def test_a_stage_of_a_project_depends_on_its_record_and_on_no_file_of_code(mine):
    table = mine["dvc.yaml"]
    assert "components/" not in table
    assert all(f"    - {versions.path(one.name)}\n" in table for one in PIPELINE)


def test_a_run_brings_a_project_to_the_package_and_says_so_once(project, installed, mine):
    said = []
    package.refresh(project, said.append)
    assert said == []
    change(installed / "train/stage.py", 'Algorithm("train", ', 'Algorithm("train", 9')
    (project / "algorithms/gone.json").write_text("{}\n")
    package.refresh(project, said.append)
    package.refresh(project, said.append)
    assert len(said) == 1 and "other code for train;" in said[0]
    assert '"train": 9' in (project / RECORD).read_text("utf-8")
    assert not (project / "algorithms/gone.json").exists()
    others = {path: (project / path).read_text("utf-8") for path in mine if path != RECORD}
    assert others == {path: text for path, text in mine.items() if path != RECORD}


def test_a_checkout_is_left_alone(tmp_path, mine):
    (tmp_path / "components").mkdir()
    package.refresh(tmp_path, pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["components"]


def test_what_a_run_works_from_and_status_looks_at_is_the_package_whatever_the_files_say(project, mine):
    (project / RECORD).write_text("{}\n")
    with snapshot.taken(project) as taken:
        assert taken.copy(RECORD).read_text("utf-8") == mine[RECORD]
        code = taken.folder.parent / "components/train/loop.py"
        assert code.read_bytes() == (ROOT / "components/train/loop.py").read_bytes()
    fresh = Freshness(project, project / "memory.json")
    assert fresh.digest(RECORD) == hashlib.md5(mine[RECORD].encode()).hexdigest()


def test_a_stage_by_hand_refuses_the_record_of_another_package(project):
    entry._of_this_package(stage("train"), project)
    (project / RECORD).write_text('{"algorithms": {"train": 1}}\n')
    with pytest.raises(UserError, match=f"{RECORD}: is of another version of Stillroom .* `stillroom run`"):
        entry._of_this_package(stage("train"), project)


def test_parameters_that_an_upgrade_brought_are_one_line_with_their_values(project):
    path = project / FILE
    whole = path.read_text("utf-8")
    schema.check(project)
    path.write_text(whole.replace("  keep: 2\n", "").replace("      hue: 0.0\n", ""))
    with pytest.raises(
        UserError, match=r"lacks, as Stillroom's own has them: .*train\.augment\.colour\.hue: 0\.0"
    ) as held:
        schema.check(project)
    assert "train.keep: 2" in str(held.value) and "\n" not in str(held.value)
    path.write_text(whole.replace("  keep: 2\n", "  keep: two\n"))
    with pytest.raises(UserError, match=r"train\.keep") as held:
        schema.check(project)
    assert "lacks" not in str(held.value)


def test_a_project_is_found_from_inside(project):
    assert paths.find(project / "algorithms").root == project
    shutil.rmtree(project / "algorithms")
    with pytest.raises(UserError, match="or make one by `stillroom init`"):
        paths.find(project)


def test_a_run_on_record_says_if_the_package_is_another(mine):
    md5 = {name: hashlib.md5(mine[versions.path(name)].encode()).hexdigest() for name in ("split", "train")}
    stages = {name: {"deps": [{"path": versions.path(name), "md5": each}]} for name, each in md5.items()}
    assert package.of_project(stages) and package.unlike(stages) == []
    stages["train"]["deps"][0]["md5"] = "0" * 32
    assert package.unlike(stages) == ["train"]
    assert not package.of_project({"train": {"deps": [{"path": "components/train/loop.py", "md5": "0" * 32}]}})
