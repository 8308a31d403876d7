"""Regular expressions that Envoy takes: RE2's. What is RE2's alone is looked at here, the rest is left to Python's own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

_LENGTH_MAX = 1024
_REPEATED_MAX = 1000
_TOKEN = re.compile(
    r"""(?P<quoted>\\Q.*?(?:\\E|\Z))
    | (?P<property>\\[pP](?:\{[^}]*\}|.))
    | (?P<code>\\x\{[0-9A-Fa-f]+\})
    | (?P<escape>\\.)
    | (?P<class>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])
    | (?P<group>\((?:\?P?<[^>]*>|\?[^:)]*[:)])?)
    | (?P<end>\))
    | (?P<repeat>[*+?]|\{\d+(?:,\d*)?\})
    | (?P<rest>.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS = re.compile(r"\[:\^?(\w+):\]|\\([pP])(?:\{([^}]*)\}|(.))|\\(.)", re.DOTALL)
_GROUP = re.compile(r"\((?:\?P?<\w+>|\?[imsU]*(?:-[imsU]+)?[:)])?", re.ASCII)
_LETTERS = frozenset("AaBbCDdEfnpPrSsQtvWwxz")
_LETTERS_IN_CLASS = frozenset("aDdfnpPrSstvWwx")
_CLASSES = """
    alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit
"""
_PROPERTIES = """
    Any C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese
    Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic
    Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek
    Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi
    Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha
    Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek
    Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue
    Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian
    Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang
    Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog
    Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho
    Warang_Citi Yezidi Yi Zanabazar_Square
"""
"""General categories and scripts of Unicode, those that Envoy 1.40 knows."""
_KNOWN_CLASSES, _KNOWN_PROPERTIES = frozenset(_CLASSES.split()), frozenset(_PROPERTIES.split())


def not_re2(text: str) -> str:
    """Why Envoy would refuse it; empty for nothing."""
    return f"{len(text)} characters are more than {_LENGTH_MAX}" if len(text) > _LENGTH_MAX else _not_re2(text)


@lru_cache(maxsize=1024)
def _not_re2(text: str) -> str:
    if re.search(r"\(\?(?:[=!]|<[=!])", text):
        return "RE2 has no look-around"
    if re.search(r"(?<!\\)(?:\\\\)*\\[1-9]", text):
        return "RE2 has no back references"
    tokens = [(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(text)]
    return next(_refused(tokens), "") or _refused_by_python("".join(_as_python(*each) for each in tokens))


def _refused(tokens: list[tuple[str, str]]) -> Iterator[str]:
    """What RE2 alone has something against."""
    before = ""
    for kind, token in tokens:
        if kind == "escape" and not _is_escape(token[1], _LETTERS):
            yield f"RE2 does not know {token}"
        elif kind == "property":
            yield from _refused_property(token[2:].strip("{}"))
        elif kind == "class":
            yield from _refused_class(token)
        elif kind == "group" and not _GROUP.fullmatch(token):
            yield f"RE2 does not know {token}"
        elif kind == "repeat" and before in ("repeat", "lazy") and (token != "?" or before == "lazy"):
            yield "RE2 repeats nothing twice, and knows no ++, *+ and ?+"
        before = "lazy" if kind == "repeat" and before == "repeat" else kind
    yield from _repeated_too_often(tokens)


def _refused_class(token: str) -> Iterator[str]:
    for name, is_property, named, letter, escaped in _IN_CLASS.findall(token):
        if name and name not in _KNOWN_CLASSES:
            yield f"RE2 has no class [:{name}:]"
        elif is_property:
            yield from _refused_property(named or letter)
        elif escaped and not _is_escape(escaped, _LETTERS_IN_CLASS):
            yield f"RE2 does not know \\{escaped} between brackets"


def _refused_property(name: str) -> Iterator[str]:
    if name.removeprefix("^") not in _KNOWN_PROPERTIES:
        yield f"RE2 has no characters {name!r:.40}"


def _is_escape(character: str, letters: frozenset[str]) -> bool:
    return character.isascii() and (character in letters or not character.isalpha())


def _repeated_too_often(tokens: list[tuple[str, str]]) -> Iterator[str]:
    """Numbers of repetitions in one another multiply. `most` is, for each group that is open, the largest product in it."""
    most, last = [1], 1
    for kind, token in tokens:
        if kind == "group" and not token.endswith(")"):
            most.append(1)
            last = 1
        elif kind == "end" and len(most) > 1:
            last = most.pop()
            most[-1] = max(most[-1], last)
        elif kind == "repeat" and token[0] == "{":
            numbers = [int(number[:10]) for number in token[1:-1].split(",") if number]
            last *= max(1, *numbers)
            most[-1] = max(most[-1], last)
            if last > _REPEATED_MAX:
                yield f"RE2 repeats nothing more than {_REPEATED_MAX} times, one in another counted"
        elif kind != "repeat":
            last = 1


def _as_python(kind: str, token: str) -> str:
    """As Python has it, or something of the same form."""
    if kind == "quoted":
        return re.escape(token[2:].removesuffix("\\E"))
    if kind in ("property", "code") or token in ("\\C", "\\z"):
        return "x"
    if kind == "class":
        return re.sub(r"\[:\^?\w+:\]|\\[pP](?:\{[^}]*\}|.)|\\x\{[0-9A-Fa-f]+\}", "x", token, flags=re.DOTALL)
    if kind == "group" and token.startswith("(?"):
        # Flags may stand anywhere, and names twice.
        return "" if token.endswith(")") else "("
    return token


def _refused_by_python(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{error}"
    return ""
