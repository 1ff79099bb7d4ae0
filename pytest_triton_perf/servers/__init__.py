"""How a Triton comes to exist, and how it is asked to load a variant."""
