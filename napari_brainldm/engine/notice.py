"""The notice that stands on every card, sidecar, dock and help page."""

NOTICE = (
    "Research software. Not a medical device. Images may be synthetic. "
    "Do not use for diagnosis or treatment."
)
