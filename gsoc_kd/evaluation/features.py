"""Networks whose features images are compared in, and how images go through them (docs/Evaluation.md)."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..core.files import InputError, sha256
from ..data.images import to_float


@torch.no_grad()
def features(images, network, batch=100, progress=None):
    """Runs a classifier over pictures, once.

    Args:
        images: (N, H, W, 3) uint8 array, or an iterable of such arrays, for what does not fit into memory.
        network: a network with `features_and_logits(x)`, or with `features(x)` besides its forward; used in
            evaluation mode, without TF32, on the device it is on.
        batch: pictures a step; about 100 is quickest on a CPU for a network like the judge.
        progress: text of a progress bar; none by default.

    Returns:
        (features (N, D) float32, logits (N, C) float32).
    """
    both = getattr(network, "features_and_logits", None) or (lambda x: (network.features(x), network(x)))
    device = next(network.parameters()).device
    chunks = [images] if isinstance(images, np.ndarray) else images
    total = len(images) if isinstance(images, np.ndarray) else None
    found, training = [], network.training
    network.eval()
    try:
        with (
            tqdm(total=total, desc=progress, unit="img", disable=progress is None, leave=False) as bar,
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            for chunk in chunks:
                if chunk.dtype != np.uint8 or chunk.ndim != 4 or chunk.shape[3] != 3:
                    raise InputError(f"images must be (N, H, W, 3) uint8, got {chunk.shape} {chunk.dtype}")
                for start in range(0, len(chunk), batch):
                    part = both(to_float(chunk[start : start + batch], device))  # (n, D), (n, C)
                    found.append([p.float().cpu().numpy() for p in part])
                    bar.update(len(found[-1][0]))
    finally:
        network.train(training)
    if not found:
        raise InputError("there are no images to take features of")
    return tuple(np.concatenate(parts) for parts in zip(*found))


class InceptionFeatures(nn.Module):
    """The network of published FID and IS: pytorch-fid's port of the 2015 Inception, 2,048 pooled features.

    forward and features_and_logits take (N, 3, H, W) in [-1, 1], enlarged bilinearly to 299 x 299. The logits
    (N, 1008) leave out the bias, as the original Inception score does.

    Args:
        weights: path of pt_inception-2015-12-05-6726825d.pth; None or "download": from torch.hub's cache, or
            downloaded into it (91 MB).

    Raises:
        InputError: no weights there, or not this network's.
    """

    name = "InceptionV3 of 2015-12-05 (pytorch-fid)"
    feature_width = 2048

    def __init__(self, weights=None):
        super().__init__()
        try:
            from pytorch_fid import inception
        except ImportError:
            raise InputError("Inception scores need pytorch-fid: pip install pytorch-fid") from None
        path = _inception_file(weights, inception.FID_WEIGHTS_URL)
        self.digest = sha256(path)
        load = inception.load_state_dict_from_url
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            inception.load_state_dict_from_url = lambda *args, **kwargs: state  # else it would download
            self.body = inception.InceptionV3(resize_input=True, normalize_input=False)
            self.register_buffer("head", state["fc.weight"].float().clone())  # (1008, 2048)
        except Exception as error:  # unpickling and load_state_dict raise many kinds
            raise InputError(
                f"{path} does not hold pytorch-fid's Inception weights "
                f"({str(error).splitlines()[0] if str(error) else error!r}); {_WHERE}"
            ) from None
        finally:
            inception.load_state_dict_from_url = load
        self.eval()

    def features_and_logits(self, x):
        pooled = self.body(x)[0].flatten(1)  # (N, 2048)
        return pooled, pooled @ self.head.T  # (N, 1008)

    def features(self, x):
        return self.features_and_logits(x)[0]

    def forward(self, x):
        return self.features_and_logits(x)[1]


_WHERE = (
    "download pt_inception-2015-12-05-6726825d.pth from the fid_weights release of "
    "github.com/mseitzer/pytorch-fid and give its path as inception=..., or connect to the internet "
    "and give inception='download'"
)


def _inception_file(weights, url):
    if weights not in (None, "download"):
        if not Path(weights).is_file():
            raise InputError(f"Inception weights {weights} do not exist; {_WHERE}")
        return Path(weights)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix="6726825d")
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"Inception weights are not in {path.parent} and could not be downloaded ({error}); {_WHERE}"
            ) from None
    return path
