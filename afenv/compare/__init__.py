"""Comparing results: by their bytes, then by what they mean. The norm is specs/comparison/v1."""
