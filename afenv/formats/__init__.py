"""Locks of other tools: ``conda-lock.yml`` (version 1), ``pixi.lock`` (6 and 7), ``@EXPLICIT`` lists.

Each format is a module with ``parse`` and ``dump`` between its text and a
:class:`afenv.formats.model.ForeignLock`. Nothing here opens a connection: what a format does not tell of a
package is for the resolver to find out.
"""
