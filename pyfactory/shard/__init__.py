"""Tables as immutable Arrow IPC files: their layout, their bytes, the manifest that lists them, and the importers."""
