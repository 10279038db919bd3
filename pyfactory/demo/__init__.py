"""The whole line on one machine, with nothing but Python's own sources as raw data."""
