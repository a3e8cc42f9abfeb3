"""What the RFCs say of each file of gunicorn's corpus (h1_corpus.py).

gunicorn's `invalid` folder is split into what the RFCs call invalid too (INVALID) and what only
gunicorn's own limits or taste refuse (TASTE, which must be forwarded). PINNED are files that may be
sent or are in gunicorn's `valid` folder and that Attaché refuses nevertheless, each with the verdicts
that are right and the reason.
"""

LINE = "RFC 9112 3: the request line"
TARGET = "RFC 9112 3.2: the request target"
HOST = "RFC 9112 3.2: exactly one Host in HTTP/1.1"
NAME = "RFC 9112 5.1, RFC 9110 5.1: a field name is a token, without a space before the colon"
VALUE = "RFC 9110 5.5: no control characters in a value"
FOLD = "RFC 9112 5.2: a server may reject a folded line"
LENGTH = "RFC 9110 8.6: Content-Length is digits"
FRAMING = "RFC 9112 6.1, 6.3: Transfer-Encoding beside Content-Length, or chunked not once and last"
CHUNK = "RFC 9112 7.1: chunk-size is hexadecimal digits, and each chunk ends in CRLF"
TRAILER = "RFC 9110 6.5.1: neither framing nor routing may be in trailers"
VERSION = "RFC 9112 2.3: the version is HTTP/1.0 or HTTP/1.1 here"
METHOD = "RFC 9110 9.1: a method is a token"
SHORT = "RFC 9112 8: an incomplete message"
CODING = "RFC 9112 6.1: 501 for a transfer coding that the server does not understand"
COUNT = "RFC 6585 5: more than 100 fields, the limit of the connection manager"
NOT_HTTP = "RFC 9112 3: a PROXY line is not HTTP; there is no listener filter for it here"
HTTP_10 = "RFC 9110 15.5.22: HTTP/1.0 is not accepted, 426 says what is"

BARE_LF = "RFC 9112 2.2: lines end in CRLF; an LF alone may be read as one, and need not"
# What a recipient may mend instead of refusing it; Attaché refuses it.
MENDABLE = (FOLD, TRAILER, BARE_LF)

INVALID = {
    "001": SHORT, "002": LINE, "003": LINE, "003b": METHOD, "004": VERSION, "005": NAME, "013": FOLD,
    "014": LENGTH, "015": LENGTH, "016": TARGET, "018": VERSION, "020": NAME, "021": LENGTH,
    "022": LENGTH, "023": LENGTH, "024": LENGTH, "042": HOST,
    "chunked_01": CHUNK, "chunked_02": FRAMING, "chunked_03": FRAMING, "chunked_04": FRAMING,
    "chunked_05": "RFC 9112 6.1: no Transfer-Encoding in HTTP/1.0", "chunked_06": FRAMING,
    "chunked_08": FRAMING, "chunked_09": CHUNK, "chunked_10": CHUNK, "chunked_11": CHUNK,
    "chunked_12": CHUNK, "chunked_13": CHUNK,
    "chunked_14": "RFC 9112 2.2, 7.1.1: no bare CR in an extension",
    "invalid_field_value_01": VALUE,
    "nonascii_01": METHOD, "nonascii_02": METHOD, "nonascii_03": NAME, "nonascii_04": NAME,
    "obs_fold_01": FOLD, "pp_01": NOT_HTTP, "pp_02": NOT_HTTP, "pp_03": NOT_HTTP,
    "prefix_01": METHOD, "prefix_02": METHOD, "prefix_03": LENGTH, "prefix_04": LENGTH,
    "prefix_05": METHOD, "prefix_06": VERSION,
    "rfc9110_field_value_ctl_bel_01": VALUE, "rfc9110_field_value_ctl_del_01": VALUE,
    "rfc9110_trailer_forbidden_cl_01": TRAILER, "rfc9110_trailer_forbidden_host_01": TRAILER,
    "rfc9110_trailer_forbidden_te_01": TRAILER,
    "rfc9112_bare_lf_01": BARE_LF,
    "rfc9112_chunked_missing_final_crlf_01": SHORT,
    "rfc9112_chunked_size_minus_sign_01": CHUNK, "rfc9112_chunked_size_plus_sign_01": CHUNK,
    "rfc9112_smuggle_cl_te_chunked_01": FRAMING,
    "rfc9112_target_asterisk_non_options_01": TARGET,
    "rfc9112_target_authority_non_connect_01": TARGET,
    "rfc9112_target_non_ascii_01": TARGET, "rfc9112_target_non_ascii_02": TARGET,
    "rfc9112_target_nul_01": TARGET, "rfc9112_target_relative_01": TARGET,
    "rfc9112_te_identity_with_cl_01": FRAMING, "rfc9112_te_not_chunked_final_01": FRAMING,
    "version_01": VERSION, "version_02": VERSION,
}

LIMIT = "a limit of gunicorn's that this file goes over by a little"
TASTE = {
    "003c": "a method in lower case; RFC 9110 9.1: any token",
    "006": LIMIT, "007": LIMIT, "008": LIMIT, "009": LIMIT, "010": LIMIT, "011": LIMIT, "012": LIMIT,
    "017": LIMIT, "limit_header_default_01": LIMIT,
    "019": "two fields about the scheme that contradict each other mean something to gunicorn only",
    "040": "underscores in names mean something to CGI only",
    "041": "Content-Type twice: RFC 9110 5.3 forbids to send it, and asks nothing of a proxy",
    "chunked_07": "underscores in names mean something to CGI only",
    "rfc9112_leading_crlf_02": "RFC 9112 2.2: at least one empty line is skipped; two may be",
    "rfc9112_smuggle_cl_list_form_01": "RFC 9110 8.6: equal values may be replaced by one",
}

# {folder/stem: (verdicts that are right, reason)}
PINNED = {
    "invalid/009": (("431",), COUNT),
    "invalid/rfc9112_smuggle_cl_list_form_01": (
        ("400",), "RFC 9110 8.6: the recipient of equal values may reject the message"),
    "valid/005": (("400",), "RFC 9112 3.2.1: a target has no fragment"),
    "valid/025": (("501",), CODING), "valid/025_line": (("501",), CODING),
    "valid/029": (("501",), CODING), "valid/030": (("501",), CODING),
    "valid/rfc9112_smuggle_gzip_chunked_01": (("501",), CODING),
    "valid/rfc9112_smuggle_te_identity_chunked_01": (("501",), CODING),
    "valid/028": (("400",), "RFC 9112 5.1: a space before the colon must be refused"),
    "valid/099": (("cut",), SHORT),
    "valid/compat_obs_fold": (("400",), FOLD), "valid/compat_obs_fold_huge": (("400",), FOLD),
    "valid/pp_01": (("400",), NOT_HTTP), "valid/pp_02": (("400",), NOT_HTTP),
    "valid/pp_04": (("400",), NOT_HTTP), "valid/pp_05": (("400",), NOT_HTTP),
    "valid/rfc9112_target_authority_connect_01": (
        ("404", "pass"), "RFC 9110 9.3.6: a proxy tunnels where it is configured to; Envoy: 404"),
    "valid/rfc9112_target_authority_ipv6_01": (
        ("404", "pass"), "RFC 9110 9.3.6: a proxy tunnels where it is configured to; Envoy: 404"),
}


def expected(file, way):
    """expected is (verdicts that are right or None for 'nothing completed', reason) of a file in one
    of the ways it is played."""
    stem = file.name.split("/")[1]
    if not file.is_valid and stem in INVALID:
        return None, INVALID[stem]
    versions = file.versions(way)
    if versions and versions[0] == "1.1" and not file.has_host(way):
        return None, HOST
    if file.name in PINNED and PINNED[file.name][1] in (NOT_HTTP, COUNT):
        return PINNED[file.name]
    if versions and versions[0] == "1.0" and "1.0" not in way:
        return ("426",), HTTP_10
    if file.name in PINNED:
        return PINNED[file.name]
    if file.number > 1 and versions[1] == "1.1" and not file.has_host(way):
        return ("part",), HOST  # the first may, being HTTP/1.0
    return ("pass",), TASTE.get(stem, "valid") if not file.is_valid else "valid"
