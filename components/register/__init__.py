"""Section ``register``: whether a candidate replaces the champion."""
