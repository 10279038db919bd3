"""The stream: what stands at each position of (version, seed, recipe)."""
