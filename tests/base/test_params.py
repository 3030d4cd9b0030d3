"""The parameters of every section load without the libraries that the work needs."""

from pathlib import Path

import pytest
import starting

from components.base import config
from components.base.errors import UserError
from flows.dvc import schema

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numpy", "pandas", "pyarrow", "PIL"}


def test_the_parameters_of_every_section_load_without_a_heavy_library():
    modules = {section: model.__module__ for section, model in schema.models().items()}
    assert modules == {section: f"components.{section}.params" for section in modules}
    lines = [f"import {module}" for module in sorted(modules.values())]
    assert starting.first_with(HEAVY, lines) is None


def _integers(schema, place):
    """Each integer of a JSON schema: where it stands, and its own schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "integer" and "enum" not in schema:
            yield place, schema
        for key, value in schema.items():
            yield from _integers(value, f"{place}/{key}")
    elif isinstance(schema, list):
        for at, value in enumerate(schema):
            yield from _integers(value, f"{place}/{at}")


@pytest.mark.parametrize("section", sorted(schema.models()))
def test_every_whole_number_has_a_least_and_a_largest_value(section):
    for place, found in _integers(schema.models()[section].model_json_schema(), section):
        assert found.keys() & {"minimum", "exclusiveMinimum"}, place
        assert found.keys() & {"maximum", "exclusiveMaximum"}, place


@pytest.mark.parametrize(
    ("section", "key", "largest"),
    [("train", "images", 10**12), ("evaluate", "samples", 10**7), ("evaluate", "replicates", 10**5),
     ("distil", "samples", 10**7), ("contract", "min_images", 10**12)],
)  # fmt: skip
def test_a_count_above_the_largest_is_one_line_that_names_it(section, key, largest):
    sections = config.read(ROOT / config.FILE)
    sections[section][key] = largest
    assert getattr(config.load(sections, schema.models())[section], key) == largest
    sections[section][key] = largest + 1
    with pytest.raises(UserError, match=rf"{section}\.{key} should be less than or equal to {largest}, not"):
        config.load(sections, schema.models())
