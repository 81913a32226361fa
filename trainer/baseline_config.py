"""Settings of what a brain LDM is held against: readers of age and sex, and GANs."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.loop_config import LoopConfig


@dataclass(frozen=True)
class ReaderConfig:
    """Stages brain_age and sex: a 3D CNN that reads a covariate (Cole 2017).

    Attributes
    ----------
    channels
        Of every block; each halves every axis.
    shift
        Voxels by which samples are moved at most, along every axis.
    """

    channels: tuple[int, ...] = (8, 16, 32, 64, 128)
    shift: int = 2
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class LsganConfig:
    """Stage lsgan: a GAN with least-squares losses (Mao 2017), without conditions.

    Attributes
    ----------
    noise
        Numbers that a picture is made of.
    channels
        Of the generator, coarsest first.
    critic
        Of the discriminator, finest first; each level halves every axis.
    """

    noise: int = 128
    channels: tuple[int, ...] = (256, 128, 64, 32)
    critic: tuple[int, ...] = (16, 32, 64, 128)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class VaeganConfig:
    """Stage vaegan: a VAE whose likeness is the discriminator's (Larsen 2016).

    Attributes
    ----------
    noise, channels, critic
        As of the stage lsgan; the encoder has the channels of the discriminator.
    kl, likeness, adversarial
        Weights of the posterior's distance from the prior, of the distance of pictures
        in the discriminator's features, and of deceiving it.
    """

    noise: int = 128
    channels: tuple[int, ...] = (256, 128, 64, 32)
    critic: tuple[int, ...] = (16, 32, 64, 128)
    kl: float = 1e-3
    likeness: float = 1.0
    adversarial: float = 0.1
    loop: LoopConfig = field(default_factory=LoopConfig)
