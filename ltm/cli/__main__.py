"""``python -m ltm.cli`` is ``ltm``."""

import sys

from ltm.cli import main

sys.exit(main())
