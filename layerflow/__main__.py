"""`python -m layerflow`: the command line."""

import sys

from layerflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
