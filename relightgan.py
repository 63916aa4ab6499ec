"""Maps `relightgan.*` onto this checkout; a wheel carries the real packages instead."""

import os

__path__ = [os.path.dirname(os.path.abspath(__file__))]
