"""Makes `synthetic`, the made-up study beside this folder, importable however pytest is started."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
