"""What strings must look like: names, keys, paths, addresses (layer 1, pure). Knows no field and no Kubernetes type.

A format takes a string and returns the complaint, or "" where there is none. The rules are those of
apimachinery/pkg/util/validation and apimachinery/pkg/api/validate/content. Lengths are bytes in Kubernetes and
characters here: text that is not ASCII fails the patterns anyway.
"""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_LABEL_WITH_UNDERSCORE = r"_?[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?"
_NAME_PART = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_SYSCTL_SEGMENT = r"[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?"

_is_label = re.compile(_LABEL).fullmatch
_is_subdomain = re.compile(rf"{_LABEL}(?:\.{_LABEL})*").fullmatch
_is_name_part = re.compile(_NAME_PART).fullmatch
_is_config_key = re.compile(r"[-._a-zA-Z0-9]+").fullmatch
_is_env_name = re.compile(r"[ -<>-~]+").fullmatch
_is_port_name = re.compile(r"[-a-z0-9]+").fullmatch

# What few manifests need is compiled when it is first asked for.
_UNDERSCORE_SUBDOMAIN = rf"{_LABEL_WITH_UNDERSCORE}(?:\.{_LABEL_WITH_UNDERSCORE})*"
_HTTP_HEADER = "[-A-Za-z0-9]+"
_SYSCTL = rf"(?:{_SYSCTL_SEGMENT}[./])*{_SYSCTL_SEGMENT}"
_DECLARED_FEATURE = "[A-Z][a-zA-Z0-9]*(?:/[a-zA-Z][a-zA-Z0-9]*)*"
_HOST_AND_PORT = r"(?s:\[[^\[\]]*\]|[^:\[\]]*):[^:\[\]]*"

WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""What Go's strings.TrimSpace takes away; Python's strip() would also take U+001C to U+001F."""


def dns_label(value: str) -> str:
    """RFC 1123 label: container and volume names, namespaces."""
    if _is_label(value) and len(value) <= 63:
        return ""
    if len(value) > 63:
        return "must have at most 63 characters"
    if _is_subdomain(value):
        return "must not contain dots"
    return "must be lower case letters, digits and '-', and begin and end with a letter or digit"


def dns_subdomain(value: str) -> str:
    """RFC 1123 subdomain: the names of most objects."""
    if _is_subdomain(value) and len(value) <= 253:
        return ""
    if len(value) > 253:
        return "must have at most 253 characters"
    return "must be lower case letters, digits, '-' and '.', and begin and end with a letter or digit"


def dns_subdomain_prefix(value: str) -> str:
    """A subdomain that something will be appended to (generateName): a trailing '-' is fine."""
    return dns_subdomain(without_trailing_dash(value))


def without_trailing_dash(value: str) -> str:
    """A prefix of a name may end in '-'. Kubernetes replaces the last *two* characters by a letter, and so does not see
    a bad one before the dash."""
    return value[:-2] + "a" if len(value) > 1 and value.endswith("-") else value


def dns_search(value: str) -> str:
    """An entry of resolv.conf's search: a subdomain, underscores allowed, a final dot allowed, or '.' alone."""
    if value == ".":
        return ""
    value = value.removesuffix(".")
    if re.fullmatch(_UNDERSCORE_SUBDOMAIN, value) and len(value) <= 253:
        return ""
    return "must be a domain of at most 253 lower case letters, digits, '-', '_' and '.'"


def qualified_name(value: str) -> str:
    """`name` or `prefix/name`: label keys, annotation keys, resource names, finalizers."""
    prefix, slash, name = value.rpartition("/")
    if _is_name_part(name) and len(name) <= 63 and (not slash or not dns_subdomain(prefix)):
        return ""
    if "/" in prefix:
        return "must be a name with at most one prefix, as in example.com/my-name"
    if slash and dns_subdomain(prefix):
        return f"prefix before '/' {dns_subdomain(prefix)}" if prefix else "prefix before '/' must not be empty"
    if len(name) > 63:
        return "name must have at most 63 characters"
    return "name must be letters, digits, '-', '_' and '.', and begin and end with a letter or digit"


def annotation_key(value: str) -> str:
    """A qualified name in which upper case is allowed everywhere."""
    return qualified_name(value.lower())


def label_value(value: str) -> str:
    if not value or (_is_name_part(value) and len(value) <= 63):
        return ""
    if len(value) > 63:
        return "must have at most 63 characters"
    return "must be empty, or letters, digits, '-', '_' and '.', and begin and end with a letter or digit"


def port_name(value: str) -> str:
    """IANA service name, lower case only."""
    if len(value) > 15:
        return "must have at most 15 characters"
    if not _is_port_name(value):
        return "must be lower case letters, digits and '-'"
    if not re.search("[a-z]", value):
        return "must contain at least one letter"
    if "--" in value or value[0] == "-" or value[-1] == "-":
        return "must not begin or end with '-', nor contain '--'"
    return ""


def env_name(value: str) -> str:
    if _is_env_name(value):
        return ""
    return "must be printable ASCII characters other than '='" if value else "must not be empty"


def config_key(value: str) -> str:
    """A key of a ConfigMap or Secret; it may become a file name."""
    if len(value) > 253:
        return "must have at most 253 characters"
    if not _is_config_key(value):
        return "must be letters, digits, '-', '_' and '.'"
    if value == "." or value.startswith(".."):
        return "must not be '.' nor begin with '..'"
    return ""


def http_header(value: str) -> str:
    return "" if re.fullmatch(_HTTP_HEADER, value) else "must be letters, digits and '-', as in X-Header-Name"


def sysctl_name(value: str) -> str:
    if len(value) <= 253 and re.fullmatch(_SYSCTL, value):
        return ""
    return "must be a sysctl's name of at most 253 characters, as in kernel.shm_rmid_forced"


def declared_feature(value: str) -> str:
    if len(value) <= 253 and re.fullmatch(_DECLARED_FEATURE, value):
        return ""
    return "must be segments joined by '/', the first in UpperCamelCase, as in MyFeature/subFeature"


def ip_address(value: str) -> str:
    """Strict as of 1.36: no leading zeros, no IPv4-mapped IPv6, no zone."""
    import ipaddress  # 2 ms that most manifests need not pay

    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return "must be an IP address, as 10.9.8.7 or 2001:db8::ffff"
    if "%" in value:
        return "must not have a zone"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return "must not be an IPv4-mapped IPv6 address"
    return ""


def cidr(value: str) -> str:
    """`address/bits`, strict as of 1.36: no leading zeros, no host bits set."""
    import ipaddress

    address, slash, bits = value.partition("/")
    if not slash or not re.fullmatch("0|[1-9][0-9]{0,2}", bits, re.ASCII):
        return "must be a network, as 10.9.8.0/24 or 2001:db8::/64"
    if complaint := ip_address(address):
        return complaint
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return "must be a network with no bit set beyond the prefix, as 10.9.8.0/24 or 2001:db8::/64"
    return ""


def no_backsteps(value: str) -> str:
    """A path without '..' as an element."""
    return "must not contain '..'" if ".." in value and ".." in value.split("/") else ""


def descending_path(value: str) -> str:
    """A relative path without '..' as an element."""
    return "must be a relative path" if value.startswith("/") else no_backsteps(value)


def file_path(value: str) -> str:
    """A descending path that does not begin with '..' either: those names are the kubelet's own in a volume."""
    return descending_path(value) or ("must not begin with '..'" if value.startswith("..") else "")


def absolute_path(value: str) -> str:
    return "" if value.startswith("/") else "must be an absolute path"


def csi_driver(value: str) -> str:
    return dns_subdomain(value.lower())


def host_and_port(value: str) -> str:
    """What Go's net.SplitHostPort accepts: `host:port`, `[v6]:port`; the parts may be empty."""
    return "" if re.fullmatch(_HOST_AND_PORT, value) else "must be host:port, or several separated by commas"
