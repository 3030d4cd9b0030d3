"""Which version each alias points to follows from the decisions on record alone."""

from flows.history.decisions import Decided, intent, outcome
from flows.history.ledger import Record
from flows.registry import aliases


def decided(*rows):
    """Decisions in order: each the number of a version, the champion it was compared with, and what came of it."""
    found = []
    for at, (number, expected, result) in enumerate(rows):
        body = intent(name="denoiser", version=number, manifest="m", expected=expected, by="gate",
                      decision={"promote": result == "promoted", "waits": result == "waits"})  # fmt: skip
        begun = Record(id=f"i{at}", kind="intent", key=f"k{number}", number=2 * at, when=0, body=body)
        said = outcome(begun, "held" if result == "waits" else result)
        ended = Record(id=f"o{at}", kind="outcome", key=f"k{number}", number=2 * at + 1, when=0, body=said)
        found.append(Decided(intent=begun, outcome=ended))
    return found


def told(*rows):
    targets = aliases.wanted(decided(*rows))
    waits = aliases.waiting(targets)
    return {alias: one.version for alias, one in targets.items()}, waits and waits.version


def test_a_version_that_is_held_back_is_the_challenger_until_it_is_promoted():
    rows = [(1, None, "promoted"), (2, 1, "held")]
    assert told(*rows) == ({"champion": 1, "challenger": 2}, None)
    assert told(*rows, (3, 1, "held")) == ({"champion": 1, "challenger": 3}, None)
    assert told(*rows, (2, 1, "promoted")) == ({"champion": 2, "previous": 1}, None)
    assert told(*rows, (3, 1, "overtaken")) == ({"champion": 1, "challenger": 2}, None)


def test_a_winner_that_waits_stays_challenger_while_others_lose():
    assert told((1, None, "waits")) == ({"challenger": 1}, 1)
    rows = [(1, None, "promoted"), (2, 1, "waits"), (3, 1, "held")]
    assert told(*rows) == ({"champion": 1, "challenger": 2}, 2)
    assert told(*rows, (4, 1, "waits")) == ({"champion": 1, "challenger": 4}, 4)


def test_a_winner_against_a_champion_that_is_gone_waits_no_more():
    rows = [(1, None, "promoted"), (2, 1, "waits"), (3, 1, "promoted")]
    assert told(*rows) == ({"champion": 3, "previous": 1, "challenger": 2}, None)
    assert told(*rows, (4, 3, "held")) == ({"champion": 3, "previous": 1, "challenger": 4}, None)


def test_going_back_and_forth_leaves_the_one_before_as_previous():
    rows = [(1, None, "promoted"), (2, 1, "promoted"), (1, 2, "promoted")]
    assert told(*rows) == ({"champion": 1, "previous": 2}, None)
