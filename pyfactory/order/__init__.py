"""Which sample stands where: pure arithmetic over counts, without bytes, files or clocks (docs/stream-spec.md)."""
