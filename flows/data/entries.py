"""The entries of collect.sources in the text of params.yaml: where each lies, so that the rest of the text stays."""

from __future__ import annotations

from typing import Any


def listed(text: str) -> Any:
    """The node of the list; LookupError where it is not one of lines that begin with a dash."""
    from ruamel.yaml import YAML

    node = YAML(typ="rt").compose(text)
    for key in ("collect", "sources"):
        node = next(value for name, value in node.value if name.value == key)
    if node.flow_style or not node.value:
        raise LookupError("collect.sources is written in brackets")
    return node


def last_line(node: Any) -> int:
    """The number of an entry's last line, from 0."""
    if node.flow_style:
        return int(node.end_mark.line)
    return max(int(value.end_mark.line) for _, value in node.value)
