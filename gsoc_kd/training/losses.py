"""The objective, each term a pure function with its formula beside it (docs/Objectives.md).

x_T: the teacher's images, x_S: the student's on the same z and y; f_i: the discriminator's maps; D: its logits.
"""

import torch
import torch.nn.functional as F

MAP_WEIGHTS = (1 / 16, 1 / 8, 1 / 4, 1)
R1_EVERY = 8  # lazy regularisation: the penalty is computed every so many steps (Karras et al. 2019, arXiv 1912.04958)
RELATIVE_WEIGHTS = (0.06, 0.07, 0.1, 0.3)  # of the maps, near to far from pixels; docs/Studies.md (`feature-10`)


def feature_loss(maps_teacher, maps_student, weights=MAP_WEIGHTS):
    """sum_i w_i mean|f_i(x_T) - f_i(x_S)| (TinyGAN, Chang & Lu 2020, section 3.2; weights of the 2022 project).

    maps_*: lists of (N, C_i, H_i, W_i), one for each weight. Returns a scalar."""
    return sum(w * F.l1_loss(s, t) for w, s, t in zip(weights, maps_student, maps_teacher, strict=True))


def relative_feature_loss(maps_teacher, maps_student, weights=RELATIVE_WEIGHTS):
    """sum_i w_i mean|f_i(x_T) - f_i(x_S)| / mean|f_i(x_T)|: the same for a discriminator without spectral norm, whose
    maps have no size of their own. No gradient reaches the teacher's maps."""
    pairs = zip(weights, maps_student, maps_teacher, strict=True)
    return sum(w * F.l1_loss(s, t) / t.abs().mean() for w, s, t in pairs)


def pixel_loss(x_teacher, x_student):
    """mean|x_T - x_S|, images in [-1, 1]. Returns a scalar (TinyGAN, section 3.2)."""
    return F.l1_loss(x_student, x_teacher)


def hinge_generator(logits_generated):
    """-mean D(generated): what the generator minimises (Lim & Ye 2017, arXiv 1705.02894). logits: (N,)."""
    return -logits_generated.mean()


def hinge_discriminator(logits_target, logits_generated):
    """mean max(0, 1 - D(target)) + mean max(0, 1 + D(generated)): what the discriminator minimises; the target is the
    teacher's image in distillation and a real one in a GAN. logits: (N,) each. Returns a scalar."""
    return F.relu(1 - logits_target).mean() + F.relu(1 + logits_generated).mean()


def logistic_generator(logits_generated):
    """mean softplus(-D(generated)): the non-saturating loss (Goodfellow et al. 2014, section 3). logits: (N,)."""
    return F.softplus(-logits_generated).mean()


def logistic_discriminator(logits_real, logits_generated):
    """mean softplus(-D(real)) + mean softplus(D(generated)) (Goodfellow et al. 2014). logits: (N,) each."""
    return F.softplus(-logits_real).mean() + F.softplus(logits_generated).mean()


def r1_penalty(disc, x, y):
    """mean |grad_x D(x, y)|^2 on real images (Mescheder et al. 2018, arXiv 1801.04406), weighted by gamma / 2 outside.

    x: (N, 3, H, W), y: (N, C). Returns a scalar through which gradients reach the discriminator's weights."""
    x = x.detach().requires_grad_(True)
    logits, _ = disc(x, y)
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def lazy_r1(r1, i):
    """The weight of R1 in step i, for a gamma of `r1`: every `R1_EVERY` steps gamma / 2, as many times, else 0."""
    return r1 / 2 * R1_EVERY if i % R1_EVERY == 0 else 0


def add_r1(losses, weight, disc, x, y):
    """What R1 of this weight adds to the discriminator's loss, noted in `losses`; 0 is not computed."""
    if not weight:
        return 0
    losses["r1"] = r1_penalty(disc, x, y)
    return weight * losses["r1"]
