"""What params.yaml may say, and what the user is told when it says something else."""

import pytest
from checkouts import ROOT
from pydantic import Field

from components.base import config
from components.base.errors import UserError
from components.base.params import Params
from components.collect.params import CollectParams
from flows.dvc import schema


class CleanParams(Params):
    max_distance: int = Field(ge=0, le=64, description="differing hash bits, of 64")
    ratio: float = Field(description="share, 0..1")
    widths: tuple[int, ...] = Field(description="channels of each level")


MODELS = {"clean": CleanParams}
GOOD = "clean:\n  max_distance: 4\n  ratio: 1\n  widths: [32, 64]\n"


def load(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return config.load(config.read(path), MODELS)["clean"]


def test_a_good_file_loads_and_is_frozen(tmp_path):
    params = load(tmp_path, GOOD)
    assert (params.max_distance, params.ratio, params.widths) == (4, 1.0, (32, 64))
    with pytest.raises(ValueError, match="frozen"):
        params.max_distance = 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD.replace("max_d", "max_dd"), "clean.max_ddistance is not a parameter; did you mean 'max_distance'?"),
        (GOOD.replace("  ratio: 1\n", ""), "clean.ratio is missing (share, 0..1)"),
        (GOOD.replace("ratio: 1", "ratio: high"), "clean.ratio should be a valid number, not 'high' (share, 0..1)"),
        (GOOD.replace("ratio: 1", "ratio: '1'"), "clean.ratio should be a valid number, not '1' (share, 0..1)"),
        (GOOD.replace("distance: 4", "distance: 65"), "should be less than or equal to 64, not 65 (differing"),
        (GOOD.replace("distance: 4", "distance: 4.0"), "clean.max_distance should be a valid integer, not 4.0"),
        (GOOD.replace("ratio: 1", "ratio: .nan"), "clean.ratio should be a finite number, not nan"),
        (GOOD + "cleen:\n  a: 1\n", "section 'cleen' belongs to no stage; did you mean 'clean'?"),
        ("other: {}\n", "section 'other' belongs to no stage"),
        ("{}\n", "section 'clean' is missing; it holds max_distance, ratio, widths"),
        ("clean: {}\n", "(and 2 more)"),
        ("clean: 3\n", "clean"),
        ("- 1\n", "wanted a section for each stage"),
        (GOOD + "clean: {}\n", "is not YAML: found duplicate key"),
        ("clean: [\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_what_to_do(tmp_path, text, line):
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "params.yaml" in str(caught.value)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(UserError, match="not there"):
        config.read(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    params = load(tmp_path, GOOD.replace("ratio: 1", "ratio: 1e-4"))
    assert params.ratio == 1e-4


SOURCE = {"name": "a", "kind": "files", "location": "x", "licence": "CC0", "matte": "#ffffff", "text_column": None,
          "label_column": None, "group_column": None}  # fmt: skip
URLS = {**SOURCE, "name": "c", "kind": "urls", "url_column": None, "seconds": 30.0, "attempts": 3, "private": False,
        "obey": True}  # fmt: skip
NESTED = "collect.sources[1]"


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ({**SOURCE, "matte": "red"}, f"{NESTED}.matte should match pattern"),
        ({**SOURCE, "mate": "red"}, f"{NESTED}.mate is not a parameter; did you mean 'matte'?"),
        ({**URLS, "attempts": 0}, f"{NESTED}.attempts should be greater than or equal to 1, not 0 (tries of"),
        ({k: v for k, v in URLS.items() if k != "obey"}, f"{NESTED}.obey is missing (whether robots.txt"),
        ({k: v for k, v in SOURCE.items() if k != "kind"}, f"{NESTED}.kind is missing (files, urls, parquet,"),
        (
            {**SOURCE, "kind": "file"},
            f"{NESTED}.kind should be one of files, urls, parquet, webdataset, not 'file'; did",
        ),
        ({**SOURCE, "name": "../up"}, f"{NESTED}.name should match pattern"),
        ({**SOURCE, "name": "A"}, "collect.sources has two sources called 'A': give each its own"),
        ({**SOURCE, "location": "s3://me:hunter2@bucket"}, f"{NESTED}.location holds credentials"),
        ({**SOURCE, "location": "s3://bucket?AWSSecretKey=hunter2"}, f"{NESTED}.location holds credentials"),
    ],
)
def test_a_mistake_in_a_source_names_its_place(second, line):
    with pytest.raises(UserError) as caught:
        config.section(
            {"collect": {"max_bytes": 2**20, "notes": "keep", "opt_outs": "refuse", "sources": [SOURCE, second]}},
            "collect",
            CollectParams,
        )
    message = str(caught.value)
    assert f"params.yaml: {line}" in message and "\n" not in message and "hunter2" not in message


@pytest.mark.parametrize(("section", "values", "line"), [
    ("collect", {"sources": []}, "collect.sources should have at least 1 item, not 0 (where"),
    ("collect", {"sources": None}, "collect.sources should be a list, not null (where"),
    ("train", {"network": "compact"}, "train.network should be keys with values, not 'compact'"),
    ("train", {"seed": True}, "train.seed should be a valid integer, not true"),
])  # fmt: skip
def test_a_mistake_is_told_in_the_words_of_yaml(section, values, line):
    given = {**config.read(ROOT / "params.yaml")[section], **values}
    with pytest.raises(UserError) as caught:
        config.section({section: given}, section, schema.models()[section])
    assert str(caught.value).startswith(f"params.yaml: {line}")


@pytest.mark.parametrize(("text", "held"), [("", "nothing"), ("- 1\n", "a list"), ("3\n", "only 3")])
def test_a_file_that_has_no_sections_says_what_it_holds(text, held):
    with pytest.raises(UserError, match=f"holds {held}, wanted a section for each stage"):
        config.parse(text)
