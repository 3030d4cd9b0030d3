"""What the README and the list of commands say is there."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from components.base import config
from flows.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
TEXT = "\n".join((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/commands.md"))
"""Where a newcomer looks commands up."""

CODE = ("components", "consume", "flows", "tests", "benchmarks")
NOT_OURS = ("train_unconditional.py",)
SUFFIXES = ("json", "html", "jsonl")

every_page = pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda path: path.name
)


def commands():
    """Every command by what is typed after `stillroom`."""
    for name, command in get_command(app).commands.items():
        yield name, command
        for inner, part in getattr(command, "commands", {}).items():
            yield f"{name} {inner}", part


def test_every_command_in_the_readme_exists_and_every_command_is_in_it():
    known = set(get_command(app).commands)
    named = set(re.findall(r"stillroom ([a-z]+)", TEXT))
    assert named & known == known
    assert set(re.findall(r"`stillroom ([a-z]+)", TEXT)) <= known
    for name, _ in commands():
        assert f"stillroom {name}" in TEXT, name
    inside = {name.split()[1] for name, _ in commands() if " " in name}
    assert set(re.findall(r"`stillroom data ([a-z]+)", TEXT)) <= inside


def test_every_recipe_and_every_file_in_the_readme_exists():
    recipes = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", TEXT, re.MULTILINE)) <= recipes
    for path in re.findall(r"`?((?:docs|data/samples)/[\w.-]+\.\w+)", TEXT):
        assert (ROOT / path).is_file(), path


def test_every_option_of_the_data_commands_is_in_the_readme():
    for name, command in commands():
        for one in command.params if name.startswith("data ") else []:
            names = [option for option in (*one.opts, *one.secondary_opts) if option.startswith("--")]
            if names and not {"--directory", "--help"} & set(names):
                assert any(option in TEXT for option in names), f"{name} {names[0]}"


def test_every_option_says_what_it_is():
    for name, command in commands():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@every_page
def test_every_command_in_a_document_has_the_options_that_it_is_shown_with(page):
    known = {name: command.params for name, command in commands()}
    pattern = r"(?:^\s*|`)stillroom ([a-z]+(?: [a-z]+)?)([^`\n]*)"
    for words, rest in re.findall(pattern, page.read_text("utf-8"), re.MULTILINE):
        command = known.get(words) or known.get(words.split()[0])
        assert command, f"stillroom {words}"
        options = {name for option in command for name in (*option.opts, *option.secondary_opts)}
        for option in re.findall(r"(?<![\w-])--[a-z-]+", rest):
            assert option in options, f"stillroom {words}{rest}"


@every_page
def test_every_module_recipe_and_parameter_that_a_document_names_is_there(page):
    text = page.read_text("utf-8")
    modules = {path.name for top in CODE for path in (ROOT / top).rglob("*.py")}
    recipes = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    params = config.read(ROOT / "params.yaml")
    for code in re.findall(r"`([^`\n]+)`", text):
        for name in re.findall(r"(?<![\w/.-])\w+\.py\b", code):
            assert name in {*modules, *NOT_OURS}, code
        for name in re.findall(r"^make ([a-z]+)", code):
            assert name in recipes, code
        section, dot, key = code.partition(".")
        if section in params and dot and re.fullmatch(r"[a-z_]+", key) and key not in SUFFIXES:
            assert key in params[section], code


@every_page
def test_every_file_that_a_document_names_is_there(page):
    text = page.read_text("utf-8")
    for path in re.findall(
        r"(?<![\w/.-])((?:components|consume|flows|tests|benchmarks|docs)/[\w./-]+\.(?:py|md|png))", text
    ):
        assert (ROOT / path).is_file() or "NAME" in path, path
    for path in re.findall(r"\]\(([\w./-]+\.(?:md|png|py))\)", text):
        assert (page.parent / path).is_file(), path
