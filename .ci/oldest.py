"""Print constraints for pip: every dependency at the lowest version that pyproject.toml allows.

PyTorch is left out: its oldest versions are not in every index; what pip finds is tested.
"""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["cluster"], *extras["ratings"]]:
    name, lowest = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", requirement).groups()
    if name not in ("torch", "torchvision"):
        print(f"{name}=={lowest}")
