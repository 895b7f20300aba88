"""Data of analyses: looked up, pinned, checked and fetched, from wherever it is.

:func:`afenv.data.fetch.fetch_data` brings what the lock knows of a reference, by way of a
:class:`afenv.data.access.DataAccess`; :func:`afenv.data.resolve.resolve` finds the files that a reference
leads to, :mod:`afenv.data.pin` reads them once, :mod:`afenv.data.check` asks whether they are still there.
"""
