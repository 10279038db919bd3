"""Where tasks run: `base` has the interface, `open` the choice. Steps do not know who runs them."""
