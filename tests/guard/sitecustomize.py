"""Imported by every Python that the tests start (PYTHONPATH): no connection leaves the machine."""

import loopback_only

loopback_only.install()
