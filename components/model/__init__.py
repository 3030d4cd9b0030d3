"""What is handed out: the folder of a model, its card, its exports, and sampling from it."""
