"""DVC: called in-process, mended when it was killed, its dvc.yaml rendered."""
