"""The steps of an analysis as a graph, their commands, and the choices of a run; nothing is read or run."""
