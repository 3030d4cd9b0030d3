"""The version of each algorithm is raised when its result changes: results are kept between runs by that version."""

import dataclasses

import pytest
import recorded
import recorded_constants

from components.base.algorithms import Algorithm

ONE = Algorithm("one", 1, ("numpy",))


@pytest.mark.parametrize("algorithm", recorded.CASES, ids=lambda each: each.name)
def test_a_result_changes_with_a_version_only(algorithm):
    problem = recorded.wrong(algorithm, recorded.read().get(algorithm.name), recorded.entry(algorithm))
    assert not problem, problem


def test_a_constant_that_decides_is_not_changed_unawares():
    now, then = recorded_constants.constants(), recorded_constants.read()
    changed = [f"{name} is {now.get(name)}, was {then.get(name)}" for name in sorted(now.keys() | then.keys())
               if now.get(name) != then.get(name)]  # fmt: skip
    assert not changed, (
        f"{'; '.join(changed)}: raise the version of the algorithm whose result changes with it, if one does, "
        f"and run `{recorded.COMMAND}`"
    )


def test_every_algorithm_has_a_recorded_result_and_a_name_of_its_own():
    declared = list(recorded.declared())
    missing = {f"{module}: {each.name!r}" for module, each in declared if each not in recorded.CASES}
    assert not missing, f"add a case for each to tests/recorded.py and run `{recorded.COMMAND}`"
    assert sorted(recorded.read()) == sorted({each.name for _, each in declared})
    assert len({each for _, each in declared}) == len({each.name for _, each in declared})


@pytest.mark.parametrize(
    ("change", "result", "words"),
    [
        ({}, ("a", [1.0, 2.0]), ""),
        ({}, ("a", [1.0001, 2.0]), ""),
        ({}, ("b", [1.0, 2.0]), "one: the result changed and the version did not"),
        ({}, ("a", [1.0, 2.0, 3.0]), "one: the result changed and the version did not"),
        ({}, ("a", [1.1, 2.0]), "one: the result changed and the version did not: raise the version and run"),
        ({"version": 2}, ("a", [1.1, 2.0]), "one: the version is not the recorded one: run"),
        ({"version": 2}, ("a", [1.0, 2.0]), "one: the version is not the recorded one: run"),
        ({"libraries": ("no-such-library",)}, ("a", [1.0, 2.0]), ""),
        ({"libraries": ("no-such-library",)}, ("a", [1.1, 2.0]), "no-such-library None, here absent"),
    ],
)
def test_what_is_said_of_a_change(change, result, words):
    old = {"versions": ONE.parts(), "result": {"exact": "a", "near": [1.0, 2.0]}}
    other = dataclasses.replace(ONE, **change)
    new = {"versions": other.parts(), "result": dict(zip(("exact", "near"), result, strict=True))}
    message = recorded.wrong(other, old, new)
    assert words in message and bool(words) == bool(message)
