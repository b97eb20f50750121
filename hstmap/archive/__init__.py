"""Which images there are: sources, listings and the manifest."""
