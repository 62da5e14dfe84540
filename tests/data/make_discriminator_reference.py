"""Records outputs of official StyleGAN2-ADA discriminators with small random weights, as numbers for the tests.

    python tests/data/make_discriminator_reference.py --peer PATH      PATH: a checkout of NVlabs/stylegan2-ada-pytorch

Writes stylegan2ada-discriminator.npz beside this file, a case a configuration: `<case>/config` (JSON),
`<case>/state/<parameter name>`, `<case>/x`, `<case>/c` (one-hot), `<case>/logits`.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import tyro

CASES = {  # case: classes, resolution, widest, group, channels of minibatch deviation
    "cond_32_group4": (10, 32, 10, 4, 1),
    "uncond_32_group8": (0, 32, 10, 8, 1),
    "cond_16_plain": (5, 16, 14, 4, 0),
    "uncond_16_plain": (0, 16, 12, 4, 0),
    "cond_16_group32": (3, 16, 12, 32, 1),
}


def main(peer: Path):
    """Runs the official code in float32 on the CPU; nothing of it is stored but numbers."""
    sys.path.insert(0, str(peer))
    from training.networks import Discriminator
    found = {}
    for seed, (case, (classes, resolution, widest, group, deviation)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        config = dict(c_dim=classes, img_resolution=resolution, img_channels=3, architecture="orig", channel_base=256,
                      channel_max=widest, num_fp16_res=0, conv_clamp=256, mapping_kwargs={},
                      epilogue_kwargs=dict(mbstd_group_size=group, mbstd_num_channels=deviation))
        network = Discriminator(**config).eval().requires_grad_(False)
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):                                          # they start at 0, which tests nothing
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        x = torch.rand(8, 3, resolution, resolution) * 2 - 1
        x *= torch.linspace(0.2, 1, 8)[:, None, None, None]                    # groups that differ
        c = torch.nn.functional.one_hot(torch.arange(8) % max(classes, 1), max(classes, 1)).float()[:, :classes]
        found[f"{case}/config"] = np.array(json.dumps(config))
        found.update({f"{case}/state/{name}": value.numpy() for name, value in network.state_dict().items()})
        logits = network(x, c).squeeze(1)
        found.update({f"{case}/x": x.numpy(), f"{case}/c": c.numpy(), f"{case}/logits": logits.numpy()})
    path = Path(__file__).with_name("stylegan2ada-discriminator.npz")
    np.savez_compressed(path, **found)
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main)
