"""Text that others chose, made harmless for a terminal (layer 0). Prints nothing.

ESC and CR are shown as kubectl's tables show them (cli-runtime, printers.WriteEscaped, CVE-2021-25743). So is every
other control character, also C1, which terminals obey too, and the marks that turn the direction of what follows.
"""

from __future__ import annotations

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_DIRECTIONS = (0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_SHOWN = {code: f"\\u{code:04x}" for code in (*_CONTROLS, *_DIRECTIONS)} | {0x1B: "^[", 0x0D: "\\r"}
_ONE_LINE = {**_SHOWN, 0x0A: "\\n", 0x09: "\\t"}
_TEXT = {code: shown for code, shown in _SHOWN.items() if code not in (0x0A, 0x09)}
_CONTROL_BYTES = bytes(code for code in _CONTROLS if code < 0x80 and code != 0x09)
_C1_LEAD = b"\xc2"  # in UTF-8 they are C2 80 to C2 9F


def escaped(text: str) -> str:
    """With every control character but newline and tab written out. Twice is as once."""
    # Translating costs 80 ns a character where a text is not ASCII, looking whether it is needed 2 ns.
    return text if text.replace("\n", "").replace("\t", "").isprintable() else text.translate(_TEXT)


def one_line(text: str) -> str:
    """The same with newlines and tabs, where a second line would be taken for one of ours."""
    return text if text.isprintable() else text.translate(_ONE_LINE)


def indented(text: str, width: int) -> str:
    """`escaped`, with lines after the first set off by spaces: none can be taken for one of ours."""
    return escaped(text).replace("\n", "\n" + " " * width)


def behind(prefix: bytes, text: bytes) -> bytes:
    """A container's line as a terminal may have it behind a prefix that says whose it is.

    Colours stay, and end with the line; a carriage return (a progress bar's) comes back to the prefix; whatever else
    moves or wipes is written out. So no container can speak in another's name.
    """
    if len(text.translate(None, _CONTROL_BYTES)) == len(text) and _C1_LEAD not in text:
        return text
    import re

    has_colours = False

    def shown(found: re.Match[bytes]) -> bytes:
        nonlocal has_colours
        if found[0].startswith(b"\x1b["):
            has_colours = True
            return found[0]
        return b"\r" + prefix if found[0] == b"\r" else escaped(found[0].decode()).encode()

    end = b"\r" if text.endswith(b"\r") else b""  # of a line that ends with CR LF
    kept = re.sub(rb"\x1b\[[0-9;:]*m|\xc2[\x80-\x9f]|[\x00-\x08\x0b-\x1f\x7f]", shown, text.removesuffix(b"\r"))
    return kept + (b"\x1b[0m" if has_colours else b"") + end
