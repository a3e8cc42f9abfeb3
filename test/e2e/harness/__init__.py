"""What the end-to-end tests stand on: the proxy as a process, upstream servers inside of the test,
a client that sees every byte, and the control plane of tools/controlplane."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
