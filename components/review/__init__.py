"""The page on which a curator looks at verdicts and overrules them."""
