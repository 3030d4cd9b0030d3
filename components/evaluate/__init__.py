"""Stage ``evaluate``: what the candidate is worth on images it has never seen."""
