"""Which configurations a search measures, in which order, and when it knows enough."""
