"""Bags sent to repositories: InvenioRDM (so also Zenodo), CERN Analysis Preservation, OCI registries."""
