"""Self-contained pages: markup that escapes by default, charts, sheets of small pictures, one style."""
