"""Atlases that nilearn downloads when asked to, each under a licence of its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from textwrap import shorten

from napari_brainldm.engine.atlas import Atlas, atlas_of
from napari_brainldm.engine.request import EngineError

NO_LICENCE = "No licence is stated; ask its authors before publishing."


@dataclass(frozen=True)
class Source:
    """Where an atlas comes from.

    Attributes
    ----------
    title
        Its name.
    origin
        What it holds and whose brains it was made of, in a sentence.
    licence
        In a sentence, as nilearn tells it.
    host
        Whom nilearn asks for it.
    fetcher, options
        The function of `nilearn.datasets` and its arguments.
    """

    title: str
    origin: str
    licence: str
    host: str
    fetcher: str
    options: tuple[tuple[str, str | int], ...] = ()


SOURCES: Mapping[str, Source] = {
    "harvard-oxford": Source(
        "Harvard-Oxford",
        "48 cortical regions, left and right as one, of 37 adults: the likeliest "
        "region of each voxel, from 25 % on, as it comes with FSL.",
        "FSL licence, for non-commercial use only: "
        "https://fsl.fmrib.ox.ac.uk/fsl/docs/#/license?id=fsl-license",
        "www.nitrc.org",
        "fetch_atlas_harvard_oxford",
        (("atlas_name", "cort-maxprob-thr25-2mm"),),
    ),
    "aal": Source(
        "AAL (SPM12)",
        "116 regions of cortex, deep nuclei and cerebellum, drawn on one person's "
        "brain (Colin 27) by the Neurofunctional Imaging Group, Bordeaux.",
        NO_LICENCE,
        "www.gin.cnrs.fr",
        "fetch_atlas_aal",
        (("version", "SPM12"),),
    ),
    "schaefer-100": Source(
        "Schaefer 2018, 100 parcels",
        "100 cortical parcels in 7 functional networks, by Schaefer et al. 2018 "
        "(https://doi.org/10.1093/cercor/bhx179).",
        "MIT licence.",
        "raw.githubusercontent.com",
        "fetch_atlas_schaefer_2018",
        (("n_rois", 100), ("yeo_networks", 7), ("resolution_mm", 1)),
    ),
    "destrieux-2009": Source(
        "Destrieux 2009",
        "Gyri and sulci of either side, of FreeSurfer's average brain (fsaverage), "
        "which is not quite the MNI152 brain: edges may lie some mm off.",
        NO_LICENCE,
        "www.nitrc.org",
        "fetch_atlas_destrieux_2009",
        (("lateralized", True),),
    ),
}
"""Label maps alone: maps of probabilities are none."""


def fetch(source: Source) -> Atlas:
    """The atlas of `source`, from nilearn's data folder or else from the network.

    Raises
    ------
    EngineError
        If it cannot be downloaded or read.
    """
    try:
        return _fetched(source)
    except EngineError:
        raise
    except Exception as error:  # nilearn raises all kinds, Exception itself among them
        what = shorten(f"{type(error).__name__}: {error}", 120, placeholder="…")
        raise EngineError(
            f"The atlas {source.title} could not be fetched from {source.host} "
            f"({what}). Check the network and choose it again, or open a label file."
        ) from error


def _fetched(source: Source) -> Atlas:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nilearn's imports, of names without voxels
        from nilearn import datasets
        from nilearn.image import load_img

        fetcher = getattr(datasets, source.fetcher)
        found = fetcher(**dict(source.options), verbose=0)
        picture = load_img(found.maps)  # a path, or a picture already
    # not `labels`: their places are no indices in every atlas
    rows = zip(found.lut["index"], found.lut["name"], strict=True)
    names = {int(index): str(name) for index, name in rows}
    made = atlas_of(source.title, picture, names, source.licence)
    return replace(made, version=f"nilearn {metadata.version('nilearn')}")
