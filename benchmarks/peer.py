"""Other people's code, from checkouts of their own: what benchmarks/speed.py times beside ours."""

import importlib
import sys
import time
import types
from unittest import mock

import torch
import torch.nn.functional as F

import gsoc_kd as kd
from gsoc_kd.training.blocks import Descent, Nets
from gsoc_kd.training.distill import distill_step_with_real, make_networks


def load_code(folder, name):
    """A module of somebody else's code."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise kd.InputError(f"{folder}: {error}; give the checkout that benchmarks/speed.py names") from None


class Original:
    """The trainer of 2022 with its own networks, losses and optimisers, on one batch in memory."""

    terms = {  # our losses, its
        "disc": ("D/Teacher", "D/Student"), "disc_gan": ("D/Real", "D/Random"), "pixel": ("G/Pixel",),
        "feature": ("G/Feature",), "adversarial": ("G/Adversarial Distillation",), "gan": ("G/Adversarial GAN",),
    }  # fmt: skip

    def __init__(self, checkout):
        sys.modules.setdefault("torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=None))  # no step needs it
        code = load_code(checkout / "generation", "distylegan")
        self.config = c = kd.DistillConfig.preset("distylegan-2022")
        self.trainer = t = code.DiStyleGAN(device="cpu")
        t.batch_size, (t.netG, t.netD) = c.batch, t.load_networks()
        t.optimizerG, t.optimizerD = t._DiStyleGAN__define_optimizers(c.lr, c.disc_lr, c.betas[0])
        t.criterionG = code.GLoss(t.config["lambda_pixel"], t.config["lambda_ganG"])
        t.criterionD = code.DLoss(t.config["lambda_ganD"])
        x, x_real = torch.rand(2, c.batch, 3, 32, 32) * 2 - 1
        y = F.one_hot(torch.arange(c.batch) % 10, 10).float()
        self.batch = x, y, torch.randn(c.batch, 512), x_real, y

    def step(self, adversarial):
        """What its loop does with a batch: the losses, by its names."""
        x, y, z, x_real, y_real = self.batch
        log, features = self.trainer.update_D(z, x, y, x_real, y_real)
        return log | self.trainer.update_G(z, x, features, y, y_real, adversarial)

    def rate(self, steps):
        start = time.perf_counter()
        for step in range(steps):
            self.step(adversarial=(step + 1) % self.config.adversarial_every == 0)
        return steps * self.config.batch / (time.perf_counter() - start)

    def compare_losses(self):
        """A step of both from the same weights, on the same batch and noise, with all terms. Power iteration stands
        still: ours iterates once a step, the original at every forward pass."""
        c, trainer, alone = self.config, self.trainer, types.SimpleNamespace(num_processes=1)
        nets, z_fresh = Nets.of(*make_networks(c, 512, 10, 32), c), torch.randn(c.batch, 512)
        student, disc = nets.parts["generator"], nets.parts["disc"]
        ours = [*student.parameters(), *disc.parameters(), *disc.buffers()]
        theirs = [*trainer.netG.parameters(), *trainer.netD.parameters(), *trainer.netD.buffers()]
        for a, b in zip(ours, theirs, strict=True):
            b.data.copy_(a.data)
        for module in (*disc.modules(), *(h for m in trainer.netD.modules() for h in m._forward_pre_hooks.values())):
            module.n_power_iterations = 0
        optimizers = (disc, "disc_optimizer"), (student, "optimizer")
        descents = [Descent(network, nets.parts[name], alone, c.lr) for network, name in optimizers]
        ours = distill_step_with_real(nets, c, *self.batch, z_fresh, (), torch.tensor(c.adversarial_weight), *descents)
        with mock.patch.object(torch, "randn", lambda *_: z_fresh):
            log = self.step(adversarial=True)
        theirs = {name: sum(log[f"{part} Loss"] for part in parts) for name, parts in self.terms.items()}
        worst = max(abs(ours[name].item() - value) for name, value in theirs.items())
        if not worst < 1e-4:
            raise SystemExit(f"the losses differ from the original's: {ours}, {theirs}")
        return f"The same {len(theirs)} losses from the same weights and batch, to {worst:.1e}."
