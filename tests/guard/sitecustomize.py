"""Imported by every Python that the tests start (PYTHONPATH): no connection leaves the machine."""

import hardware
import loopback_only

loopback_only.install()
hardware.install()
