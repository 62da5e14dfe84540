"""How images go through a feature network, and the network behind published FID (docs/Evaluation.md)."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..core.files import InputError, sha256
from ..data.images import to_float


@torch.no_grad()
def features(images, network, batch=100, progress=None):
    """Runs a classifier over images, uint8 (N, H, W, 3), once: (features (N, D), logits (N, C)), both float32.

    `network` has `features_and_logits(x)`, or `features(x)` besides its forward; it is used in evaluation mode, without
    TF32, on the device it is on. `batch`: about 100 is quickest on a CPU for a network like the evaluation classifier.
    `progress`: text of a progress bar.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise InputError(f"images must be (N, H, W, 3) uint8 and at least one, got {images.shape} {images.dtype}")
    both = getattr(network, "features_and_logits", None) or (lambda x: (network.features(x), network(x)))
    device, training, found = next(network.parameters()).device, network.training, []
    network.eval()
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for start in tqdm(range(0, len(images), batch), progress, leave=False, disable=progress is None):
                part = both(to_float(images[start : start + batch], device))  # (n, D), (n, C)
                found.append([p.float().cpu().numpy() for p in part])
    finally:
        network.train(training)
    return tuple(np.concatenate(parts) for parts in zip(*found))


class InceptionFeatures(nn.Module):
    """The network of published FID and IS: pytorch-fid's port of the 2015 Inception, 2,048 pooled features.

    features_and_logits takes (N, 3, H, W) in [-1, 1], enlarged bilinearly to 299 x 299. The logits (N, 1008) leave
    out the bias, as the original Inception score does. `weights` is the path of pt_inception-2015-12-05-6726825d.pth;
    None or "download" takes it from torch.hub's cache, or downloads it there (91 MB). InputError: no such weights.
    """

    name = "InceptionV3 of 2015-12-05 (pytorch-fid)"
    feature_width = 2048

    def __init__(self, weights=None):
        from pytorch_fid import inception

        super().__init__()
        url, named = inception.FID_WEIGHTS_URL, weights not in (None, "download")
        path = Path(weights if named else f"{torch.hub.get_dir()}/checkpoints/{url.rsplit('/', 1)[1]}")
        try:
            if not named and not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(path), hash_prefix="6726825d")
            self.digest = sha256(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            with patch.object(inception, "load_state_dict_from_url", lambda *args, **kwargs: state):  # no download
                self.body = inception.InceptionV3(resize_input=True, normalize_input=False)
            self.register_buffer("head", state["fc.weight"].float().clone())  # (1008, 2048)
        except Exception as error:  # downloading, unpickling and load_state_dict raise many kinds
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            todo = f"download {url} and give its path as inception=..., or go online and give inception='download'"
            raise InputError(f"{path} is no file of pytorch-fid's Inception weights ({reason}): {todo}") from error
        self.eval()

    def features_and_logits(self, x):
        pooled = self.body(x)[0].flatten(1)  # (N, 2048)
        return pooled, pooled @ self.head.T  # (N, 1008)
