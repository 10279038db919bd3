"""Small foundations: digests, canonical bytes, keys for random numbers, meters, durable files."""
