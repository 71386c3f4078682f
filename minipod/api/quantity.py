"""Kubernetes quantities (layer 1, pure): `100m`, `1.5Gi`, `1e3` as exact numbers and back.

The rules are those of resource.Quantity (apimachinery/pkg/api/resource/{quantity,amount,suffix,math}.go). A quantity
travels as text, canonical once it was loaded; every function here takes that text and is exact. Parsed forms are
cached, since a handful of texts make up most manifests. What does not fit an int64 behaves as it does in Go.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

DECIMAL_SI = "DecimalSI"  # 12M
DECIMAL_EXPONENT = "DecimalExponent"  # 12e6
BINARY_SI = "BinarySI"  # 12Mi

_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_NAMES = {exponent: suffix for suffix, exponent in _BINARY_SUFFIXES.items()} | {0: ""}

_NANO, _MILLI = -9, -3
_LARGEST = 18  # E; what Go writes beyond it loses its suffix, so here 1000E stays 1000E
_INT64_DIGITS = 18  # always fit an int64
_INT64_MAX = 2**63 - 1
_WIDEST_EXPONENT = 512  # beyond this Go computes with numbers of as many digits; nothing real comes near
_LONGEST_TEXT = 256  # as written; sums and canonical forms of such texts stay below the 1024 that parse() takes

# sign, digits, fraction, suffix letters, exponent; each part may be missing, as in Go's hand-written parser
_SHAPE = re.compile(r"([+-]?)(0*)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[+-]?[0-9]*)", re.ASCII)
_EXPONENT = "[eE]([+-]?[0-9]+)"


class InvalidQuantity(ValueError):  # noqa: N818 - as Kubernetes calls it
    """The text is no quantity. `str()` is the reason."""


class Amount(msgspec.Struct, frozen=True, gc=False):
    """`unscaled` · 10 ** `exponent`. `wide`: Go holds it as an arbitrary-precision decimal, not as an int64."""

    unscaled: int
    exponent: int
    format: str
    wide: bool = False
    text: str = ""  # as written, where Go keeps that; else made when needed


@lru_cache(maxsize=4096)
def parse(text: str) -> Amount:
    """The amount of `text`; raises InvalidQuantity."""
    match = _SHAPE.fullmatch(text.strip()) if len(text) <= 1024 else None
    if match is None or not text.strip():
        raise InvalidQuantity(f"{text[:64]!r} is no quantity; write a number with an optional suffix such as m, k, Mi")
    sign, _, digits, fraction, suffix = match.groups()
    digits, fraction = digits or "0", fraction or ""
    exponent, binary, form = _suffix(text, suffix)
    if exponent > _WIDEST_EXPONENT:
        raise InvalidQuantity(f"{text[:64]!r} is too large")
    amount = _narrow(text.strip(), sign, digits, fraction, exponent, binary, form)
    return amount or _wide(text, sign, digits, fraction, exponent, binary, form)


def _suffix(text: str, suffix: str) -> tuple[int, int, str]:
    """(power of ten, power of two, format)."""
    if suffix in _DECIMAL_SUFFIXES:
        return _DECIMAL_SUFFIXES[suffix], 0, DECIMAL_SI
    if suffix in _BINARY_SUFFIXES:
        return 0, _BINARY_SUFFIXES[suffix], BINARY_SI
    if (match := re.fullmatch(_EXPONENT, suffix)) and len(suffix) < 20:
        return int(match.group(1)), 0, DECIMAL_EXPONENT
    known = " ".join((*filter(None, _DECIMAL_SUFFIXES), *_BINARY_SUFFIXES))
    raise InvalidQuantity(f"{text[:64]!r} has the unknown suffix {suffix[:16]!r}; known are {known}")


def _narrow(text: str, sign: str, digits: str, fraction: str, exponent: int, binary: int, form: str) -> Amount | None:
    """The amount as an int64 and a power of ten, where Go takes that way; a text in canonical form is kept."""
    if form == BINARY_SI:
        precision = -1 if fraction else 15 - len(digits) - binary * 3 // 10 - 1
    else:
        precision = _INT64_DIGITS - len(digits) - len(fraction)
    scale = exponent - len(fraction)
    if precision < 0 or scale < _NANO:
        return None
    shifted = digits + fraction
    number = int(shifted)
    product = number << binary
    if product > _INT64_MAX:
        return None
    if form == BINARY_SI:
        keep = number & 7 != 0
    else:
        keep = scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"
    return Amount(-product if sign == "-" else product, scale, form, False, text if keep else "")


def _wide(text: str, sign: str, digits: str, fraction: str, exponent: int, binary: int, form: str) -> Amount:
    """The amount as a decimal, rounded up to nano; binary ones are capped at an int64."""
    unscaled = int(digits + fraction) << binary
    scale = exponent - len(fraction)
    unscaled, scale = _round_up(unscaled, scale, _NANO)
    if form == BINARY_SI:
        if _compare(unscaled, scale, _INT64_MAX, 0) > 0:
            unscaled, scale = _INT64_MAX, 0
        if unscaled and _compare(unscaled, scale, 1, 0) < 0:
            form = DECIMAL_SI
    return Amount(-unscaled if sign == "-" else unscaled, scale, form, True)


def _round_up(unscaled: int, exponent: int, to: int) -> tuple[int, int]:
    """The amount with no digit below 10 ** to, rounded away from zero."""
    drop = to - exponent
    if drop <= 0:
        return unscaled, exponent
    size = abs(unscaled)
    rounded = (1 if size else 0) if drop > len(str(size)) else -int(-size // 10**drop)
    return (rounded if unscaled >= 0 else -rounded), to


def _compare(a: int, a_exponent: int, b: int, b_exponent: int) -> int:
    """-1, 0 or 1, without writing out huge powers of ten."""
    if not a or not b or (a > 0) != (b > 0):
        return (a > b) - (a < b)
    sign = 1 if a > 0 else -1
    magnitude = len(str(abs(a))) + a_exponent - len(str(abs(b))) - b_exponent
    if magnitude:
        return sign if magnitude > 0 else -sign
    low = min(a_exponent, b_exponent)
    left, right = a * int(10 ** (a_exponent - low)), b * int(10 ** (b_exponent - low))
    return (left > right) - (left < right)


def _text(amount: Amount) -> str:
    """Quantity.String(): as written where that was canonical, else the canonical form."""
    if amount.text:
        return amount.text
    if not amount.unscaled:
        return "0"
    form = amount.format
    if form == BINARY_SI:
        rounded, scale = _round_up(amount.unscaled, amount.exponent, 0)
        whole = _compare(rounded, scale, amount.unscaled, amount.exponent) == 0
        small = _compare(abs(amount.unscaled), amount.exponent, 1024, 0) < 0
        if whole and not small:
            number, times = rounded * 10**scale, 0
            while number % 1024 == 0 and times < 6:
                number, times = number // 1024, times + 1
            return f"{number}{_BINARY_NAMES[times * 10]}"
        form = DECIMAL_SI
    number, exponent = amount.unscaled, amount.exponent
    while number % 10 == 0:
        number, exponent = number // 10, exponent + 1
    while exponent % 3 or (form == DECIMAL_SI and exponent > _LARGEST):
        number, exponent = number * 10, exponent - 1
    if form == DECIMAL_SI:
        return f"{number}{_DECIMAL_NAMES[exponent]}"
    return f"{number}e{exponent}" if exponent else str(number)


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """As the API server writes it: `0.5` is `500m`, `1024Mi` is `1Gi`; raises InvalidQuantity."""
    if len(text) > _LONGEST_TEXT:
        raise InvalidQuantity(f"{text[:64]!r} is too long")
    return _text(parse(text))


@lru_cache(maxsize=4096)
def rounded_to_milli(text: str) -> str:
    """What the API server stores of a resource: nothing finer than a thousandth (SetDefaults_ResourceList)."""
    amount = parse(text)
    if amount.exponent >= _MILLI and not amount.wide:
        return _text(amount)
    unscaled, exponent = _round_up(amount.unscaled, amount.exponent, _MILLI)
    return _text(Amount(unscaled, exponent, amount.format, amount.wide))


def _scaled(text: str, scale: int) -> int:
    """ceil(q / 10 ** scale), away from zero. Overflow as in Go: 0 of a narrow amount, the low 64 bits of a wide one."""
    amount = parse(text)
    unscaled, exponent = _round_up(amount.unscaled, amount.exponent, scale)
    number = unscaled * 10 ** (exponent - scale)
    if -_INT64_MAX - 1 <= number <= _INT64_MAX:
        return int(number)
    if not amount.wide:
        return 0
    low = abs(number) & (2**64 - 1)
    signed = low - 2**64 if low > _INT64_MAX else low
    return int(signed if number > 0 else -signed)


@lru_cache(maxsize=4096)
def value(text: str) -> int:
    """Whole units (bytes, cores), rounded up: Quantity.Value()."""
    return _scaled(text, 0)


@lru_cache(maxsize=4096)
def millis(text: str) -> int:
    """Thousandths (millicores), rounded up: Quantity.MilliValue()."""
    return _scaled(text, _MILLI)


def sign(text: str) -> int:
    """-1, 0 or 1."""
    unscaled = parse(text).unscaled
    return (unscaled > 0) - (unscaled < 0)


def compare(a: str, b: str) -> int:
    """-1, 0 or 1: Quantity.Cmp(). Formats do not matter: `1024Mi` equals `1Gi`."""
    left, right = parse(a), parse(b)
    return _compare(left.unscaled, left.exponent, right.unscaled, right.exponent)


def equal(a: str, b: str) -> bool:
    return a == b or compare(a, b) == 0


def largest(a: str, b: str) -> str:
    """The larger; the first where they are equal."""
    return b if compare(a, b) < 0 else a


def add(a: str, b: str) -> str:
    """The canonical sum; its format is the first's, or the second's where the first is zero."""
    left, right = parse(a), parse(b)
    form = left.format if left.unscaled else right.format
    low = min(left.exponent, right.exponent)
    if max(left.exponent, right.exponent) - low > 2 * _WIDEST_EXPONENT:
        raise InvalidQuantity(f"{a} and {b} are too far apart to be added")
    total = left.unscaled * 10 ** (left.exponent - low) + right.unscaled * 10 ** (right.exponent - low)
    return _text(Amount(total, low, form, left.wide or right.wide))


def total(amounts: list[str]) -> str:
    """The sum of all; "0" of none."""
    result = "0"
    for amount in amounts:
        result = add(result, amount)
    return result


def from_value(number: int, binary: bool = False) -> str:
    """The canonical text of a whole number: `from_value(134217728, binary=True)` is `128Mi`."""
    return _text(Amount(number, 0, BINARY_SI if binary else DECIMAL_SI))


def from_millis(number: int) -> str:
    """The canonical text of so many thousandths: `from_millis(1500)` is `1500m`."""
    return _text(Amount(number, _MILLI, DECIMAL_SI))
