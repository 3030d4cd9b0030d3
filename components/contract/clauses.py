"""The data contract: what a data set must look like before anything is trained on it.

A clause is one requirement of the contract, such as "at least 20 images"; section ``contract`` of params.yaml sets
them.  All functions are pure.  They take a profile, which is data/profile/profile.json as plain data
(components/profile/stage.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from components.contract.params import ContractParams

FEW = 10
"""Images of a source or label below which losing some of them says nothing."""
_ALIKE = ("duplicate", "near_duplicate")
_NONE_BEFORE = "no pipeline run is registered yet to compare it with"


@dataclass(frozen=True)
class Clause:
    """One requirement of the contract and how the data meets it, in words.

    ``name`` is its key in params.yaml.  ``involved`` names the sources and labels behind a broken one.
    """

    name: str
    wanted: str
    found: str
    broken: bool
    involved: tuple[str, ...] = ()


def judge(
    profile: Mapping[str, Any], before: Mapping[str, Any] | None, params: ContractParams, *, sources: Collection[str]
) -> list[Clause]:
    """Check every clause on ``profile``.

    ``before`` is the profile of the last registered pipeline run, None when there is none; ``sources`` are the names
    that params.yaml lists.
    """
    return [
        _min_images(profile, params),
        _max_rejected(profile, params),
        _max_unreached(profile, params),
        _max_duplicates(profile, params),
        _min_captioned(profile, params),
        _licences(profile, params),
        _labels(profile, params),
        _min_class(profile, params),
        _max_lost(profile, before, params, sources),
        _max_shift(profile, before, params),
        _max_label_shift(profile, before, params),
    ]


def broken(clauses: list[Clause]) -> list[Clause]:
    """Those of ``clauses`` that do not hold."""
    return [clause for clause in clauses if clause.broken]


def line(clause: Clause) -> str:
    """A broken ``clause`` in one line, with the first of those involved."""
    who = f" ({clause.involved[0]})" if clause.involved else ""
    return f"contract.{clause.name}: {clause.found}{who}, wanted {clause.wanted}"


def _min_images(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    found = profile["images"]
    who: tuple[str, ...] = ()
    if found < params.min_images:
        who = tuple(f"source {name}: {source['kept']:,}" for name, source in profile["sources"].items())
    return Clause("min_images", f"at least {params.min_images:,} images", f"{found:,} images are kept",
                  found < params.min_images, who)  # fmt: skip


def _max_rejected(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    share = profile["rejected_share"]
    who: tuple[str, ...] = ()
    if share > params.max_rejected:
        worst = sorted(profile["sources"].items(), key=lambda item: (-item[1]["rejected"], item[0]))
        reasons = sorted(profile["rejected"].items(), key=lambda item: (-item[1], item[0]))
        who = tuple(f"source {name}: {source['rejected']:,} of {source['kept'] + source['rejected']:,}"
                    for name, source in worst if source["rejected"])  # fmt: skip
        who += tuple(f"reason {name}: {count:,}" for name, count in reasons)
    found = f"{share:.1%} of {profile['came_in']:,} images were rejected"
    return Clause("max_rejected", f"at most {params.max_rejected:.1%}", found, share > params.max_rejected, who)


def _max_unreached(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    shares = {}
    for name, source in profile["sources"].items():
        if nothing := source.get("unreached", 0):
            every = source["kept"] + source["rejected"] + nothing
            shares[name] = nothing / every, f"source {name}: {nothing:,} of {every:,} gave nothing"
    wanted = "any" if params.max_unreached is None else f"at most {params.max_unreached:.1%}"
    if not shares:
        return Clause("max_unreached", wanted, "every address that was asked gave a file", False)
    worst = max(share for share, _ in shares.values())
    limit = 1.0 if params.max_unreached is None else params.max_unreached
    who = tuple(words for share, words in sorted(shares.values(), key=lambda one: (-one[0], one[1])) if share > limit)
    if who:
        who += tuple(f"reason {name}: {count:,}" for name, count in _most(profile["unreached"]))
    return Clause("max_unreached", wanted, f"{worst:.1%} of a source's addresses gave nothing", bool(who), who)


def _max_duplicates(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    count = sum(profile["rejected"].get(name, 0) for name in _ALIKE)
    share = count / profile["came_in"] if profile["came_in"] else 0.0
    wanted = "any" if params.max_duplicates is None else f"at most {params.max_duplicates:.1%}"
    found = f"{share:.1%} of {profile['came_in']:,} images show what another one shows"
    over = params.max_duplicates is not None and share > params.max_duplicates
    who = tuple(f"{name}: {profile['rejected'].get(name, 0):,}" for name in _ALIKE) if over else ()
    return Clause("max_duplicates", wanted, found, over, who)


def _min_captioned(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    share = profile.get("captioned", 0) / profile["images"] if profile["images"] else 0.0
    low = share < params.min_captioned
    who: tuple[str, ...] = ()
    if low:
        who = tuple(f"source {name}: {source.get('captioned', 0):,} of {source['kept']:,} have a caption"
                    for name, source in profile["sources"].items() if source["kept"])  # fmt: skip
    return Clause("min_captioned", f"at least {params.min_captioned:.1%}", f"{share:.1%} of the images have a caption",
                  low, who)  # fmt: skip


def _licences(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    found = profile.get("licences", {})
    if params.licences is None:
        return Clause("licences", "any licences", _counted(found), False)
    strange = _most({name: count for name, count in found.items() if name not in params.licences})
    who = tuple(f"licence {name!r}: {count:,} images" for name, count in strange)
    said = f"{len(who):,} others" if who else "no other"
    return Clause("licences", f"the {len(params.licences):,} licences listed", said, bool(who), who)


def _counted(licences: Mapping[str, int]) -> str:
    return f"{len(licences):,} licence{'' if len(licences) == 1 else 's'}"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names and counts, the largest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _labels(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    found = profile["labels"]
    if params.labels is None:
        return Clause("labels", "any labels", f"{len(found):,} labels", False)
    missing = sorted(set(params.labels) - set(found))
    strange = sorted(set(found) - set(params.labels))
    parts = [
        f"{len(missing):,} of them without an image" if missing else "",
        f"{len(strange):,} others" if strange else "",
    ]
    who = tuple(f"label {name!r} has no image" for name in missing)
    who += tuple(f"label {name!r} is not expected: {found[name]:,}" for name in strange)
    differences = ", ".join(part for part in parts if part) or "just these"
    return Clause("labels", f"the {len(params.labels):,} labels listed", differences, bool(who), who)


def _min_class(profile: Mapping[str, Any], params: ContractParams) -> Clause:
    found = sorted(profile["labels"].items(), key=lambda item: (item[1], item[0]))
    wanted = f"at least {params.min_class:,} images of each label"
    if not found:
        return Clause("min_class", wanted, "no image has a label", False)
    who = tuple(f"label {name!r}: {count:,}" for name, count in found if count < params.min_class)
    return Clause("min_class", wanted, f"the smallest label has {found[0][1]:,}", bool(who), who)


def _max_lost(
    profile: Mapping[str, Any], before: Mapping[str, Any] | None, params: ContractParams, sources: Collection[str]
) -> Clause:
    """A source that params.yaml lists no more was taken out by somebody, and is no loss."""
    wanted = "any loss" if params.max_lost is None else f"at most {params.max_lost:.1%} of a source or label"
    if before is None:
        return Clause("max_lost", wanted, _NONE_BEFORE, False)
    now = {name: source["kept"] for name, source in profile["sources"].items()}
    then = {name: source["kept"] for name, source in before["sources"].items() if name in sources}
    lost = [(1 - now.get(name, 0) / count, f"source {name}: {count:,} then, {now.get(name, 0):,} now")
            for name, count in then.items() if count >= FEW]  # fmt: skip
    labels = profile["labels"]
    lost += [(1 - labels.get(name, 0) / count, f"label {name!r}: {count:,} then, {labels.get(name, 0):,} now")
             for name, count in before["labels"].items() if count >= FEW]  # fmt: skip
    worst = max((share for share, _ in lost), default=0.0)
    if worst <= 0:
        return Clause("max_lost", wanted, "no source and no label has fewer images than then", False)
    limit = 1.0 if params.max_lost is None else params.max_lost
    who = tuple(words for share, words in sorted(lost, key=lambda one: -one[0]) if share > limit)
    if who:
        who += tuple(_more_rejected(profile, before))
    return Clause("max_lost", wanted, f"a source or label has lost {worst:.1%} of its images", bool(who), who)


def _more_rejected(profile: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The reasons for which more was rejected than then: a damaged source is told as damaged."""
    now, then = profile["rejected"], before["rejected"]
    more = sorted(((now[name] - then.get(name, 0), name) for name in now), key=lambda one: (-one[0], one[1]))
    return [f"rejected as {name}: {then.get(name, 0):,} then, {now[name]:,} now" for by, name in more if by > 0]


def _max_shift(profile: Mapping[str, Any], before: Mapping[str, Any] | None, params: ContractParams) -> Clause:
    wanted = "any shift" if params.max_shift is None else f"at most {params.max_shift:g} spreads"
    if before is None or (why := _incomparable(profile, before)):
        return Clause("max_shift", wanted, _NONE_BEFORE if before is None else why, False)
    found = shift(profile, before)
    over = params.max_shift is not None and found > params.max_shift
    who: tuple[str, ...] = ()
    if over:
        sources = profile["sources"]
        each = {name: shift({**profile, **source}, before) for name, source in sources.items() if source["mean"]}
        who = tuple(f"source {name}: {value:.2f} spreads from then, {sources[name]['embedded']:,} images"
                    for name, value in sorted(each.items(), key=lambda item: (-item[1], item[0])))  # fmt: skip
        who += tuple(_changed_labels(profile, before))
    return Clause("max_shift", wanted, f"the mean has moved by {found:.2f} spreads", over, who)


def _max_label_shift(profile: Mapping[str, Any], before: Mapping[str, Any] | None, params: ContractParams) -> Clause:
    """Labels that few pictures of then or now are embedded of are not compared."""
    wanted = "any shift" if params.max_label_shift is None else f"at most {params.max_label_shift:g} spreads"
    if before is None or (why := _incomparable(profile, before)):
        return Clause("max_label_shift", wanted, _NONE_BEFORE if before is None else why, False)
    now, then = profile.get("label_means", {}), before.get("label_means", {})
    moved = {name: shift({**profile, **now[name]}, {**before, **then[name]}) for name in now if name in then}
    if not moved:
        return Clause("max_label_shift", wanted, "no label has enough pictures then and now", False)
    limit = math.inf if params.max_label_shift is None else params.max_label_shift
    over = sorted(((value, name) for name, value in moved.items() if value > limit), key=lambda one: (-one[0], one[1]))
    who = tuple(f"label {name!r}: {value:.2f} spreads from then, {now[name]['embedded']:,} images"
                for value, name in over)  # fmt: skip
    found = f"the label that moved most has moved by {max(moved.values()):.2f} spreads"
    return Clause("max_label_shift", wanted, found, bool(who), who)


def _incomparable(profile: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Why the means of two profiles are not to be compared; '' when they are."""
    if all(profile[key] == before[key] for key in ("embedding", "side")):
        return ""
    both = f"{before['embedding']} at {before['side']} px then, {profile['embedding']} at {profile['side']} px now"
    return f"not to be compared: {both}"


def shift(profile: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """How far the embedding's mean has moved since ``before``, 0 or more, in units of the spread of ``before``.

    The distance that chance gives is taken off: two samples of one population, of n and m images, have means that lie
    about spread * sqrt(1/n + 1/m) apart.
    """
    apart = math.dist(profile["mean"], before["mean"]) ** 2
    spread = before["spread"] ** 2
    by_chance = spread * (1 / profile["embedded"] + 1 / before["embedded"])
    if apart <= by_chance:
        return 0.0
    return math.sqrt((apart - by_chance) / spread) if spread else math.inf


def _changed_labels(profile: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The labels whose share of the images changed most, at most ten."""
    now, then = profile["labels"], before["labels"]
    total, total_then = max(1, profile["images"]), max(1, before["images"])
    moved = {name: now.get(name, 0) / total - then.get(name, 0) / total_then for name in {*now, *then}}
    most = sorted(moved.items(), key=lambda item: (-abs(item[1]), item[0]))[:10]
    return [f"label {name!r}: {then.get(name, 0):,} then, {now.get(name, 0):,} now" for name, by in most if by]
