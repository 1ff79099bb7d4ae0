"""Model Analyzer's config files, as tests."""
