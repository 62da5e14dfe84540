"""DiStyleGAN's checkpoint, `generator.pt` of the 2022 project (the state dict of its generator), becomes ours."""

import re

import torch

from ..core.files import InputError
from ..core.tensors import load_tensors
from ..networks.distylegan import DiStyleGANGenerator

LARGEST = 256 << 20  # bytes; the published file has 8 MB
OURS = {r"^fc\.": "linear.", r"^img\.0\.": "to_rgb.", r"^upsample([1-9])\.": lambda m: f"blocks.{int(m[1]) - 1}."}


def read_distylegan(path):
    """The generator of any width in a checkpoint of 2022, read as tensors only: DiStyleGANGenerator in eval mode on the
    CPU in float32. Its `z_from` is "uniform", as the noise of the pairs that it was trained on. InputError: another
    file, a damaged one, or tensors that do not fit."""
    state = load_tensors(path, LARGEST)
    try:
        for theirs, ours in OURS.items():
            state = {re.sub(theirs, ours, name): tensor for name, tensor in state.items()}
        (rows, z_dim), (units, inputs) = state["project.0.weight"].shape, state["linear.0.weight"].shape
        blocks = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        config = dict(z_dim=z_dim, num_classes=inputs - rows // 2, resolution=4 << blocks)
        config |= dict(width=units // 32, project_dim=rows // 2)
        with torch.device("meta"):  # shapes only, no memory
            own = DiStyleGANGenerator(**config).state_dict()
        ours, theirs = ({name: tensor.shape for name, tensor in part.items()} for part in (own, state))
        if differ := [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]:
            raise ValueError(f"{differ[0]} is missing, unknown or of another shape")
        if bad := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
            raise ValueError(f"{bad[0]} holds NaN or infinite values")
        network = DiStyleGANGenerator(**config)
        network.load_state_dict(state)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        why = "".join(filter(str.isprintable, str(error)))[:160]
        raise InputError(f"{path} is not the checkpoint of a DiStyleGAN generator ({why})") from None
    network.z_from = "uniform"
    return network.eval().requires_grad_(False)
