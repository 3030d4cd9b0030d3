"""A mirror names verified versions only, under the numbers they had, whatever happens while it is written."""

import json
import random

import pytest
from checkouts import tree
from killing import killed_at
from mirrors import FILES, OLDER, mirror

from components.base.errors import UserError
from consume import pull
from flows.model import release


@pytest.fixture
def to(tmp_path):
    (tmp_path / "out" / "mirror").mkdir(parents=True)
    return tmp_path / "out" / "mirror"


def get(to, pin=None):
    """What the puller makes of the mirror: version and files."""
    folder = to.parent / "pulled"
    pull.pull(pull.Mirror(to), "denoiser", "champion", folder, pin)
    found = tree(folder)
    record = json.loads(found.pop(pull.RECORD))
    found.pop(pull.MANIFEST)
    return record["version"], found


def test_the_puller_reads_it_and_a_second_release_changes_nothing(registry, to):
    said = release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert said == f"{to}: denoiser@champion is version 2; versions 2, every file checked"
    assert get(to) == (2, FILES)
    stamps = {path: path.stat().st_mtime_ns for path in to.rglob("*")}
    assert release.write(registry, "denoiser", {"champion": 2}, [], to) == said
    assert {path: path.stat().st_mtime_ns for path in to.rglob("*")} == stamps


def test_versions_stay_when_an_alias_moves(registry, to):
    release.write(registry, "denoiser", {"champion": 1}, [], to)
    assert get(to) == (1, OLDER)
    said = release.write(registry, "denoiser", {"champion": 2, "previous": 1}, [], to)
    assert "versions 1, 2" in said
    assert get(to) == (2, FILES)
    assert get(to, 1) == (1, OLDER)


def test_a_version_stays_that_the_registry_has_lost(registry, to, tmp_path):
    release.write(registry, "denoiser", {"champion": 1}, [2], to)
    (tmp_path / "smaller").mkdir()
    assert "versions 1, 2" in release.write(mirror(tmp_path / "smaller", OLDER), "denoiser", {"champion": 1}, [], to)
    assert get(to, 2) == (2, FILES)


def test_signatures_are_the_owners_or_else_those_of_the_registry(registry, to, tmp_path):
    def signer(name, number, digest):
        return f"{name} {number} {digest}"

    release.write(registry, "denoiser", {"champion": 2}, [1], to, signer=signer)
    for number in (1, 2):
        _, digest, _, signature = pull.Mirror(to).resolve("denoiser", "", number)
        assert signature == f"denoiser {number} {digest}"
    (tmp_path / "second").mkdir()
    release.write(pull.Mirror(to), "denoiser", {"champion": 2}, [], tmp_path / "second")
    assert pull.Mirror(tmp_path / "second").resolve("denoiser", "champion", None)[3].startswith("denoiser 2 ")
    before = (to / "registry.json").read_text()
    release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert (to / "registry.json").read_text() == before, "a signature that is there stays"


def test_models_of_other_names_stay(registry, to):
    release.write(registry, "denoiser", {"champion": 1}, [2], to)
    table = json.loads((to / "registry.json").read_text())
    table["models"]["other"] = {"aliases": {}, "versions": {}}
    (to / "registry.json").write_text(json.dumps(table))
    release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert set(json.loads((to / "registry.json").read_text())["models"]) == {"denoiser", "other"}


def test_nothing_is_released_that_differs_from_its_manifest(registry, to):
    release.write(registry, "denoiser", {"champion": 1}, [], to)
    before = tree(to)
    path = registry.location / registry.resolve("denoiser", "champion", 2)[2] / "model.onnx"
    path.write_bytes(b"weightz")
    with pytest.raises(UserError, match=r"denoiser version 2: not released, .* as it was: model\.onnx: not what"):
        release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert tree(to) == before


def test_a_number_that_means_another_version_is_refused(registry, to, tmp_path):
    release.write(registry, "denoiser", {"champion": 1}, [2], to)
    (tmp_path / "swapped").mkdir()
    swapped = mirror(tmp_path / "swapped", FILES, OLDER)
    with pytest.raises(UserError, match="holds another version under that number"):
        release.write(swapped, "denoiser", {"champion": 1}, [], to)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_in_the_mirror_is_mended_by_the_next_release(registry, to, seed):
    release.write(registry, "denoiser", {"champion": 2}, [], to)
    before, chance = tree(to), random.Random(seed)
    name = chance.choice([each for each in sorted(before) if each != "registry.json"])
    content = bytearray(before[name])
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (to / name).write_bytes(content)
    with pytest.raises(pull.PullError):
        get(to)
    release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert tree(to) == before


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 2, "models": {}}', "no json"])
def test_a_folder_of_somebody_else_is_refused(registry, to, content):
    (to / "registry.json").write_text(content)
    with pytest.raises(UserError, match="give another folder"):
        release.write(registry, "denoiser", {"champion": 2}, [], to)
    (to / "registry.json").rename(to / "thesis.tex")
    with pytest.raises(UserError, match=r"holds thesis.tex and no registry.json"):
        release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert tree(to) == {"thesis.tex": content.encode()}


@pytest.mark.parametrize("tag", ["", "../../elsewhere", "ff"])
def test_a_tag_that_is_no_hash_names_no_folder(registry, to, tag):
    table = json.loads((registry.location / "registry.json").read_text())
    table["models"]["denoiser"]["versions"]["2"] = tag or " "
    (registry.location / "registry.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"no SHA-256 in its tag stillroom\.manifest"):
        release.write(registry, "denoiser", {"champion": 2}, [], to)
    assert not list(to.parent.rglob("*.beside-*")) and not tree(to)


def test_no_alias_and_no_version_is_told(registry, to):
    with pytest.raises(UserError, match="no alias points to a version"):
        release.write(registry, "denoiser", {}, [], to)


@pytest.mark.slow
def test_kill_9_at_every_step_leaves_a_mirror_whose_champion_is_whole(registry, to):
    release.write(registry, "denoiser", {"champion": 1}, [], to)
    seen = set()
    for step in range(1, 200):
        killed = killed_at(step, to, lambda: release.write(registry, "denoiser", {"champion": 2}, [], to))
        number, found = get(to)
        assert found == {1: OLDER, 2: FILES}[number]
        seen.add(number)
        if not killed:
            break
        release.write(registry, "denoiser", {"champion": 1}, [], to)
        path = to / registry.resolve("denoiser", "champion", 2)[2]
        for each in sorted(path.rglob("*"), reverse=True) if path.is_dir() else []:
            each.rmdir() if each.is_dir() else each.unlink()
        assert not list(to.rglob("*beside*"))
    assert step > 20 and not killed
    assert seen == {1, 2}
