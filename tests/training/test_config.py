"""Configs: named fields are refused by name, and the command line leads back to the config."""

import dataclasses
import shlex

import numpy as np
import pytest

from gsoc_kd import cli
from gsoc_kd.core.files import InputError
from gsoc_kd.data import LabelledImages
from gsoc_kd.training import DistillConfig, PretrainConfig
from gsoc_kd.training import config as configs

BOTH = pytest.mark.parametrize("kind", [DistillConfig, PretrainConfig])


@BOTH
def test_a_preset_with_some_fields_changed(kind):
    assert kind.preset("laptop") == kind() and kind.preset("smoke", batch=3).batch == 3
    assert kind.preset("smoke") == dataclasses.replace(kind.preset("smoke", batch=3), batch=16)
    with pytest.raises(InputError, match="no preset 'big'; choose one of smoke, laptop"):
        kind.preset("big")
    with pytest.raises(InputError, match=f"{kind.__name__}.*'bach'"):
        kind.preset("smoke", bach=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().lr = 1.0


@BOTH
@pytest.mark.parametrize("changes, message", [
    (dict(batch=0), "batch must be a positive whole number, got 0"), (dict(batch=-4), "batch must be a positive whole"),
    (dict(batch=2.5), "whole number, got 2.5"), (dict(batch="4"), "got '4'"), (dict(batch=True), "got True"),
    (dict(kimg=0), "kimg must be a positive number, got 0"), (dict(kimg=float("nan")), "got nan"),
    (dict(kimg=float("inf")), "got inf"), (dict(seed=-1), "seed must be a non-negative whole number, got -1"),
    (dict(betas=(0.5, 1.0)), "betas must lie from 0 to below 1"), (dict(betas=(-0.1, 0.5)), "below 1"),
    (dict(ema=1.5), "ema must lie"), (dict(disc="none"), "disc must be one of projection, "),
    (dict(lr_hold=0.0), "lr_hold and lr_end are"), (dict(lr_end=1.5), "lr_hold and lr_end are shares")])  # fmt: skip
def test_a_config_names_the_field_that_is_wrong(kind, changes, message):
    with pytest.raises(InputError) as caught:
        kind(**changes)
    assert message in str(caught.value) and kind.__name__ in str(caught.value)


def test_numbers_at_the_border_are_taken():
    with pytest.raises(InputError, match="block must be one of conv, residual, got 'typo'"):
        DistillConfig(block="typo", student="distylegan")
    DistillConfig(kimg=1e-9, seed=0, betas=(0.0, 0.0), rank=None, lr_hold=1.0, lr_end=0.0)
    assert DistillConfig(kimg=3).kimg == 3  # a whole number is a number
    assert DistillConfig(adversarial_every=1000).adversarial_every == 1000
    with pytest.raises(InputError, match="adversarial_every must be a whole number of 1 to 1000, not 1001"):
        DistillConfig(adversarial_every=1001)  # chance is drawn for so many steps at once


def test_steps_are_at_least_one():
    assert configs.steps(DistillConfig(kimg=160, tick_kimg=8)) == (2500, 125)
    assert configs.steps(DistillConfig(kimg=1e-6, tick_kimg=1e-6)) == (1, 1)


@pytest.mark.parametrize("verb, config", [
    ("distill", DistillConfig()),
    ("distill", DistillConfig(kimg=400, widths=(32, 16, 8, 8), rank=None, bfloat16=False, lr_hold=0.5)),
    ("distill", DistillConfig.preset("distylegan-2022")), ("pretrain", PretrainConfig(bfloat16=True, r1=0.3)),
    ("pretrain", PretrainConfig.preset("stylegan2-ada"))])  # fmt: skip
def test_a_command_leads_back_to_its_config(verb, config):
    words = shlex.split(configs.command(verb, config, "my runs/a", minutes=2.5))
    assert words[:6] == ["gsoc-kd", verb, "--out", "my runs/a", "--minutes", "2.5"]
    assert cli.parse(words[1:]).config == config


def test_only_what_differs_from_the_laptop_preset_is_said():
    assert configs.flags(DistillConfig()) == []
    changed = DistillConfig(kimg=400, widths=(32, 16, 8, 8), rank=None)
    assert configs.flags(changed) == "--kimg 400 --widths 32 16 8 8 --rank None".split()


def test_real_images_are_named_as_they_can_be_loaded():
    images = LabelledImages(np.zeros((2, 16, 16, 3), np.uint8), np.arange(2), ("cat", "dog"), "my pets")
    told = configs.command("pretrain", PretrainConfig(), "o", **configs.real_flags(images))
    assert told == "gsoc-kd pretrain --real 'my pets' --size 16 --out o"
    cifar10 = dataclasses.replace(images, images=np.zeros((2, 32, 32, 3), np.uint8), source="cifar10-train.zip")
    assert configs.real_flags(cifar10) == {"real": "cifar10", "size": None}
