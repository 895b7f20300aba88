"""The names that are afenv's own at the top of a code folder, and so no part of the code.

The lock cannot be part of what it locks, and an edited manifest is to be locked first and committed then,
together with its lock.
"""

EXEMPT = (b"afenv.lock", b"afenv.yaml", b".afenv")
