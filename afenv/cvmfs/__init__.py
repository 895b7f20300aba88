"""Reading CVMFS repositories without a client: signatures, catalogues, files, all verified.

The formats are those of CernVM-FS 2.x (cvmfs.readthedocs.io, "CernVM-FS details"; its sources
``manifest.cc``, ``signature.cc``, ``catalog_sql.h``). A root hash pins all that a repository holds at one
revision: it is the digest of the root catalogue, which holds the digests of files and of nested catalogues.
"""
