"""The one place that finds resources/: source checkout, wheel, editable install."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from napari_brainldm.engine.request import EngineError

INSTALLED = "napari_brainldm_resources"
"""The package of the wheel that holds what stands in resources/ of the source."""

MARK = "RESOURCES.md"
"""The file that tells our folder from any other folder called resources."""

SEGMENTER = "segmenter.safetensors"
BRAIN_LDM, LDAE = "brain_ldm_demo.safetensors", "ldae_demo.safetensors"
GM_LDM = "gm_ldm_demo.safetensors"
SAMPLE_STUDY = "sample_study.zip"
FNC, COMPONENTS = "gm_ldm_fnc.csv", "gm_ldm_components.tsv"
"""Connectivity (Fisher z) of simulated people, and what its rows stand for."""


def resource(name: str) -> Path:
    """Path of the file `name` of resources/.

    Raises
    ------
    EngineError
        The file, or the whole folder, is missing.
    """
    found = _found(name)
    if found is None:
        raise EngineError(_missing(name, _folders()))
    return found


def bundled_checkpoint() -> Path:
    """The demo checkpoint that comes with the package."""
    return resource(BRAIN_LDM)


def bundled_ldae() -> Path:
    """The demo LDAE that comes with the package: a semantic code and directions."""
    return resource(LDAE)


def bundled_for_scans() -> Path:
    """The demo checkpoint for a scan: the LDAE, in a tree in which it is made."""
    return models_at_hand()[-1] if models_at_hand() else bundled_checkpoint()


def bundled_gm_ldm() -> Path:
    """The demo GM-LDM that comes with the package, in a tree in which it is made."""
    found = _found(GM_LDM)
    if found is None:
        raise EngineError(
            "No GM-LDM checkpoint comes with this version, and this dock needs one. "
            "Press Open… and choose one; python -m trainer train gmldm makes it."
        )
    return found


def bundled_fnc() -> Path | None:
    """The table of simulated people's connectivity; None in a tree without it."""
    return _found(FNC)


def bundled_components() -> Path | None:
    """Names and domains of its components; None where NeuroMark's serve."""
    return _found(COMPONENTS)


def models_at_hand() -> list[Path]:
    """The bundled checkpoints that make pictures, those of them that are made yet."""
    return [path for name in (BRAIN_LDM, LDAE) if (path := _found(name)) is not None]


def bundled_segmenter() -> Path:
    """The segmenter that comes with the package."""
    return resource(SEGMENTER)


def segmenter_at_hand() -> Path | None:
    """The bundled segmenter; None in a tree in which it is not made yet."""
    return _found(SEGMENTER)


def bundled_sample_study() -> Path:
    """The archive of the sample reader study, in a tree in which it is made."""
    found = _found(SAMPLE_STUDY)
    if found is None:
        raise EngineError(
            "No sample study comes with this version. Build a study of your own; "
            "python -m tools.sample_study makes the sample from a source checkout."
        )
    return found


def _found(name: str) -> Path | None:
    paths = (folder / name for folder in _folders())
    return next((path for path in paths if path.is_file()), None)


def _folders() -> list[Path]:
    """The folder of the source checkout alone, else those of the installation."""
    checkout = Path(__file__).resolve().parents[2] / "resources"
    return [checkout] if (checkout / MARK).is_file() else _installed_folders()


def _installed_folders() -> list[Path]:
    # A namespace package: an older editable install may add a second location.
    spec = find_spec(INSTALLED)
    locations = spec.submodule_search_locations if spec else None
    return [Path(location) for location in locations or ()]


def _missing(name: str, folders: list[Path]) -> str:
    if not folders:
        return (
            f"The resources of napari-brainldm were not found, so {name} cannot be "
            "used. Install the package with pip, or run from a complete checkout."
        )
    return (
        f"{name} is not among the resources of napari-brainldm in {folders[0]}. "
        "Install the package again, or give the path of a file of your own."
    )
