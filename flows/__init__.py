"""What connects components/ to its tools: DVC finds what is stale, Prefect runs it, MLflow holds the results."""
