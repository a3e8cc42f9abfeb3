"""The class of a field: what it would mean to ignore it.

security, matching, tls: a configuration that sets the field would be less safe, or would choose other
traffic or another peer, if the field were ignored, so what sets it is refused. other: ignoring it
loses a convenience, a statistic, a tuning or an availability feature; it is accepted with a warning.

classes.txt holds the decisions made by hand, which win; the rules below decide the rest by name.
Members of a oneof that must be set are refused by the walker whatever their class.
"""

import pathlib
import re

TLS_MESSAGE = re.compile(
    r"\.transport_sockets\.(tls|quic|starttls|alts|s2a|tap)\.|\.tls_inspector\.|\.cert_selectors\."
    r"|CertificateProvider|TlsOptions"
)
TLS_FIELD = re.compile(
    r"(^|_)(tls|ssl|mtls|alpn|sni|san|sans|cert|certs|certificate|certificates|crl|ocsp|cipher|ca)"
    r"(_|$)|^transport_socket"
)
SECURITY_MESSAGE = re.compile(
    r"\.(rbac|jwt_authn|ext_authz|oauth2|csrf|cors|basic_auth|api_key_auth|credential_injector"
    r"|ip_tagging|gcp_authn|client_ssl_auth|injected_credentials)\."
)
SECURITY_FIELD = re.compile(
    r"auth(?!orit)|(^|_)(rbac|secret|secrets|credential|credentials|token|password|trusted|untrusted|verify"
    r"|validate|validation|validator|validators|deny|denied|disallow|allow_paths|security|sanitize"
    r"|internal_address|internal_only|original_ip|xff|client_cert|normalization|normalize"
    r"|config_discovery|network_namespace)(_|$)|_header_mutation|^http_filters$|_http_filters$"
)
MATCHING_MESSAGE = re.compile(r"(Match|Matcher|Matchers|Predicate|MatchSet|Matching\w*)$")
MATCHING_FIELD = re.compile(
    r"(^|_)(match|matches|matcher|matchers|matching|predicate|predicates|specifier|selector|subset"
    r"|rewrite|substitution|tunneling|vhds|fcds|locator|locators)(_|$)"
)

CLASSES = ("security", "matching", "tls", "other")


def load():
    """classes.txt: `message.field class # reason`, one a line."""
    path = pathlib.Path(__file__).with_name("classes.txt")
    decided = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in CLASSES or words[0] in decided:
            raise SystemExit(f"classes.txt:{number}: not `message.field class`, or twice")
        decided[words[0]] = words[1]
    return decided


DECIDED = load()
used = set()


def classify(field):
    name = field.full_name
    if name in DECIDED:
        used.add(name)
        return DECIDED[name]
    message = field.containing_type.full_name
    if TLS_MESSAGE.search(message) or TLS_FIELD.search(field.name):
        return "tls"
    if SECURITY_MESSAGE.search(message) or SECURITY_FIELD.search(field.name):
        return "security"
    if MATCHING_MESSAGE.search(message) or MATCHING_FIELD.search(field.name):
        return "matching"
    return "other"
