"""What can be wrong with any object: its schema, its annotations, its conditions."""

from __future__ import annotations

from isthmus.assurance.catalogue.code import error, info, warning

DEPRECATED = warning(
    "IST0002",
    "Something is used that is to go.",
    "A later version may not have it.",
    "Use what is named instead.",
)
INVALID = error(
    "IST0106",
    "An object is not valid.",
    "An API server with Isthmus's checks refuses it; the message has the check's own code (ISM07…).",
    "Correct the field that is named.",
)
INVALID_WARNING = warning(
    "IST0133",
    "An object is valid, but likely not what is meant.",
    "The message has the check's own code (ISM07…).",
    "Look at the field that is named.",
)
MISPLACED_ANNOTATION = warning(
    "IST0107",
    "An annotation is on a kind of object that does not have it.",
    "It does nothing there.",
    "Move it to a kind that is named.",
)
UNKNOWN_ANNOTATION = warning(
    "IST0108",
    "An annotation in Istio's name is not known.",
    "It does nothing.",
    "Correct its spelling, or take it out.",
)
INVALID_ANNOTATION = warning(
    "IST0125",
    "An annotation has a value that cannot be used.",
    "It does nothing, or injection fails.",
    "Correct the value.",
)
DEPRECATED_ANNOTATION = info(
    "IST0135",
    "An annotation is outdated.",
    "A later version may not have it.",
    "Use what replaces it.",
)
ALPHA_ANNOTATION = info(
    "IST0136",
    "An annotation belongs to a feature in its alpha phase.",
    "It may change or go.",
    "Nothing, if that is known.",
)
BAD_CONDITION = warning(
    "IST0171",
    "An object's status says that it is not in force.",
    "A controller has looked at it and could not do what it says.",
    "Read the condition's message.",
)
GIVEN_TWICE = warning(
    "ISM0833",
    "An object is given twice.",
    "The one that is applied last replaces the other without a word.",
    "Keep one of the two, or give the other another name.",
)
