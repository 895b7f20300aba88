"""Outputs for Apptainer and Singularity: ``sif``, ``squashfs`` (bare) and ``sandbox`` (a folder)."""

from afenv_builders.apptainer.builder import ApptainerBuilder

__all__ = ["ApptainerBuilder"]
