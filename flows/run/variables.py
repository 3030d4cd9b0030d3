"""The environment of a worker that Stillroom reads.

No flow takes a path: whoever reaches Prefect's API would give it.
"""

ROOT = "STILLROOM_SERVED"
"""The checkout that the worker's flows work in."""
SHARED = "STILLROOM_SHARED"
"""``pull`` and ``push``, which a run does first and last (flows/run/share.py)."""
