"""The protocols of a reader study, as data.

What a protocol asks, shows and varies stands in one frozen value; whoever makes trials,
shows them or analyses them looks at these fields and never at the protocol's name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_brainldm.engine.request import EngineError

TASKS = ("rate", "detect", "pick", "compare", "estimate", "rank")
"""What the reader does, and with it how trials are made and answers analysed.

rate: a picture on worded scales; detect: real or synthetic; pick: the real one of
several; compare: which of two has more of a quantity; estimate: a number for a
magnitude; rank: which of two looks more real.
"""


@dataclass(frozen=True)
class Question:
    """One thing asked of the reader.

    Attributes
    ----------
    kind
        "choice" (a number from 1, one of `options`), "ticks" (any of `options`),
        "number" (above 0), "point" (a voxel) or "words".
    needed
        Whether a trial can be confirmed without an answer to it.
    """

    name: str
    text: str
    kind: str = "choice"
    options: tuple[str, ...] = ()
    needed: bool = True


@dataclass(frozen=True)
class Protocol:
    """One task with its pictures, questions and numbers.

    Attributes
    ----------
    id, title, instruction
        As the reader sees them.
    task
        One of `TASKS`.
    panels
        Pictures in a trial.
    layout
        "single", "side by side", "flicker" (one place, in turn) or "grid".
    slices
        "free", "linked" (all panels show one slice) or "locked" (and it is given).
    quantity
        Of "compare" and "estimate": the fact of a picture that is judged.
    log
        Whether levels are ln(second / first), or second - first.
    method
        How levels are chosen: "constant" or "quest+".
    levels
        Of the method "constant", or exposures in ms where `timed`.
    standards
        Names of the sizes that the first picture of a pair is drawn from.
    trials, catches, repeats, practice
        How many of each a reader gets; `practice` ones come first, with feedback.
    block
        Trials in a block, about.
    cap_s
        Seconds after which a trial counts as missing; None for no cap.
    timed
        Whether pictures are shown for so many ms and then masked.
    naive
        Whether it comes before all others, while readers know of no synthetic picture.
    controls
        Whether drawn lengths and areas are judged too.
    """

    id: str
    title: str
    instruction: str
    task: str
    questions: tuple[Question, ...]
    panels: int = 1
    layout: str = "single"
    slices: str = "free"
    quantity: str = ""
    log: bool = True
    method: str = "constant"
    levels: tuple[float, ...] = ()
    standards: tuple[str, ...] = ()
    trials: int = 40
    catches: int = 0
    repeats: int = 0
    practice: int = 0
    block: int = 20
    cap_s: float | None = None
    timed: bool = False
    naive: bool = False
    controls: bool = False

    def question(self, name: str) -> Question:
        """The question of that name."""
        return next(q for q in self.questions if q.name == name)


def _levels(name: str, text: str, *options: str) -> Question:
    return Question(name, text, "choice", options)


CONFIDENCE = _levels(
    "real",
    "Is this a scan of a person, or was it made by a computer?",
    "definitely real",
    "probably real",
    "perhaps real",
    "perhaps synthetic",
    "probably synthetic",
    "definitely synthetic",
)
SYNTHETIC_FROM = 4
"""Answers of `CONFIDENCE` from here on say "synthetic"."""

MOST_PANELS = 9
"""Pictures in a trial: there is a key for each."""

NOTICED = Question(
    "noticed", "Did anything about this picture strike you?", "words", needed=False
)

REALISM = _levels(
    "realism",
    "Does the picture look like one from a scanner?",
    "not at all: most of it could not come from a scanner",
    "hardly: large parts could not",
    "mostly: small parts could not",
    "fully",
)
CONSISTENCY = _levels(
    "consistency",
    "Do neighbouring slices go together?",
    "they do not",
    "breaks in many places",
    "breaks in few places",
    "they do throughout",
)
ANATOMY = _levels(
    "anatomy",
    "Is the anatomy right?",
    "no: main structures are missing or misplaced",
    "in part: several structures are wrong",
    "mostly: details are wrong",
    "yes",
)
QUALITY = tuple(
    _levels(name, text, "poor", "fair", "good", "excellent")
    for name, text in (
        ("contrast", "Contrast of grey and white matter"),
        ("cortex", "Cortex: folds and ribbon"),
        ("ventricles", "Ventricles: shape and edge"),
        ("symmetry", "Symmetry"),
    )
)
FAULTS = Question(
    "faults",
    "Which of these do you see?",
    "ticks",
    ("blur", "noise", "ringing", "checkerboard", "doubled edges", "cut off", "other"),
    needed=False,
)
POINT = Question("fault", "Click on the worst fault.", "point", needed=False)
_LEFT_RIGHT = ("the left one", "the right one")
_FIRST_SECOND = ("the first one", "the second one")
_MORE_REAL = "Which of the two looks more like a picture from a scanner?"

_RANK = Protocol(
    "P5",
    "Two side by side",
    "Choose the picture that looks more like one from a scanner. Slices move together.",
    "rank",
    (_levels("better", _MORE_REAL, *_LEFT_RIGHT),),
    panels=2,
    layout="side by side",
    slices="linked",
    trials=60,
    practice=4,
)
_BIGGER = Protocol(
    "P3",
    "Bigger ventricles",
    "Choose the brain whose ventricles are bigger. Slices move together.",
    "compare",
    (_levels("greater", "Whose ventricles are bigger?", *_LEFT_RIGHT),),
    panels=2,
    layout="side by side",
    slices="linked",
    quantity="ventricles",
    method="quest+",
    levels=(-0.36, -0.24, -0.12, -0.06, 0.06, 0.12, 0.24, 0.36),
    standards=("small", "medium", "large"),
    trials=240,
    practice=6,
)

PROTOCOLS = (
    Protocol(
        "P0",
        "First impressions",
        "Look through each picture as you would through any scan, and rate it.",
        "rate",
        (REALISM, CONSISTENCY, ANATOMY, NOTICED),
        trials=20,
        block=10,
        naive=True,
    ),
    Protocol(
        "P1",
        "Real or synthetic",
        "Some pictures are scans of people, others were made by a computer. Say which, "
        "and how sure you are.",
        "detect",
        (CONFIDENCE,),
        trials=150,
        catches=10,
        repeats=20,
        practice=8,
        cap_s=60.0,
    ),
    Protocol(
        "P1t",
        "Real or synthetic at a glance",
        "Slices of a brain appear for a moment. Say whether they are of a person.",
        "detect",
        (CONFIDENCE,),
        layout="grid",
        slices="locked",
        levels=(100.0, 200.0, 400.0, 700.0, 1000.0),
        trials=60,
        practice=8,
        timed=True,
    ),
    Protocol(
        "P2",
        "Find the real one",
        "One of these pictures is a scan of a person. Find it.",
        "pick",
        (_levels("which", "Which one is real?", "1", "2", "3", "4"),),
        panels=4,
        layout="grid",
        slices="linked",
        trials=50,
        practice=4,
        block=10,
    ),
    _BIGGER,
    replace(
        _BIGGER,
        id="P3a",
        title="Older",
        instruction="Choose the brain that looks older. Slices move together.",
        questions=(_levels("greater", "Whose brain is older?", *_LEFT_RIGHT),),
        quantity="age",
        log=False,
        levels=(-18.0, -12.0, -6.0, -3.0, 3.0, 6.0, 12.0, 18.0),
    ),
    Protocol(
        "P4",
        "How large",
        "The left picture is the measure: it counts 100. Give the right one a number: "
        "twice as large is 200, half as large is 50.",
        "estimate",
        (Question("size", "How large, if the left one is 100?", "number"),),
        panels=2,
        layout="side by side",
        slices="linked",
        quantity="ventricles",
        trials=32,
        practice=4,
        block=16,
        controls=True,
    ),
    _RANK,
    replace(
        _RANK,
        id="P5f",
        title="Two in turn",
        instruction="The two pictures take turns in one place. Choose the one that "
        "looks more like one from a scanner.",
        questions=(_levels("better", _MORE_REAL, *_FIRST_SECOND),),
        layout="flicker",
    ),
    Protocol(
        "P6",
        "Rubric",
        "Rate the picture, tick the faults you see and click on the worst.",
        "rate",
        (REALISM, CONSISTENCY, ANATOMY, *QUALITY, FAULTS, POINT),
    ),
)


def with_panels(found: Protocol) -> Protocol:
    """`found` with an answer for each of its panels.

    Raises
    ------
    EngineError
        If it is not of one real picture among several, or has too few or too many.
    """
    if found.task != "pick" or not 2 <= found.panels <= MOST_PANELS:
        raise EngineError(
            f"{found.id} was asked for with {found.panels} panels. P2 alone can have "
            f"another number of them, 2 to {MOST_PANELS}."
        )
    places = tuple(str(place) for place in range(1, found.panels + 1))
    questions = tuple(replace(q, options=places) for q in found.questions)
    return replace(found, questions=questions)


def protocol(name: str) -> Protocol:
    """The protocol with that id.

    Raises
    ------
    EngineError
        If there is none.
    """
    for found in PROTOCOLS:
        if found.id == name:
            return found
    raise EngineError(
        f"The protocol {name!r} was asked for; known are "
        f"{', '.join(p.id for p in PROTOCOLS)}. Choose one of these."
    )
