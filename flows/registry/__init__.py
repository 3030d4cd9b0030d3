"""MLflow and the model registry."""
