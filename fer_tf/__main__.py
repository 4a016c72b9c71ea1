"""`python -m fer_tf` is `fer-tf`."""

import sys

from fer_tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
