"""``python -m afenv`` is the command line."""

import sys

from afenv.cli import main

sys.exit(main())
