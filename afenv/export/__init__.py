"""The steps of an analysis for the engines that facilities run: pure functions from a plan to documents."""
