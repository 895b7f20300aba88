"""Images on CVMFS, in the layout of unpacked.cern.ch."""

from afenv_builders.cvmfs.builder import CvmfsBuilder

__all__ = ["CvmfsBuilder"]
