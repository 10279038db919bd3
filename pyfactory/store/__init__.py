"""Bytes by key: one interface, and the places where bytes can live."""
