"""`python -m jaxem` is the command `jaxem`."""

import sys

from jaxem.cli import main

sys.exit(main())
