"""The formats between the stages: tables, shards of bytes, packs of pixels, facts kept by content."""
