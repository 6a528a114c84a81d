"""thumbd turns video into stills."""
