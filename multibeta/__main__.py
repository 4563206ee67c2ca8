"""``python -m multibeta``."""

import sys

from multibeta.cli import main

sys.exit(main())
