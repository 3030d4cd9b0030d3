"""DVC: called in-process, its lock repaired after a kill, dvc.yaml rendered."""
