# @title Set up: run this cell first { display-mode: "form" }
import importlib.util
import os
import subprocess
import sys

ARCHIVE = "set when the notebook is made"
GPU_HELPS = False

if importlib.util.find_spec("geobook") is None:
    # Only what is missing, and bare: moving torch or numpy would break a notebook service.
    needs = {"POT": "ot", "platformdirs": "platformdirs", "joblib": "joblib", "tqdm": "tqdm"}
    needs |= {"scikit-learn": "sklearn", "Pillow": "PIL", "ipywidgets": "ipywidgets"}
    wanted = [name for name, module in needs.items() if importlib.util.find_spec(module) is None]
    wanted.append("geobook @ " + os.environ.get("GEOBOOK_ARCHIVE", ARCHIVE))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, *wanted], check=True)
    importlib.invalidate_caches()

import torch

here = "and there is one here" if torch.cuda.is_available() else "but there is none here"
print(f"A GPU makes full mode quicker, {here}." if GPU_HELPS else "This chapter needs no GPU.")
