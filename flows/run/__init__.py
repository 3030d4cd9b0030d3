"""A pipeline run: the Prefect flow, the process it runs in, its schedule and its servers."""
