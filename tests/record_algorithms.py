"""Record what every algorithm makes of fixed inputs, for tests/test_algorithms_recorded.py: tests/algorithms.json.

    PYTHONPATH=. python tests/record_algorithms.py

A result that changed while no version and no library did is refused: raise the algorithm's version first.  The
constants of the code that decides results are recorded too: tests/constants.json.
"""

from __future__ import annotations

import json
import sys

import recorded
import recorded_constants


def main() -> int:
    """Write the file, or say which version is to be raised first."""
    old = recorded.read()
    new = {algorithm.name: recorded.entry(algorithm) for algorithm in recorded.CASES}
    for algorithm in recorded.CASES:
        name = algorithm.name
        if name not in old or old[name]["versions"] != new[name]["versions"]:
            continue
        if problem := recorded.wrong(algorithm, old[name], new[name]):
            print(problem, file=sys.stderr)
            return 2
        new[name] = old[name]  # the last digits of another machine are no change
    lines = (f"{json.dumps(name)}: {json.dumps(new[name], sort_keys=True)}" for name in sorted(new))
    recorded.FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    recorded_constants.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
