"""pytest-triton-perf: performance budgets for models on NVIDIA Triton Inference Server."""

__version__ = "0.1.0"
