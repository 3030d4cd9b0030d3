"""The work of Stillroom: stages as functions from files to files. Imports no orchestrator."""

import os

NO_TELEMETRY = {
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # ONNX Runtime 1.32 otherwise writes a device id below ~/.cache and looks its maker's server up, at its import.
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""For the libraries that the stages import; a value that the user has set stays."""

# Here, because it counts before their import only and every way in imports this package first: `stillroom`,
# `python -m components`, a notebook, the tests. Child processes inherit it.
for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)
