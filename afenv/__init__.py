"""afenv: lock an analysis once; run the identical environment at any facility.

The package imports nothing heavy: each command loads what it needs when it needs it.
"""

__version__ = "0.1.0"
