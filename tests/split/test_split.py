"""No image moves when others are added, no pair straddles, and how the data came in does not matter."""

import hashlib
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from data_fixtures import folder, gather, judge, png, resize_params, split_params
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.base.errors import UserError
from components.resize.stage import resize
from components.samples import pack
from components.split.stage import decide, draw, split

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def names(count):
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)]


@st.composite
def worlds(draw_):
    """A number of images and some pairs of them."""
    count = draw_(st.integers(1, 40))
    image = st.integers(0, count - 1)
    pairs = draw_(st.lists(st.tuples(image, image).filter(lambda pair: pair[0] != pair[1]), max_size=60))
    return count, pairs


class Assignment(NamedTuple):
    split: str
    founder: int


def assignments(count, pairs):
    splits, founders = decide(names(count), pairs, salt="s", shares=SHARES)
    return [Assignment(pack.SPLITS[at], founder) for at, founder in zip(splits, founders.tolist(), strict=True)]


def drawn(count, salt="s"):
    return [pack.SPLITS[at] for at in draw(names(count), salt=salt, shares=SHARES)]


def test_what_was_drawn_is_drawn_for_ever():
    """By hand: 6 bytes of SHA-256 as a share, and the first split whose sum of shares it does not reach."""
    for name, split_name in zip(names(300), drawn(300), strict=True):
        point = int.from_bytes(hashlib.sha256(f"s:{name}".encode()).digest()[:6], "big") / 2**48
        assert split_name == ("train" if point < 0.6 else "val" if point < 0.6 + 0.2 else "test")


@given(worlds())
def test_no_pair_straddles_two_splits(world):
    count, pairs = world
    found = assignments(count, pairs)
    for one, other in pairs:
        splits = {found[one].split, found[other].split} - {"quarantine"}
        assert len(splits) <= 1


@given(worlds(), st.integers(0, 40))
def test_adding_images_moves_none_so_one_build_equals_many_refreshes(world, cut):
    count, pairs = world
    cut = min(cut, count)
    before = assignments(cut, [pair for pair in pairs if max(pair) < cut])
    assert [each.split for each in assignments(count, pairs)[:cut]] == [each.split for each in before]


@given(worlds(), st.randoms())
def test_the_order_and_direction_of_pairs_do_not_matter(world, random):
    count, pairs = world
    turned = [pair[::-1] if random.random() < 0.5 else pair for pair in pairs]
    random.shuffle(turned)
    assert assignments(count, turned) == assignments(count, pairs)


@given(worlds())
def test_a_group_has_one_founder_who_came_first_and_drew_its_split(world):
    count, pairs = world
    for position, each in enumerate(assignments(count, pairs)):
        assert each.founder <= position
        if each.split == "quarantine":
            assert each.founder == position
    if not pairs:
        assert [each.split for each in assignments(count, pairs)] == drawn(count)


def founders_of_two_splits():
    return drawn(20).index("train"), drawn(20).index("test")


def test_a_newcomer_between_two_splits_is_quarantined_and_joins_nothing():
    train, test = founders_of_two_splits()
    pairs = [(train, 20), (test, 20), (20, 21), (test, 22)]
    found = assignments(23, pairs)
    assert found[20].split == "quarantine"
    assert found[21].founder == 21, "a quarantined image handed on a split"
    assert found[22].split == "test" and found[22].founder == test
    assert found[train].split == "train"


def test_shares_are_met_and_the_salt_is_another_draw():
    count = 5000
    for name, share in SHARES.items():
        assert abs(drawn(count).count(name) / count - share) < 0.02
    assert drawn(count) != drawn(count, salt="t")


@pytest.mark.parametrize("shares", [{"train": 0.9}, {"train": 0.5, "val": 0.25, "test": 0.3}])
def test_shares_must_add_up_to_one(shares):
    with pytest.raises(ValidationError, match="must be 1"):
        split_params(**shares)


def stages(root, **split_changes):
    raw, verdicts, pixels, splits = (root / "data" / name for name in ("raw", "clean", "pixels", "splits"))
    gather(root)
    judge(root)
    resize(resize_params(), raw=raw, verdicts=verdicts, pixels=pixels, facts=raw.parent / "facts")
    return split(split_params(**split_changes), verdicts=verdicts, pixels=pixels, splits=splits)


def test_rows_are_those_of_the_pack_and_old_images_stay_after_a_refresh(tmp_path):
    source = folder(tmp_path, {f"{n:02d}.png": png(n) for n in range(10, 40)})
    (source / "99.png").write_bytes(png(10))  # a copy: it has an assignment and no row
    metrics = stages(tmp_path)

    def homes():
        keys = pack.read_keys(tmp_path / "data/pixels")
        return {keys[row]: name for name in pack.SPLITS for row in pack.read_split(tmp_path / "data/splits", name)}

    before = homes()
    assert len(before) == 30 and metrics["places"] == 31
    table = pq.read_table(tmp_path / "data/splits/splits.parquet").to_pylist()
    assert [row["row"] for row in table] == [*range(30), -1]
    assert {row["sha256"]: row["split"] for row in table} == before
    for n in range(10):
        (source / f"{n:02d}.png").write_bytes(png(n))  # these sort before all others
    (source / "12.png").unlink()
    stages(tmp_path)
    gone = hashlib.sha256(png(12)).hexdigest()
    after = homes()
    assert {key: after[key] for key in before if key != gone} == {k: v for k, v in before.items() if k != gone}
    assert len(after) == 39 and gone not in after
    tombs = pq.read_table(tmp_path / "data/splits/splits.parquet").to_pylist()
    assert [(row["row"], row["split"]) for row in tombs if row["sha256"] == gone] == [(-1, before[gone])]


def test_too_few_groups_is_one_line(tmp_path):
    folder(tmp_path, {"a.png": png(1), "b.png": png(1)})
    with pytest.raises(UserError, match="1 groups"):
        stages(tmp_path)
    assert not (tmp_path / "data/splits").exists()


def test_a_pack_of_other_verdicts_is_one_line(tmp_path):
    source = folder(tmp_path, {f"{n}.png": png(n) for n in range(20)})
    stages(tmp_path)
    (source / "5.png").unlink()
    gather(tmp_path)
    data = tmp_path / "data"
    judge(tmp_path)
    with pytest.raises(UserError, match="run stage 'resize' again"):
        split(split_params(), verdicts=data / "clean", pixels=data / "pixels", splits=data / "splits")
