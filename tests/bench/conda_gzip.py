"""Standard input to standard output, compressed as afenv compresses layers."""

from __future__ import annotations

import sys

from afenv.layers.gzip_members import MEMBER, member

while piece := sys.stdin.buffer.read(MEMBER):
    sys.stdout.buffer.write(member(piece))
