"""The glue: Prefect says when and where, DVC what is stale, MLflow what was. The work is in components/."""
