"""Lists of URLs: fetched politely, from checked addresses, and kept."""
