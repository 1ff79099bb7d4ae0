"""The pure core: no I/O, no clock, no pytest. Everything here can be tested from plain data."""
