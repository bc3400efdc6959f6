"""Run in a fresh process: load stored models into fresh ones of the original config, and write what they say.

Arguments: the folders of the tests, joined by the path separator, then the folder of the stored models.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = sys.argv[1].split(os.pathsep)

    from deploy_models import example, fresh, logits
    from safetensors.torch import save_file

    import conftest  # noqa: F401  torchvision's schemas, without which transformers cannot be imported
    import secateur

    folder = Path(sys.argv[2])
    said = {}
    for path in sorted(folder.glob("*.safetensors")):
        model = secateur.load(path, into=fresh(path.stem, seed=99))  # other weights: all must come from the file
        said[path.stem] = logits(model, example(path.stem))
    save_file(said, folder / "said")
