"""The kinds of sources: folders, archives, remote stores, Parquet, WebDataset."""
